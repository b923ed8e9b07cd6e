import numpy as np

from auscult.live.increment import chart_points
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
