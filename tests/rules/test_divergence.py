"""Slow divergences, spikes after a NaN and resumed runs, as shipped detectors get them wrong."""

import numpy as np
import pytest

from auscult.core.audit import Audit
from auscult.core.run import Segment
from auscult.rules.gradients import ExplodingGradient
from auscult.rules.losses import DivergingLoss, LossSpike, NonFinite
from auscult.rules.registry import judge


@pytest.fixture
def steady(long_training):
    """1,600 rows whose loss has come down to 0.2 and whose gradients stand still."""
    steps, noise = np.arange(1600), np.random.default_rng(3)
    long_training.columns["loss", ""] = (2.1 * np.exp(-steps / 40) + 0.2) * np.exp(noise.normal(0, 0.05, 1600))
    for each in long_training.parameters:
        long_training.columns["grad_norm", each.path] = 0.1 * np.exp(noise.normal(0, 0.05, 1600))
    return long_training


def grow(training, times: float, start: int, paths=None):
    length = training.rows - start
    factor = times ** (np.maximum(np.arange(training.rows) - start + 1, 0) / length)
    training.columns["loss", ""] = training.column("loss") * factor
    for each in paths or [each.path for each in training.parameters]:
        training.columns["grad_norm", each] = training.column("grad_norm", each) * factor


@pytest.mark.parametrize("times", [10, 100, 1000])
def test_a_slow_divergence_is_found_with_its_onset(steady, times):
    grow(steady, times, 600)
    digest = steady.digest()
    found = {each.code: each for each in judge(digest, digest)}
    assert abs(found["G002"].step - 600) <= 5
    assert found["G002"].severity != "info" and found["G002"].path
    assert abs(found["L004"].step - 600) <= 32  # one channel only, and what is left of its fall bends the line before
    assert found["L004"].cause == found["G002"].key


def test_the_parameter_that_left_first_is_named_not_the_loudest(steady):
    grow(steady, 100, 600, ["layers.1.weight"])
    later = [each.path for each in steady.parameters if each.path != "layers.1.weight"]
    factor = 2000.0 ** (np.maximum(np.arange(1600) - 1000, 0) / 600)
    for each in later:
        steady.columns["grad_norm", each] = steady.column("grad_norm", each) * factor
    (found,) = ExplodingGradient().check(steady.digest())
    assert found.path == "layers.1.weight" and abs(found.step - 600) <= 5


def test_a_gradient_that_grows_while_the_loss_falls_is_healthy(steady):
    factor = 10 ** (np.arange(1600) / 1600)
    for each in steady.parameters:
        steady.columns["grad_norm", each.path] = steady.column("grad_norm", each.path) * factor
    assert judge(steady.digest(), steady.digest()) == []


def test_a_loss_that_diverges_alone_is_found(steady):
    grow(steady, 50, 800, ["layers.0.bias"])
    (found,) = DivergingLoss().check(steady.digest())
    assert abs(found.step - 800) <= 15 and found.severity == "critical"
    assert found.evidence[0].metric == "loss" and found.evidence[0].value > 2.3


def test_a_loss_that_falls_stands_still_or_jumps_does_not_diverge(steady):
    assert not list(DivergingLoss().check(steady.digest()))
    steady.column("loss")[900:] *= 10.0  # another data set
    assert not list(DivergingLoss().check(steady.digest()))


def test_a_loss_around_zero_has_no_ratio(steady):
    grow(steady, 100, 800)
    steady.column("loss")[3] = -0.1
    assert not list(DivergingLoss().check(steady.digest()))


def test_a_spike_after_a_nan_is_found_at_its_step_and_the_nan_at_its_own(steady):
    steady.audit = Audit(0, "cross_entropy", 2.3, 2.3, 10, "mean", (32, 10), (32,))
    steady.column("loss")[200] = np.nan
    steady.column("loss")[250] *= 100
    digest = steady.digest()
    (nan,), (spike,) = NonFinite().check(digest), LossSpike().check(digest)
    assert (nan.step, nan.status) == (200, "recovered")
    assert (spike.step, spike.status) == (250, "recovered")
    assert [each.severity for each in judge(digest, digest) if each.code not in ("L001", "L003")] == []


def test_a_run_resumed_twice_with_another_lr_each_time_raises_nothing(steady):
    """lr x 0.1, then x 5: the loss jumps by half and comes down again, gradients follow."""
    steps = np.arange(1600)
    for step, change in ((500, 0.1), (1000, 5.0)):
        bump = np.where(steps >= step, 1 + 0.5 * np.sign(change - 1) * np.exp(-(steps - step) / 100), 1.0)
        steady.columns["loss", ""] = steady.column("loss") * bump
        for each in steady.parameters:
            steady.columns["grad_norm", each.path] = steady.column("grad_norm", each.path) * bump
            steady.columns["update_norm", each.path][step:] *= change
        steady.columns["lr", "main"][step:] *= change
    digest = steady.digest()
    first = digest.segments[0]
    resumed = tuple(Segment(step, 0.0, first.parameters, first.modules) for step in (0, 500, 1000))
    object.__setattr__(digest, "segments", resumed)
    assert judge(digest, digest) == []
