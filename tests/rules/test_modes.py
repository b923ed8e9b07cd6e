from dataclasses import replace

import numpy as np
import pytest

from auscult.core.anatomy import Anatomy
from auscult.core.run import Module
from auscult.rules.modes import BatchNormStatistics, TrainEvalMode

NORM = Module("layers.1", "BatchNorm1d", True, "normalisation")
DROPOUT = Module("drop", "Dropout", True, "dropout", 0.5)


@pytest.fixture
def normalised(training):
    """A run whose second layer keeps running statistics, and with dropout."""
    training.modules = (Module("layers.0", "Linear", True, "affine"), NORM, DROPOUT)
    training.sample("statistics_shift", 0.2, NORM.path)
    training.sample("statistics_scale", 1.1, NORM.path)
    training.sample("evaluation_mode", 0.0)
    training.sample("training_evaluations", 0.0)
    return training


class TestTrainEvalMode:
    def test_silent_on_healthy_and_on_partial_freezing(self, normalised):
        assert not list(TrainEvalMode().check(normalised.digest()))
        normalised.sample("evaluation_mode", 0.5)
        assert not list(TrainEvalMode().check(normalised.digest()))

    def test_everything_in_evaluation_mode_since_the_first_evaluation(self, normalised):
        normalised.sample("evaluation_mode", (np.arange(normalised.rows) >= 100).astype(float))
        (finding,) = TrainEvalMode().check(normalised.digest())
        assert (finding.severity, finding.step) == ("warning", 128)
        assert "drop" in finding.summary and "layers.1" in finding.summary

    @pytest.mark.parametrize("sign", ["affine rests", "began low"])
    def test_frozen_statistics_of_a_fine_tuning_are_info(self, normalised, sign):
        normalised.modules = normalised.modules[:2]
        normalised.sample("evaluation_mode", 1.0)
        if sign == "affine rests":
            normalised.parameters = tuple(
                replace(each, trainable=False) if each.path.startswith("layers.1") else each
                for each in normalised.parameters
            )
        else:
            normalised.columns["loss", ""] *= 0.3
            normalised.sample_losses()
        assert [each.severity for each in TrainEvalMode().check(normalised.digest())] == ["info"]

    def test_evaluations_in_training_mode(self, normalised):
        passes = np.where(np.arange(normalised.rows) % 80 == 0, 5.0, 0.0)
        normalised.sample("training_evaluations", passes)
        assert [each.severity for each in TrainEvalMode().check(normalised.digest())] == ["info"]  # none is logged
        normalised.columns["val/loss", ""] = np.ma.masked_array(np.ones(320), np.arange(320) % 80 != 79)
        (finding,) = TrainEvalMode().check(normalised.digest())
        assert (finding.severity, finding.evidence[0].value) == ("warning", 5.0)
        normalised.sample("training_evaluations", 16.0)  # one at every step: a teacher
        assert [each.severity for each in TrainEvalMode().check(normalised.digest())] == ["info"]
        normalised.modules = normalised.modules[:1]  # no module acts differently
        assert not list(TrainEvalMode().check(normalised.digest()))

    def test_passes_at_every_step_of_late_are_of_the_method(self, normalised):
        normalised.columns["val/loss", ""] = np.ma.masked_array(np.ones(320), np.arange(320) % 80 != 79)
        step = np.arange(normalised.rows)
        normalised.sample("training_evaluations", np.where(step > 100, 16.0, 0.0))  # pseudo-labels
        assert [each.severity for each in TrainEvalMode().check(normalised.digest())] == ["info"]
        normalised.sample("training_evaluations", np.where(step % 64 == 0, 100.0, 0.0))  # an evaluation now and then
        assert [each.severity for each in TrainEvalMode().check(normalised.digest())] == ["warning"]

    @pytest.mark.parametrize(("bias", "severity"), [(0.4, "info"), (1e-3, "warning")])
    def test_a_new_head_on_normalisations_trained_before_is_info(self, normalised, bias, severity):
        normalised.modules = normalised.modules[:2]
        normalised.sample("evaluation_mode", 1.0)
        normalised.columns["param_norm", "layers.1.bias"][:] = bias
        normalised.columns["update_norm", "layers.1.bias"][:] = 1e-3
        assert [each.severity for each in TrainEvalMode().check(normalised.digest())] == [severity]

    def test_frozen_normalisations_that_follow_new_data_are_info(self, normalised):
        late = Module("layers.3", "BatchNorm1d", True, "normalisation")
        normalised.modules = (*normalised.modules, late)
        normalised.sample("statistics_shift", 0.2, late.path)
        assert not list(TrainEvalMode().check(normalised.digest()))
        normalised.parameters = tuple(
            replace(each, trainable=False) if each.path.startswith("layers.1") else each
            for each in normalised.parameters
        )
        (finding,) = TrainEvalMode().check(normalised.digest())
        assert (finding.severity, finding.path) == ("info", "layers.1")
        normalised.sample("evaluation_mode", 0.5)
        assert not list(TrainEvalMode().check(normalised.digest()))


class TestBatchNormStatistics:
    def test_silent_on_healthy_and_on_the_first_steps(self, normalised):
        assert not list(BatchNormStatistics().check(normalised.digest()))
        normalised.sample("statistics_shift", 3.0 * 0.97 ** np.arange(320), NORM.path)
        assert not list(BatchNormStatistics().check(normalised.digest()))

    @pytest.mark.parametrize(
        ("metric", "value"), [("statistics_shift", 2.0), ("statistics_scale", 9.0), ("statistics_scale", 0.1)]
    )
    def test_far_off_is_info_and_a_warning_where_evaluations_suffer(self, normalised, metric, value):
        normalised.sample(metric, np.where(np.arange(320) < 70, 0.5, value), NORM.path)
        (finding,) = BatchNormStatistics().check(normalised.digest())
        assert (finding.severity, finding.path, finding.step) == ("info", NORM.path, 128)
        assert (finding.evidence[0].metric, finding.evidence[0].value) == (metric, pytest.approx(value))
        normalised.columns["val/loss", ""] = np.ma.masked_array(np.full(320, 4.0), np.arange(320) % 80 != 79)
        assert [each.severity for each in BatchNormStatistics().check(normalised.digest())] == ["warning"]
        normalised.sample("evaluation_mode", 1.0)
        assert not list(BatchNormStatistics().check(normalised.digest()))

    @pytest.mark.parametrize(("shape", "severity"), [((2, 32), "warning"), ((2, 3, 64, 64), "info"), ((8, 32), None)])
    def test_batches_without_statistics(self, normalised, shape, severity):
        digest = replace(normalised.digest(), anatomy=Anatomy(0, input_shape=shape))
        assert [each.severity for each in BatchNormStatistics().check(digest)] == [severity] * (severity is not None)
