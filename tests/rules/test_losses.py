import numpy as np
import pytest

from auscult.core.audit import Audit
from auscult.core.run import Module
from auscult.rules.channels import training_loss
from auscult.rules.losses import AmpOverflow, DivergingLoss, LossSpike, NonFinite


def only(rule, digest):
    findings = list(rule.check(digest))
    assert len(findings) == 1, findings
    return findings[0]


def break_parameters(training, step):
    for (metric, _), column in training.columns.items():
        if metric in ("grad_norm", "update_norm", "param_norm"):
            column[step:] = np.nan


def test_silent_on_healthy(training):
    assert not list(NonFinite().check(training.digest()))
    assert not list(AmpOverflow().check(training.digest()))


def test_loss_first_is_the_forward_pass(training):
    training.column("loss")[100:] = np.nan
    break_parameters(training, 100)
    finding = only(NonFinite(), training.digest())
    assert (finding.severity, finding.phase, finding.path, finding.step) == ("critical", "forward", "", 100)
    assert finding.evidence[0].metric == "loss" and np.isnan(finding.evidence[0].value)


def test_a_loss_of_another_name_is_understood_and_an_evaluation_is_not(training):
    training.columns["train/loss", ""] = training.columns.pop(("loss", ""))
    training.columns["val/loss", ""] = np.full(training.rows, np.nan)
    assert not list(NonFinite().check(training.digest()))
    training.column("train/loss")[77] = np.inf
    assert only(NonFinite(), training.digest()).step == 77


@pytest.mark.parametrize("name", ["Loss/train", "train_loss_epoch", "critic/loss"])
def test_the_training_loss_is_judged_by_any_of_its_names(training, name):
    training.columns[name, ""] = training.columns.pop(("loss", ""))
    training.columns["d_loss", ""] = training.columns["val_loss", ""] = np.full(training.rows, np.nan)
    assert not list(NonFinite().check(training.digest()))
    training.column(name)[77] = np.inf
    assert only(NonFinite(), training.digest()).step == 77


@pytest.mark.parametrize("names", [("g_loss", "d_loss"), ("actor/loss", "critic/loss"), ("val_loss", "Loss/test")])
def test_of_several_losses_none_is_judged_as_that_of_the_training(training, names):
    loss = training.columns.pop(("loss", ""))
    for name in names:
        training.columns[name, ""] = 10.0 ** np.arange(training.rows)[: len(loss)].clip(0, 30)
    digest = training.digest()
    assert training_loss(digest) is None and not list(DivergingLoss().check(digest))


def test_forward_names_the_first_module_observed(training):
    training.modules = (Module("", "Net", False), Module("front", "Linear", True), Module("log", "Log", True))
    for path in ("", "log"):
        training.columns["activation_std", path] = np.where(np.arange(training.rows) < 40, 1.0, np.nan)
    training.columns["activation_std", "front"] = np.ones(training.rows)
    training.column("loss")[40:] = np.nan
    assert only(NonFinite(), training.digest()).path == "log"


def test_gradient_first_is_the_backward_pass_at_the_parameter_closest_to_the_loss(training):
    break_parameters(training, 90)
    training.column("loss")[91:] = np.nan
    for path in ("layers.3.weight", "layers.3.bias"):
        training.column("grad_norm", path)[90] = 0.1
        training.column("param_norm", path)[90] = 4.0
    finding = only(NonFinite(), training.digest())
    assert (finding.phase, finding.path, finding.step) == ("backward", "layers.2.bias", 90)
    assert "6 of 8" in finding.summary


def test_update_first_is_the_optimizer(training):
    training.column("update_norm", "layers.1.weight")[30:] = np.inf
    training.column("param_norm", "layers.1.weight")[30:] = np.inf
    training.column("loss")[31:] = np.nan
    finding = only(NonFinite(), training.digest())
    assert (finding.phase, finding.path, finding.step) == ("update", "layers.1.weight", 30)


def test_phase_stays_open_where_the_loss_was_not_logged(training):
    loss = training.column("loss")
    training.columns["loss", ""] = np.ma.masked_array(loss, np.arange(training.rows) % 50 != 0)
    break_parameters(training, 90)
    finding = only(NonFinite(), training.digest())
    assert (finding.phase, finding.step) == (None, 90)


def test_phase_stays_open_where_parameters_are_recorded_every_other_step(training):
    training.column("loss")[41:] = np.nan
    for key, column in list(training.columns.items()):
        if key[0] in ("grad_norm", "update_norm", "param_norm"):
            training.columns[key] = np.ma.masked_array(column, np.arange(training.rows) % 4 != 0)
    finding = only(NonFinite(), training.digest())
    assert (finding.phase, finding.step) == (None, 41)


def test_recovered_loss_is_a_warning(training):
    training.column("loss")[100] = np.inf
    assert only(NonFinite(), training.digest(101)).severity == "critical"
    finding = only(NonFinite(), training.digest(102))
    assert (finding.severity, finding.status, finding.step) == ("warning", "recovered", 100)


@pytest.mark.parametrize("skipped", [1, 3, 10])
def test_loss_scaler_looking_for_its_scale_is_no_alarm(training, skipped):
    for (metric, _), column in training.columns.items():
        if metric == "grad_norm":
            column[:skipped] = np.inf
        if metric == "update_norm":
            column[:skipped] = 0.0
    for rows in (1, skipped, skipped + 1, 320):
        assert only(NonFinite(), training.digest(rows)).severity == "info"
    assert not list(AmpOverflow().check(training.digest()))


def test_loss_scaler_that_never_finds_its_scale_is_critical(training):
    for (metric, _), column in training.columns.items():
        if metric in ("grad_norm", "update_norm"):
            column[150:] = np.nan if metric == "grad_norm" else 0.0
    assert not list(AmpOverflow().check(training.digest(192)))
    finding = only(AmpOverflow(), training.digest(256))
    assert (finding.severity, finding.path, finding.step) == ("critical", "layers.3.bias", 150)


def test_first_loss_from_the_audit(training):
    del training.columns["loss", ""]
    training.audit = Audit(0, "mse_loss", float("nan"), 1.0, None, "mean", (8, 1), (8, 1))
    finding = only(NonFinite(), training.digest())
    assert (finding.phase, finding.step) == ("forward", 0)


UNINFORMED = float(np.log(10))


@pytest.fixture
def spiked(training):
    """A run that was thrown off at step 70."""
    training.audit = Audit(0, "cross_entropy", 2.3, UNINFORMED, 10, "mean", (32, 10), (32,))
    training.column("loss")[70:75] = [5.0, 30.0, 14.0, 9.0, 4.0]
    return training


class TestLossSpike:
    def test_silent_on_healthy_and_below_twice_the_uninformed_loss(self, training):
        training.audit = Audit(0, "cross_entropy", 2.3, UNINFORMED, 10, "mean", (32, 10), (32,))
        assert not list(LossSpike().check(training.digest()))
        training.column("loss")[70] = 4.5
        assert not list(LossSpike().check(training.digest()))

    def test_a_run_that_came_back_is_info_and_recovered(self, spiked):
        finding = only(LossSpike(), spiked.digest())
        assert (finding.severity, finding.status, finding.step) == ("info", "recovered", 71)
        assert finding.evidence[0].value == pytest.approx(30.0) and finding.evidence[0].step == 71
        assert "It recovered" in finding.summary and f"{30 / UNINFORMED:.2g} times" in finding.summary

    def test_a_run_that_stays_at_guessing_is_a_warning_after_two_blocks(self, spiked):
        spiked.column("loss")[75:] = UNINFORMED
        assert not list(LossSpike().check(spiked.digest(100)))
        finding = only(LossSpike(), spiked.digest())
        assert (finding.severity, finding.status, finding.step) == ("warning", "active", 71)
        assert "not recovered" in finding.summary

    def test_a_run_that_diverges_is_critical(self, spiked):
        spiked.column("loss")[75:] = np.linspace(10, 1e4, spiked.rows - 75)
        finding = only(LossSpike(), spiked.digest())
        assert (finding.severity, finding.status, finding.step) == ("critical", "active", spiked.rows - 1)

    def test_a_first_loss_that_was_as_high_is_no_spike(self, spiked):
        spiked.column("loss")[0] = 27.9
        assert not list(LossSpike().check(spiked.digest()))

    def test_nothing_to_compare_with_is_silent(self, spiked):
        for audit in (
            None,
            Audit(0, "l1_loss", 2.3, None, None, "mean", (32,), (32,)),
            Audit(0, "cross_entropy", 73.6, UNINFORMED, 10, "sum", (32, 10), (32,)),
        ):
            spiked.audit = audit
            assert not list(LossSpike().check(spiked.digest()))

    def test_a_run_that_broke_is_left_to_the_rules_that_say_how(self, spiked):
        break_parameters(spiked, 80)
        assert not list(LossSpike().check(spiked.digest()))

    def test_the_noise_of_batches_of_four_is_no_spike(self, training):
        """Squared errors of four normal targets: the variance of the first four says little about the rest."""
        noise = np.random.default_rng(1)
        targets = noise.normal(size=(training.rows, 4))
        variances = targets.var(1)
        training.columns["loss", ""] = (targets**2).mean(1)
        training.audit = Audit(0, "mse_loss", training.column("loss")[0], variances[0], None, "mean", (4, 1), (4, 1))
        assert training.column("loss").max() > 2 * max(training.column("loss")[0], variances[0])
        for rows in (128, 200, 320):
            assert not [each for each in LossSpike().check(training.digest(rows)) if each.severity != "info"]
        training.sample("observed_loss", training.column("loss"))
        training.sample("uninformed_loss", variances)
        assert not list(LossSpike().check(training.digest()))
