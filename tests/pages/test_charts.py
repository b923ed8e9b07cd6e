import json
from collections.abc import Callable

import numpy as np
import pytest

from auscult.core.finding import Evidence, Finding
from auscult.core.run import Run
from auscult.pages.anchor import anchor_of
from auscult.pages.chart import Chart
from auscult.pages.charts import pictures


def by_name(charts: tuple[Chart, ...]) -> dict[str, Chart]:
    return {each.name: each for each in charts}


def test_a_healthy_run_shows_what_was_recorded(healthy: Run) -> None:
    drawn = pictures(healthy, [])
    charts = by_name(drawn.charts)
    assert list(charts) == [
        "logged-0", "logged-1", "category_loss", "grad_norm", "clip_ratio", "update_ratio", "lr", "update_to_data",
        "activation_std", "dead_fraction", "time", "throughput", "memory",
    ]  # fmt: skip
    assert [each.label for each in charts["logged-0"].curves] == ["train/loss", "val/loss"]
    assert [each.label for each in charts["category_loss"].curves] == ["cats", "dogs", "ships"]
    assert {each.metric for each in drawn.heatmaps} >= {"grad_norm", "update_ratio", "param_norm", "activation_std"}
    assert len({each.name for each in drawn.charts}) == len(drawn.charts)


def test_the_total_norm_is_the_root_of_the_sum_of_squares(healthy: Run) -> None:
    curve = by_name(pictures(healthy, []).charts)["grad_norm"].curves[0]
    table = np.stack([healthy.series("grad_norm", path).values for path in healthy.paths("grad_norm")])
    np.testing.assert_allclose(curve.series.values, np.sqrt((table**2).sum(0)), rtol=1e-12)


def test_many_paths_become_lowest_and_highest(healthy: Run, finding: Callable[..., Finding]) -> None:
    one = finding(evidence=(Evidence("update_ratio", "layers.3.bias", 5, 1.0),))
    curves = by_name(pictures(healthy, [one]).charts)["update_ratio"].curves
    assert [each.label for each in curves] == ["whole model", "lowest parameter", "highest parameter", "layers.3.bias"]
    table = np.stack([healthy.series("update_ratio", path).values for path in healthy.paths("update_ratio")])
    np.testing.assert_array_equal(curves[1].series.values, table.min(0))


def test_guides_of_the_update_ratio(healthy: Run) -> None:
    guides = by_name(pictures(healthy, []).charts)["update_ratio"].guides
    assert [(each.low, each.high) for each in guides] == [(1e-4, 1e-3), (1e-3, 1e-3)]


def test_update_to_data_has_a_line_per_weight(maker: type) -> None:
    from auscult.core.run import Parameter

    built = maker(steps=5)
    names = [f"layers.{number}.{name}" for number in range(40) for name in ("weight", "bias")]
    built.parameters = tuple(
        Parameter(p, (3, 3) if p.endswith("weight") else (3,), "float32", True, "0") for p in names
    )
    for path in names:
        built.add("sampled", "update_std", path, np.full(5, 1e-4))
        built.add("sampled", "param_std", path, np.full(5, 0.1))
    chart = by_name(pictures(built.make(), []).charts)["update_to_data"]
    assert chart.by_depth and [(each.low, each.high) for each in chart.guides] == [(1e-3, 1e-3)]
    assert len(chart.curves) == 24 and "Shown are 24 of 40 weights" in chart.note
    assert chart.curves[0].label == "layers.0.weight" and chart.curves[-1].label == "layers.39.weight"
    np.testing.assert_allclose(chart.curves[3].series.values, 1e-3)


@pytest.mark.parametrize("expected", [float(np.log(27)), None])
def test_the_first_loss_stands_beside_what_is_expected(maker: type, expected: float | None) -> None:
    built = maker(steps=5)
    built.add("user", "loss", "", np.linspace(27.9, 2, 5))
    built.add("user", "accuracy", "", np.ones(5))
    built.events = [
        {"kind": "audit", "step": 0, "loss": "cross_entropy", "value": 27.9, "expected": expected, "classes": 27,
         "reduction": "mean", "input_shape": [32, 27], "target_shape": [32]},
    ]  # fmt: skip
    loss, other = pictures(built.make(), []).charts
    assert "(cross_entropy, step 0) gave 27.9" in loss.note and not other.guides
    assert ("3.296 = log(27)" in loss.note) == (expected is not None)
    assert [each.low for each in loss.guides] == ([] if expected is None else [expected])


def test_a_first_loss_that_was_not_observed_is_said(healthy: Run) -> None:
    chart = by_name(pictures(healthy, []).charts)["logged-0"]
    assert "The first loss call was not observed" in chart.note and not chart.guides


def test_heat_map_rows_are_in_model_order_with_unobserved_ones(maker: type) -> None:
    from auscult.core.run import Parameter

    built = maker(steps=5)
    built.parameters = tuple(Parameter(path, (2,), "float32", True, "0") for path in ("c", "a", "b"))
    for path in ("a", "c", "extra"):
        built.add("norms", "grad_norm", path, np.ones(5))
    assert pictures(built.make(), []).heatmaps[0].rows == ("c", "a", "b", "extra")


def test_every_evidence_that_is_a_series_has_a_place(healthy: Run, finding: Callable[..., Finding]) -> None:
    one = finding(
        evidence=(
            Evidence("grad_norm", "layers.1.bias", 5, 1.0),
            Evidence("grad_norm", "", 6, 1.0),
            Evidence("grad_norm", "layers.1", 7, 1.0),
            Evidence("train/loss", "", 8, 1.0),
            Evidence("category_loss", "dogs", 9, 1.0),
            Evidence("param_std", "layers.0.weight", 16, 1.0),
            Evidence("no_such_metric", "", 9, 1.0),
            Evidence("grad_norm", "no.such.path", 9, 1.0),
        )
    )
    drawn = pictures(healthy, [one])
    anchors = [anchor_of(each, drawn) for each in one.evidence]
    assert [each.target if each else None for each in anchors] == [
        "heatmap", "chart-grad_norm", "chart-further-0", "chart-logged-0", "chart-category_loss", "chart-further-1",
        None, None,
    ]  # fmt: skip
    assert anchors[0] is not None
    assert (anchors[0].metric, anchors[0].row, anchors[0].step) == ("grad_norm", 3, 5)


def test_a_log_axis_needs_a_positive_value(maker: type) -> None:
    built = maker(steps=4)
    built.add("steps", "clip_ratio", "", [0.0, np.nan, 0.0, 0.0])
    assert pictures(built.make(), []).charts[0].to_dict()["log"] is False


def test_many_logged_names_are_capped_and_the_rest_is_named(maker: type) -> None:
    built = maker(steps=3)
    for index in range(40):
        built.add("user", f"value_{index}", "", np.ones(3))
    built.add("user", "loss", "", np.ones(3))
    charts = pictures(built.make(), []).charts
    assert len(charts) == 24 and charts[0].title == "Loss"
    assert "17 more logged names not drawn: value_23" in charts[-1].note


def test_overhead_is_the_share_of_all_time(maker: type) -> None:
    built = maker(steps=3)
    built.add("steps", "step_time", "", [1.0, 1.0, 2.0])
    built.add("steps", "overhead_time", "", [0.01, 0.01, 0.02])
    assert "1.00% of the whole" in pictures(built.make(), []).charts[0].note


def test_nothing_recorded_draws_nothing(run_of: Callable[..., Run]) -> None:
    drawn = pictures(run_of(steps=0), [])
    assert not drawn.charts and not drawn.heatmaps


def test_everything_is_strict_json(poisoned: Run, hostile: Run) -> None:
    for run in (poisoned, hostile):
        drawn = pictures(run, [])
        json.dumps([each.to_dict() for each in (*drawn.charts, *drawn.heatmaps)], allow_nan=False)
