import numpy as np
import pytest

from auscult.rules.gradients import ExplodingGradient, VanishingGradient, ZeroGradient


def silence(training, paths, start, stop=None):
    for path in paths:
        training.column("grad_norm", path)[start:stop] = 0.0
        training.column("update_norm", path)[start:stop] = 0.0


def every_path(training):
    return [each.path for each in training.parameters]


class TestZeroGradient:
    def test_silent_on_healthy(self, training):
        assert not list(ZeroGradient().check(training.digest()))

    def test_dead_network_with_the_step_that_completed_the_majority(self, training):
        silence(training, ["layers.0.weight", "layers.0.bias"], 20)
        silence(training, ["layers.1.weight", "layers.1.bias"], 25)
        silence(training, ["layers.2.weight", "layers.2.bias"], 30)
        (finding,) = ZeroGradient().check(training.digest())
        assert (finding.severity, finding.path, finding.step) == ("critical", "", 25)
        assert "6 of 8" in finding.summary and "layers.0.weight first (step 20)" in finding.summary
        assert [each.step for each in finding.evidence] == [20, 20, 25]

    def test_onset_does_not_depend_on_when_it_is_asked(self, training):
        silence(training, every_path(training), 100)
        assert not list(ZeroGradient().check(training.digest(107)))
        for rows in (108, 128, 320):
            (finding,) = ZeroGradient().check(training.digest(rows))
            assert finding.step == 100

    def test_never_any_signal_gets_its_own_advice(self, training):
        silence(training, every_path(training), 0)
        (finding,) = ZeroGradient().check(training.digest())
        assert (finding.severity, finding.step) == ("critical", 0)
        assert "No signal" in finding.summary and "softmax" in finding.advice[0]

    def test_never_any_signal_but_in_the_last_bias_is_about_the_activations(self, training):
        silence(training, every_path(training)[:-1], 0)
        (finding,) = ZeroGradient().check(training.digest())
        assert finding.severity == "critical" and "activations" in finding.advice[0]

    def test_zero_initialisation_says_what_trains_and_what_never_does(self, training):
        silence(training, every_path(training)[:-1], 0)
        (finding,) = ZeroGradient().check(training.digest())
        assert finding.summary == (
            "No signal reaches the network: the gradients of 7 of 8 parameters have been exactly 0 since the first "
            "step. Only layers.3.bias trains; layers.0.weight, layers.0.bias, layers.1.weight and 4 more never do."
        )
        assert [(each.metric, each.step, each.value) for each in finding.evidence] == [("grad_norm", 0, 0.0)] * 3

    def test_a_parameter_that_no_optimizer_moves_does_not_train(self, training):
        silence(training, every_path(training)[:-1], 0)
        training.column("update_norm", "layers.3.bias")[:] = 0.0
        (finding,) = ZeroGradient().check(training.digest())
        assert "Nothing trains" in finding.summary and "Only" not in finding.summary

    def test_what_never_trained_is_told_from_what_stopped(self, training):
        silence(training, every_path(training)[:5], 0)
        silence(training, ["layers.2.bias"], 50)
        (finding,) = ZeroGradient().check(training.digest())
        assert "5 of 8 parameters have been exactly 0 since the first step" in finding.summary
        assert finding.summary.endswith(
            "Only layers.3.weight and layers.3.bias train; layers.0.weight, layers.0.bias, layers.1.weight and 2 more "
            "never do; layers.2.bias no longer does."
        )

    def test_a_network_that_died_says_what_is_left(self, training):
        silence(training, every_path(training)[:-2], 40)
        (finding,) = ZeroGradient().check(training.digest())
        assert finding.step == 40
        assert finding.summary.endswith("(step 40). Only layers.3.weight and layers.3.bias train.")

    def test_solved_is_no_alarm(self, training):
        silence(training, every_path(training), 100)
        training.column("loss")[100:] = 0.0
        (finding,) = ZeroGradient().check(training.digest())
        assert finding.severity == "info"

    def test_minority_is_one_info(self, training):
        silence(training, ["layers.1.bias", "layers.2.bias"], 0)
        (finding,) = ZeroGradient().check(training.digest())
        assert (finding.severity, finding.path) == ("info", "")
        assert "layers.1.bias and layers.2.bias" in finding.summary and "have never trained" in finding.summary

    def test_many_small_tensors_are_no_majority(self, training):
        silence(training, [path for path in every_path(training) if path.endswith("bias")], 0)
        (finding,) = ZeroGradient().check(training.digest())
        assert finding.severity == "info"

    def test_zero_initialised_branch_that_wakes_up_is_silent(self, training):
        silence(training, every_path(training)[:-1], 0, 2)
        for rows in (1, 2, 3, 320):
            assert not list(ZeroGradient().check(training.digest(rows)))

    def test_unobserved_gradient_is_not_zero(self, training):
        for path in every_path(training)[:-1]:
            del training.columns["grad_norm", path]
        assert not list(ZeroGradient().check(training.digest()))


class TestExplodingGradient:
    def test_silent_on_healthy_and_on_a_hundredfold_rise(self, training):
        assert not list(ExplodingGradient().check(training.digest()))
        for path in every_path(training):
            training.column("grad_norm", path)[100:] *= 100
        assert not list(ExplodingGradient().check(training.digest()))

    def test_names_what_left_first_and_when(self, long_training):
        front = long_training.column("grad_norm", "layers.0.weight")
        front[960:] *= 10 ** np.minimum((np.arange(len(front) - 960)) / 60, 5)
        rest = [path for path in every_path(long_training) if path != "layers.0.weight"]
        for path in rest:
            long_training.column("grad_norm", path)[1300:] *= 1e5
        (finding,) = ExplodingGradient().check(long_training.digest())
        assert (finding.path, finding.severity) == ("layers.0.weight", "warning")
        assert 960 <= finding.step <= 1088
        assert finding.evidence[0].path == "layers.0.weight" and finding.evidence[0].value > 1e3

    def test_critical_when_the_loss_has_risen(self, training):
        for path in every_path(training):
            training.column("grad_norm", path)[128:] *= 1e4
        training.column("loss")[128:] = 50.0
        assert [each.severity for each in ExplodingGradient().check(training.digest())] == ["critical"]

    def test_fatal_within_one_block(self, training):
        training.column("grad_norm", "layers.2.weight")[5:12] = 10.0 ** np.arange(7)
        training.column("param_norm", "layers.2.weight")[12:] = np.inf
        for path in every_path(training):
            training.column("grad_norm", path)[12:] = np.nan
        (finding,) = ExplodingGradient().check(training.digest(64))
        assert (finding.path, finding.severity, finding.step) == ("layers.2.weight", "critical", 11)
        assert finding.evidence[0].value == pytest.approx(1e6)

    def test_a_spike_that_passes_is_silent(self, training):
        for path in every_path(training):
            training.column("grad_norm", path)[200:203] = 1e4
        assert not list(ExplodingGradient().check(training.digest()))

    def test_one_parameter_behind_a_zero_may_rise_by_decades(self, training):
        training.column("grad_norm", "layers.1.weight")[:] = 0.1 * 10 ** np.minimum(np.arange(320) / 50 - 6, 0)
        assert not list(ExplodingGradient().check(training.digest()))


class TestVanishingGradient:
    @staticmethod
    def fade(training, per_layer, updates=True):
        for layer in range(4):
            factor = per_layer ** (3 - layer)
            training.column("grad_norm", f"layers.{layer}.weight")[:] *= factor
            if updates:
                training.column("update_norm", f"layers.{layer}.weight")[:] *= factor

    def test_silent_on_healthy_and_on_a_fiftyfold_fall(self, training):
        assert not list(VanishingGradient().check(training.digest()))
        self.fade(training, 50 ** (-1 / 3))
        assert not list(VanishingGradient().check(training.digest()))

    def test_geometric_fall_names_the_front(self, training):
        self.fade(training, 1 / 20)
        (finding,) = VanishingGradient().check(training.digest())
        assert (finding.path, finding.severity, finding.step) == ("layers.0.weight", "warning", 0)
        ratio = next(each for each in finding.evidence if each.metric == "update_ratio")
        assert ratio.path == "layers.0.weight" and ratio.value == pytest.approx(1e-3 / 8000, rel=0.3)

    def test_an_optimizer_that_evens_it_out_is_silent(self, training):
        self.fade(training, 1 / 20, updates=False)
        assert not list(VanishingGradient().check(training.digest()))

    def test_a_rarely_touched_embedding_is_silent(self, training):
        for metric in ("grad_norm", "update_norm"):
            training.column(metric, "layers.0.weight")[:] *= 1e-5
        assert not list(VanishingGradient().check(training.digest()))
