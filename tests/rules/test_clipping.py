import numpy as np
import pytest

from auscult.rules.clipping import OverClipping
from auscult.rules.learning_rate import LrTooLow


class TestOverClipping:
    @staticmethod
    def clip(training, ratio):
        training.columns["clip_ratio", ""] = ratio * np.ones(training.rows)
        training.columns["clip_coefficient", ""] = np.minimum(1.0, 1.0 / training.columns["clip_ratio", ""])

    def test_silent_without_clipping_or_when_some_steps_pass(self, training):
        assert not list(OverClipping().check(training.digest()))
        self.clip(training, np.where(np.arange(320) % 3 == 0, 0.9, 3.0))
        assert not list(OverClipping().check(training.digest()))

    def test_a_warm_up_shorter_than_four_blocks_is_silent(self, training):
        self.clip(training, 50.0)
        assert not list(OverClipping().check(training.digest(192)))

    def test_every_step_clipped_is_info_with_its_onset(self, training):
        self.clip(training, np.where(np.arange(320) < 30, 0.5, 3.0))
        (finding,) = OverClipping().check(training.digest())
        assert (finding.severity, finding.path, finding.step) == ("info", "", 64)
        assert finding.evidence[0].value == pytest.approx(3.0, rel=1e-3)

    def test_heavy_clipping_alone_is_still_info(self, training):
        self.clip(training, 500.0)
        assert [each.severity for each in OverClipping().check(training.digest())] == ["info"]

    def test_one_small_loud_parameter_is_an_alarm_that_names_it(self, training):
        self.clip(training, 500.0)
        training.column("grad_norm", "layers.0.bias")[:] *= 1e4
        (finding,) = OverClipping().check(training.digest())
        assert (finding.severity, finding.path) == ("warning", "layers.0.bias")

    def test_nothing_learned_because_of_it_is_an_alarm_with_the_bound_to_use(self, training):
        """lr 0.1, max_norm 0.001, as in DeepCrime's operator: 1e-4 per step, the loss stays at log(10)."""
        noise = np.random.default_rng(3)
        norms = 0.5 * 10 ** noise.normal(0, 0.1, training.rows)
        share = 1 / np.sqrt(len(training.parameters))
        for each in training.parameters:
            training.columns["grad_norm", each.path] = share * norms
            training.columns["update_norm", each.path] = np.full(training.rows, 2e-5 * 4.0)
        self.clip(training, norms / 0.001)
        training.columns["loss", ""] = 2.3 * 10 ** noise.normal(0, 0.01, training.rows)
        training.sample_losses()
        (finding,) = OverClipping().check(training.digest())
        assert (finding.severity, finding.path, finding.step) == ("warning", "", 0)
        usual = float(finding.advice[0].split("about ")[1].split(",")[0])
        assert 0.001 <= np.mean(norms > usual) <= 0.03 and "0.001 -> " in finding.advice[0]
        assert not list(LrTooLow().check(training.digest()))
