from dataclasses import replace

import numpy as np
import pytest

from auscult.core.anatomy import Anatomy
from auscult.core.run import Module
from auscult.rules.progress import NoProgress, Overfitting, OverRegularised, Undertrained


def evaluate(training, metric, values, every=40):
    """Log an evaluation at the end of every epoch of so many steps."""
    column = np.ma.masked_all(training.rows)
    column[every - 1 :: every] = values
    training.columns[metric, ""] = column


def guess(training, level=2.303, seed=3):
    training.columns["loss", ""] = level * 10 ** np.random.default_rng(seed).normal(0, 0.01, training.rows)
    training.sample_losses()
    training.sample("output_spread", 0.5)


class TestOverfitting:
    RISING = (1.2, 0.9, 0.7, 0.6, 0.75, 0.9, 1.1, 1.3)

    @pytest.fixture
    def memorising(self, training):
        training.columns["loss", ""] = 2.3 * np.exp(-np.arange(training.rows) / 60)
        training.sample_losses()
        training.sample("batch_accuracy", 1.0)
        evaluate(training, "val/accuracy", 0.85)
        evaluate(training, "val/loss", self.RISING)
        return training

    def test_falling_in_training_and_rising_in_evaluation(self, memorising):
        (finding,) = Overfitting().check(memorising.digest())
        assert (finding.severity, finding.step, finding.path) == ("warning", 128, "")  # the lowest is at step 159
        assert [each.metric for each in finding.evidence[:2]] == ["val/loss", "loss"]
        assert finding.evidence[0].value == pytest.approx(1.3)

    def test_a_single_uptick_is_silent(self, memorising):
        for place in (4, 7):
            values = np.array([1.2, 0.9, 0.7, 0.6, 0.58, 0.57, 0.56, 0.56])
            values[place] = 1.5
            evaluate(memorising, "val/loss", values)
            assert not list(Overfitting().check(memorising.digest()))

    def test_evaluation_below_training_is_silent(self, memorising):
        memorising.columns["loss", ""] = np.full(memorising.rows, 2.0)
        memorising.sample_losses()
        assert not list(Overfitting().check(memorising.digest()))

    def test_only_surer_of_its_errors_is_info(self, memorising):
        evaluate(memorising, "val/accuracy", 0.97)
        assert [each.severity for each in Overfitting().check(memorising.digest())] == ["info"]

    def test_a_training_metric_of_that_kind_is_no_evaluation(self, memorising):
        memorising.columns["train/loss", ""] = memorising.columns.pop(("val/loss", ""))
        assert not list(Overfitting().check(memorising.digest()))

    def test_known_by_heart_without_a_rise(self, memorising):
        evaluate(memorising, "val/loss", 1.0)
        assert not list(Overfitting().check(memorising.digest()))  # 85 % are right
        evaluate(memorising, "val/accuracy", (0.3, 0.5, 0.6, 0.7, 0.7, 0.69, 0.7, 0.7))
        (finding,) = Overfitting().check(memorising.digest())
        assert (finding.severity, finding.path, finding.step) == ("warning", "", 39)
        assert [each.metric for each in finding.evidence] == ["batch_accuracy", "val/accuracy"]
        assert [each.value for each in finding.evidence] == pytest.approx([1.0, 0.7])
        memorising.sample("batch_accuracy", 0.8)
        assert not list(Overfitting().check(memorising.digest()))  # still learning

    def test_numbers_known_by_heart(self, training):
        training.columns["loss", ""] = 1.0 * np.exp(-np.arange(training.rows) / 30)
        training.sample_losses()
        training.sample("batch_r2", 0.99)
        evaluate(training, "val/loss", 0.5)
        evaluate(training, "val/r2", 0.5)
        (finding,) = Overfitting().check(training.digest())
        assert (finding.severity, [each.metric for each in finding.evidence]) == ("warning", ["batch_r2", "val/r2"])
        training.sample("batch_r2", 0.6)  # as noisy as the data
        assert not list(Overfitting().check(training.digest()))


class TestUndertrained:
    def test_cut_off_while_falling_is_info(self, training):
        training.columns["loss", ""] = 2.3 - 0.002 * np.arange(training.rows)
        training.sample_losses()
        assert not list(Undertrained().check(training.digest(256)))  # it may go on
        (finding,) = Undertrained().check(training.digest(300, finished=True))
        assert (finding.severity, finding.step) == ("info", 299)

    def test_a_run_of_one_block(self, training):
        training.columns["loss", ""] = 2.3 - 0.01 * np.arange(training.rows)
        training.sample_losses()
        assert [each.code for each in Undertrained().check(training.digest(60, finished=True))] == ["P002"]

    def test_a_plateau_and_a_good_end_are_silent(self, training):
        training.columns["loss", ""] = 1.5 + 0.8 * np.exp(-np.arange(training.rows) / 20)
        training.sample_losses()
        assert not list(Undertrained().check(training.digest(300, finished=True)))
        training.columns["loss", ""] = 2.3 - 0.007 * np.arange(training.rows)
        training.sample_losses()
        assert not list(Undertrained().check(training.digest(300, finished=True)))


class TestOverRegularised:
    @staticmethod
    def decay(training, cosine, factor):
        """||theta|| after t steps of weight decay alone is (1 - lr * decay)**t of what it was."""
        for each in training.parameters:
            training.columns["param_norm", each.path] = 4.0 * factor ** np.arange(training.rows)
            training.sample("decay_cosine", cosine, each.path)
        training.columns["weight_decay", "main"] = np.full(training.rows, 0.1)

    def test_a_decay_that_kills_the_network(self, training):
        guess(training)
        self.decay(training, 0.99, 1 - 0.01)
        (finding,) = OverRegularised().check(training.digest())
        assert (finding.severity, finding.step) == ("warning", 0)
        assert finding.evidence[0].path == "layers.0.weight" and "0.1 -> about 0.001" in finding.advice[0]

    def test_a_usual_decay_is_silent_and_a_strong_one_that_learns_is_info(self, training):
        training.sample_losses()
        self.decay(training, 0.1, 1 - 1e-5)
        assert not list(OverRegularised().check(training.digest()))
        self.decay(training, 0.99, 1 - 0.01)
        assert [each.severity for each in OverRegularised().check(training.digest())] == ["info"]

    @pytest.mark.parametrize(
        ("rates", "learns", "found"),
        [
            ((0.95,), False, "warning"),
            ((0.5,) * 4, False, "warning"),
            ((0.5,), False, None),
            ((0.95,), True, None),
            ((), False, None),
        ],
    )
    def test_dropout(self, training, rates, learns, found):
        if learns:
            training.sample_losses()
        else:
            guess(training, 2.1)
        training.modules = tuple(Module(f"drop.{n}", "Dropout", True, "dropout", p) for n, p in enumerate(rates))
        findings = list(OverRegularised().check(training.digest()))
        assert [each.severity for each in findings] == [found] * (found is not None)
        if found and len(rates) == 1:
            assert findings[0].path == "drop.0"

    @staticmethod
    def shrink(training, to, cosine, level):
        for path in [each.path for each in training.parameters if len(each.shape) == 2]:
            training.columns["param_norm", path] = np.where(np.arange(training.rows) < 64, 4.0, 4.0 * to)
            training.sample("decay_cosine", np.where(np.arange(training.rows) < 64, cosine, -0.3), path)
        training.column("loss")[:] = level
        training.sample_losses()
        return training.digest()

    def test_weights_that_a_penalty_has_wiped_out(self, training):
        (finding,) = OverRegularised().check(self.shrink(training, 0.02, 0.85, 2.2))
        assert (finding.severity, finding.step, finding.evidence[0].metric) == ("warning", 0, "decay_cosine")

    @pytest.mark.parametrize(("to", "cosine", "level"), [(0.5, 0.85, 2.2), (0.02, 0.2, 2.2), (0.02, 0.85, 0.5)])
    def test_weights_that_shrink_less_otherwise_or_to_good_purpose(self, training, to, cosine, level):
        assert not list(OverRegularised().check(self.shrink(training, to, cosine, level)))


class TestNoProgress:
    def test_silent_on_healthy(self, training):
        training.sample_losses()
        assert not list(NoProgress().check(training.digest()))

    def test_a_constant_answer_is_a_warning_at_the_end(self, training):
        guess(training)
        training.sample("output_spread", np.where(np.arange(training.rows) < 20, 0.5, 1e-6))
        training.sample("batch_accuracy", 0.1)
        assert not list(NoProgress().check(training.digest(128)))
        (finding,) = NoProgress().check(training.digest())
        assert (finding.severity, finding.step, finding.path) == ("warning", 319, "")
        assert finding.evidence[0].metric == "loss" and finding.evidence[1].metric == "batch_accuracy"
        assert NoProgress.unexplained

    def test_outputs_that_have_collapsed_are_told_however_little_weights_moved(self, training):
        guess(training)
        for each in training.parameters:
            training.columns["update_norm", each.path] *= 0.1
        assert not list(NoProgress().check(training.digest(200, finished=True)))
        training.sample("output_spread", np.where(np.arange(training.rows) < 20, 0.5, 1e-6))
        (finding,) = NoProgress().check(training.digest(200, finished=True))
        assert (finding.severity, finding.step) == ("warning", 199)
        assert not list(NoProgress().check(training.digest(128)))

    @pytest.mark.parametrize(("accuracy", "outputs", "found"), [(0.12, 10, 1), (0.3, 10, 0), (0.3, 2, 0)])
    def test_an_accuracy_at_chance_where_the_loss_call_was_not_seen(self, training, accuracy, outputs, found):
        training.anatomy = Anatomy(0, output_shape=(32, outputs))
        evaluate(training, "val/accuracy", accuracy)
        findings = list(NoProgress().check(training.digest()))
        assert len(findings) == found
        if found:
            assert (findings[0].evidence[0].metric, findings[0].severity) == ("val/accuracy", "warning")

    def test_sound_training_on_labels_that_say_nothing_is_said_to_be_sound(self, training):
        guess(training)
        (finding,) = NoProgress().check(training.digest())
        assert finding.severity == "warning"
        assert "updates and outputs are in order" in finding.summary

    def test_what_was_learned_and_lost(self, training):
        training.column("loss")[160:] = 4.0
        training.sample_losses()
        assert [each.severity for each in NoProgress().check(training.digest())] == ["warning"]

    @pytest.mark.parametrize("reason", ["warm-up", "young", "floor", "no reference"])
    def test_silent_with_a_good_reason(self, training, reason):
        if reason == "floor":  # a language model at the entropy of its data
            guess(training, 1.9)
        elif reason != "no reference":
            guess(training)
        if reason == "warm-up":
            training.columns["lr", "main"] = np.linspace(1e-5, 1e-3, training.rows)
        if reason == "young":
            for each in training.parameters:
                training.column("update_norm", each.path)[:] *= 0.1
        assert not list(NoProgress().check(training.digest()))

    def test_adversaries_are_silent(self, training):
        guess(training)
        training.column("loss")[160:] = 9.0
        training.regroup(layers__0__weight="a.0", layers__1__weight="b.0")
        training.columns["lr", "a.0"] = training.columns["lr", "b.0"] = training.columns["lr", "main"]
        assert not list(NoProgress().check(training.digest()))

    def test_a_run_of_a_few_steps_is_silent(self, training):
        guess(training)
        for each in training.parameters:
            training.column("update_norm", each.path)[:] *= 100
        assert not list(NoProgress().check(training.digest(20, finished=True)))
        assert list(NoProgress().check(training.digest(60, finished=True)))

    def test_a_loss_that_still_comes_down_from_above_guessing_is_silent(self, training):
        """A language model begins at log(78) = 4.4, its tokens have an entropy of 3.0."""
        training.columns["loss", ""] = np.linspace(4.4, 3.5, training.rows)
        training.sample_losses(classes=78, batch=4096)
        training.sample("uninformed_loss", 3.0)
        assert not list(NoProgress().check(training.digest(finished=True)))
        training.columns["loss", ""][160:] = training.columns["loss", ""][160]  # it stands still
        training.sample("observed_loss", training.columns["loss", ""])
        assert [each.code for each in NoProgress().check(training.digest(finished=True))] == ["P004"]

    def test_a_logged_loss_is_believed_where_the_observed_one_is_old(self, long_training):
        """The logged loss is the mean of two terms, of which the observed call is the first."""
        guess(long_training)
        observed = long_training.columns["observed_loss", ""]
        long_training.columns["loss", ""] = 1.1 * np.where(np.arange(long_training.rows) < 300, 2.3, 0.2)
        assert list(NoProgress().check(long_training.digest()))
        observed[400:] = np.ma.masked
        assert not list(NoProgress().check(long_training.digest()))

    def test_targets_that_are_ignored_do_not_count(self, training):
        """Of few targets the entropy is too low: by (C - 1) / 2n, 0.45 of 10 of 10 classes (Miller, 1955)."""
        guess(training, 2.1)
        training.sample("uninformed_loss", 2.303 - 0.45 + np.random.default_rng(0).normal(0, 0.05, training.rows))
        training.columns["loss", ""][:] = 2.1
        assert training.audit is not None
        assert [each.code for each in NoProgress().check(training.digest(finished=True))] == ["P004"]
        training.audit = replace(training.audit, counted=10)
        assert not list(NoProgress().check(training.digest(finished=True)))

    def test_labels_learned_by_heart(self, training):
        """The training loss falls, and no evaluation is better than chance."""
        training.anatomy = Anatomy(0, output_shape=(32, 10))
        training.sample_losses()
        evaluate(training, "val/accuracy", 0.11)
        (finding,) = NoProgress().check(training.digest())
        assert (finding.severity, finding.evidence[0].metric) == ("warning", "val/accuracy")
        evaluate(training, "val/accuracy", (0.11, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3))
        assert not list(NoProgress().check(training.digest()))
