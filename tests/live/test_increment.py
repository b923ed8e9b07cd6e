import base64
import zlib
from dataclasses import replace

import numpy as np

from auscult.live.increment import MAX_VALUES, chart_points, map_cells
from auscult.pages.charts import pictures
from auscult.reading import diagnose
from auscult.store.reader import load


def test_points_are_those_of_the_whole_run_cut(tmp_path, grower) -> None:
    grower(tmp_path / "run").grow(700)
    run = load(tmp_path / "run")
    drawn = pictures(run, diagnose(run))
    points = {each["name"]: each["curves"] for each in chart_points(run, drawn, 300, 399)}
    assert list(points) == [chart.name for chart in drawn.charts]
    for chart in drawn.charts:
        for curve, found in zip(chart.curves, points[chart.name], strict=True):
            inside = (curve.series.steps >= 300) & (curve.series.steps <= 399)
            assert found["label"] == curve.label
            assert found["steps"] == curve.series.steps[inside].tolist()
            np.testing.assert_allclose(found["values"], curve.series.values[inside], rtol=2e-3)
    assert points["logged-0"][0]["steps"] == list(range(300, 400))
    assert points["logged-0"][0]["values"] == [float(step) for step in range(300, 400)]


def test_no_extreme_and_no_nan_is_lost_where_there_are_too_many_points(tmp_path, grower) -> None:
    growing = grower(tmp_path / "run").grow(9000, nan_at=4321)
    run = load(tmp_path / "run")
    drawn = pictures(run, [])
    (curve,) = next(each for each in chart_points(run, drawn, 1000, 8999) if each["name"] == "logged-0")["curves"]
    assert len(curve["steps"]) <= 2100 < 8000
    assert curve["steps"][0] == 1000 and curve["steps"][-1] == 8999
    assert curve["nonfinite"] == [[4321, 4321]]
    finite = [value for value in curve["values"] if value is not None]
    assert min(finite) == 1000 and max(finite) == 8999
    growing.writer.close()


def test_steps_that_are_not_there_give_no_points(tmp_path, grower) -> None:
    grower(tmp_path / "run").grow(50)
    run = load(tmp_path / "run")
    drawn = pictures(run, [])
    for first, last in ((50, 60), (10**15, 10**16), (40, 30)):
        for chart in chart_points(run, drawn, first, last):
            assert all(curve["steps"] == [] for curve in chart["curves"])


def unpacked(codes: str, rows: int) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(codes)), "<i2").reshape(rows, -1)


def test_cells_of_some_steps_are_those_steps_against_the_centres_of_all(tmp_path, grower) -> None:
    grower(tmp_path / "run").grow(3000)
    run = load(tmp_path / "run")
    drawn = pictures(run, [])
    whole = next(each for each in drawn.heatmaps if each.metric == "grad_norm")
    assert len(whole.starts) == 600 and whole.others is not None, "one cell is several steps"
    found = map_cells(run, drawn, "grad_norm", 1000, 1199)
    assert found is not None
    assert found["starts"] == list(range(1000, 1200)) and found["stops"][-1] == 1200
    assert found["others"] is None, "one cell is one step"
    assert (found["rows"], found["reach"]) == (list(whole.rows), whole.reach)
    for row, path in enumerate(whole.rows):
        series = run.series("grad_norm", path)
        wanted = np.log10(series.values[1000:1200] / np.median(series.values)) * 1000
        np.testing.assert_allclose(unpacked(found["codes"], len(whole.rows))[row], wanted, atol=0.51)


def test_cells_are_not_read_where_that_would_take_long_or_there_are_none(tmp_path, grower) -> None:
    grower(tmp_path / "run").grow(100)
    run = load(tmp_path / "run")
    drawn = pictures(run, [])
    assert map_cells(run, drawn, "grad_norm", 0, MAX_VALUES) is None
    assert map_cells(run, drawn, "grad_norm", 100, 200) is None
    assert map_cells(replace(run, stop=50), drawn, "grad_norm", 60, 90) is None
