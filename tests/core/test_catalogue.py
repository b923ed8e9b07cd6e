"""The catalogue is complete and consistent."""

import numpy as np

from auscult.core.catalogue import METRICS
from auscult.metrics.activations import METRICS as ACTIVATION_METRICS
from auscult.monitor.gauges import MOMENTS, NORMS


def test_every_metric_says_what_it_is() -> None:
    for name, metric in METRICS.items():
        assert name == metric.name and metric.unit and metric.formula and metric.moment, name
        assert (metric.derive is None) == (not metric.inputs), name
        assert all(each in METRICS for each in metric.inputs), name


def test_everything_measured_has_an_entry() -> None:
    assert {*NORMS, *MOMENTS, *ACTIVATION_METRICS} <= set(METRICS)


def test_only_norms_add_up() -> None:
    assert {name for name, each in METRICS.items() if each.adds_up} == {
        "grad_norm", "param_norm", "update_norm", "intended_update_norm", "grad_norm_clipped"
    }  # fmt: skip


def test_ratios_at_zero() -> None:
    ratio = METRICS["update_ratio"].derive
    np.testing.assert_array_equal(ratio(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.0, 4.0])), [0.0, np.inf, 0.5])
