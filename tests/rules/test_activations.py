import numpy as np
import pytest

from auscult.core.audit import Audit
from auscult.core.run import Module
from auscult.rules.activations import DeadUnits, Saturated

MODULES = (
    Module("", "Net", False),
    Module("conv", "Conv2d", True),
    Module("relu", "ReLU", True),
    Module("pool", "MaxPool2d", True),
    Module("tanh", "Tanh", True),
    Module("gate", "Sigmoid", True),
    Module("head", "Tanh", True),
)


@pytest.fixture
def observed(training):
    training.modules = MODULES
    for path in ("relu", "pool"):
        training.columns["dead_fraction", path] = np.full(training.rows, 0.05)
    for path in ("tanh", "gate", "head"):
        training.columns["saturated_fraction", path] = np.full(training.rows, 0.03)
    return training


def test_silent_on_healthy(observed):
    assert not list(DeadUnits().check(observed.digest()))
    assert not list(Saturated().check(observed.digest()))


def test_dead_units_name_the_first_module_and_the_block(observed):
    for path in ("relu", "pool"):
        observed.column("dead_fraction", path)[130:] = 0.95
    (finding,) = DeadUnits().check(observed.digest())
    assert (finding.path, finding.severity, finding.step) == ("relu", "warning", 192)
    assert "pool" in finding.summary and "since step 192 at the latest" in finding.summary
    assert finding.evidence[0].path == "relu" and finding.evidence[0].value == pytest.approx(0.95)


def test_dead_from_the_first_step_on(observed):
    observed.column("dead_fraction", "relu")[:] = 1.0
    (finding,) = DeadUnits().check(observed.digest())
    assert (finding.severity, finding.step) == ("critical", 0) and "at the latest" not in finding.summary


def test_dead_units_say_whether_the_run_learns_all_the_same(observed):
    observed.column("dead_fraction", "relu")[:] = 0.95
    (finding,) = DeadUnits().check(observed.digest())
    assert f"the loss has fallen from {observed.column('loss')[0]:.3g} to " in finding.summary
    observed.column("loss")[:] = 2.3
    (finding,) = DeadUnits().check(observed.digest())
    assert finding.severity == "warning" and "the loss" not in finding.summary


def test_one_bad_batch_per_block_is_not_dead(observed):
    observed.column("dead_fraction", "relu")[::10] = 1.0
    assert not list(DeadUnits().check(observed.digest()))


def test_half_dead_is_info_and_a_small_batch_is_never_more(observed):
    observed.column("dead_fraction", "relu")[:] = 0.7
    assert [each.severity for each in DeadUnits().check(observed.digest())] == ["info"]
    observed.column("dead_fraction", "relu")[:] = 0.97
    observed.audit = Audit(0, "cross_entropy", 2.3, 2.3, 10, "mean", (4, 10), (4,))
    assert [each.severity for each in DeadUnits().check(observed.digest())] == ["info"]


def test_one_block_is_too_little(observed):
    observed.column("dead_fraction", "relu")[:] = 1.0
    assert not list(DeadUnits().check(observed.digest(64)))


def test_saturated_from_the_start_like_makemore_is_info_while_it_learns(observed):
    observed.column("saturated_fraction", "tanh")[:] = 0.7
    (finding,) = Saturated().check(observed.digest())
    assert (finding.path, finding.severity, finding.step) == ("tanh", "info", 0)


def test_saturated_and_stuck_is_a_warning(observed):
    observed.column("saturated_fraction", "tanh")[:] = 0.95
    observed.column("loss")[:] = 2.3
    assert [each.severity for each in Saturated().check(observed.digest())] == ["warning"]
    observed.column("saturated_fraction", "tanh")[:200] = 0.1
    assert not [each for each in Saturated().check(observed.digest()) if each.severity != "info"]


@pytest.mark.parametrize("path", ["gate", "head"])
def test_gates_and_bounded_outputs_may_saturate(observed, path):
    observed.column("saturated_fraction", path)[10:] = 0.99
    assert not list(Saturated().check(observed.digest()))


def test_a_last_tanh_that_was_saturated_from_the_start_is_seen(observed):
    """As in makemore, where the layers around it are bare tensors, not modules."""
    observed.column("saturated_fraction", "head")[:] = 0.7
    assert [each.path for each in Saturated().check(observed.digest())] == ["head"]


def test_a_sparse_code_is_info_where_the_run_learns(observed):
    alive = 0.05
    observed.column("dead_fraction", "relu")[:] = 1 - alive
    for active, severity in ((0.5, "warning"), (0.05, "info")):  # share of samples that a living unit answers to
        share = alive * active
        observed.columns["activation_mean", "relu"] = np.full(observed.rows, share)
        observed.columns["activation_std", "relu"] = np.full(observed.rows, np.sqrt(share - share**2))
        assert [each.severity for each in DeadUnits().check(observed.digest())] == [severity]
    observed.column("loss")[:] = 2.3
    assert [each.severity for each in DeadUnits().check(observed.digest())] == ["warning"]
