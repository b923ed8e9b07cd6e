import numpy as np
import pytest

from auscult.core.anatomy import Anatomy
from auscult.rules.optimizer import MissingZeroGrad, WrongGradientSign


def weights(training):
    return [each.path for each in training.parameters if len(each.shape) == 2]


def adversaries(training):
    training.regroup(layers__0__weight="a.0", layers__1__weight="b.0")
    training.columns["lr", "a.0"] = training.columns["lr", "b.0"] = training.columns["lr", "main"]


class TestMissingZeroGrad:
    @staticmethod
    def carry(training, begin=1):
        training.sample("carried_gradient", (np.arange(training.rows) >= begin).astype(float))

    def test_silent_on_healthy_and_on_accumulation(self, training):
        assert not list(MissingZeroGrad().check(training.digest()))
        training.sample("carried_gradient", 0.0)
        assert not list(MissingZeroGrad().check(training.digest()))

    def test_known_after_the_third_sample_and_a_warning_while_the_loss_falls(self, training):
        self.carry(training)
        training.sample_losses()
        assert not list(MissingZeroGrad().check(training.digest(17)))
        (finding,) = MissingZeroGrad().check(training.digest(64))
        assert (finding.severity, finding.path, finding.step) == ("warning", "", 1)
        assert (finding.evidence[0].step, finding.evidence[0].value) == (48, 1.0)
        assert "zero_grad" in finding.advice[0]

    def test_critical_once_the_loss_is_above_its_beginning(self, training):
        self.carry(training)
        training.column("loss")[200:] = 6.0
        training.sample_losses()
        assert [each.severity for each in MissingZeroGrad().check(training.digest())] == ["critical"]

    def test_one_forgotten_clearing_is_silent(self, training):
        training.sample("carried_gradient", (np.arange(training.rows) == 32).astype(float))
        assert not list(MissingZeroGrad().check(training.digest()))

    def test_of_two_adversaries_one_fills_the_gradients_of_the_other(self, training):
        self.carry(training)
        adversaries(training)
        assert [each.severity for each in MissingZeroGrad().check(training.digest())] == ["info"]


class TestWrongGradientSign:
    @staticmethod
    def point(training, cosine, decay=0.0):
        noise = np.random.default_rng(5)
        for path in weights(training):
            training.sample("descent_cosine", cosine + noise.normal(0, 0.1, training.rows), path)
            training.sample("decay_cosine", decay, path)

    @pytest.mark.parametrize("cosine", [1.0, 0.3, 0.0, -0.15])
    def test_silent_on_plain_adaptive_and_oscillating_descent(self, training, cosine):
        self.point(training, cosine)
        training.sample("loss_gradient", 0.25)
        assert not list(WrongGradientSign().check(training.digest()))

    def test_updates_along_the_gradient(self, training):
        self.point(training, -0.7)
        (finding,) = WrongGradientSign().check(training.digest())
        assert (finding.severity, finding.step, finding.phase) == ("warning", 0, "update")
        assert finding.evidence[0].path == "layers.0.weight" and finding.evidence[0].value < -0.3
        training.column("loss")[64:] = 1e4
        assert [each.severity for each in WrongGradientSign().check(training.digest())] == ["critical"]

    def test_a_weight_decay_that_outweighs_the_gradient_is_another_rule(self, training):
        self.point(training, -0.9, decay=0.98)
        assert not list(WrongGradientSign().check(training.digest()))

    @pytest.mark.parametrize("cosine", [-0.9, -0.1])
    def test_a_negated_loss_that_is_maximised_is_descended(self, training, cosine):
        self.point(training, cosine)
        training.sample("loss_gradient", -1.0)
        assert not list(WrongGradientSign().check(training.digest()))

    def test_a_negative_gradient_at_the_loss(self, training):
        self.point(training, 1.0)
        training.sample("loss_gradient", -1.0)
        training.column("loss")[64:] = 50.0
        (finding,) = WrongGradientSign().check(training.digest())
        assert (finding.severity, finding.phase, finding.evidence[0].metric) == ("critical", "loss", "loss_gradient")

    def test_a_loss_that_rises_from_the_start_under_small_steps(self, training):
        training.columns["loss", ""] = 2.3 * np.exp(np.arange(training.rows) / 200)
        training.sample_losses()
        (finding,) = WrongGradientSign().check(training.digest())
        assert (finding.severity, finding.step) == ("warning", 0) and finding.confidence <= 0.5
        training.columns["lr", "main"] = np.linspace(1e-3, 1e-1, training.rows)
        assert not list(WrongGradientSign().check(training.digest()))

    def test_adversaries_are_silent(self, training):
        self.point(training, -0.9)
        training.sample("loss_gradient", -1.0)
        adversaries(training)
        assert not list(WrongGradientSign().check(training.digest()))

    @staticmethod
    def reward(training, first=-1.4, grown=1000.0, outputs=4):
        training.audit = None
        training.anatomy = Anatomy(0, output_shape=(32, outputs))
        training.columns["loss", ""] = first * grown ** (np.arange(training.rows) / training.rows)
        return training.digest()

    def test_a_loss_without_a_bound_below(self, training):
        (finding,) = WrongGradientSign().check(self.reward(training))
        assert (finding.severity, finding.path, finding.step, finding.phase) == ("warning", "", 0, "loss")
        assert "-log(4)" in finding.summary
        assert [each.confidence for each in WrongGradientSign().check(self.reward(training, -7.0))] == [0.6]

    @pytest.mark.parametrize(("first", "grown"), [(-1.4, 1.5), (-7.0, 50.0), (1.4, 1000.0)])
    def test_a_density_a_similarity_and_a_loss_above_zero_are_silent(self, training, first, grown):
        assert not list(WrongGradientSign().check(self.reward(training, first, grown)))
