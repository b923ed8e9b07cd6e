import numpy as np
import pytest

from auscult.core.run import Module
from auscult.rules.learning_rate import LrTooHigh, LrTooLow


def scale_updates(training, factor, start=0):
    for each in training.parameters:
        training.column("update_norm", each.path)[start:] *= factor


class TestLrTooHigh:
    def test_silent_on_healthy_and_on_a_bold_one(self, training):
        assert not list(LrTooHigh().check(training.digest()))
        scale_updates(training, 50)
        assert not list(LrTooHigh().check(training.digest()))

    def test_advice_says_which_lr(self, training):
        training.columns["lr", "main"][:] = 1.0
        training.column("loss")[:] = 2.3
        scale_updates(training, 200, start=130)
        (finding,) = LrTooHigh().check(training.digest())
        assert (finding.severity, finding.path, finding.step) == ("warning", "", 128)
        assert finding.evidence[0].value == pytest.approx(0.2, rel=0.1)
        assert "lr 1 -> about 0.005" in finding.advice[0]

    def test_critical_when_the_loss_rises_and_info_when_it_falls_all_the_same(self, training):
        scale_updates(training, 300)
        training.column("loss")[64:] = 5.0
        assert [each.severity for each in LrTooHigh().check(training.digest())] == ["critical"]
        training.column("loss")[64:] = 0.3
        assert [each.severity for each in LrTooHigh().check(training.digest())] == ["info"]

    def test_one_block_is_enough_when_the_run_broke_after_it(self, training):
        scale_updates(training, 500)
        for each in training.parameters:
            training.column("grad_norm", each.path)[20:] = 0.0
            training.column("update_norm", each.path)[20:] = 0.0
        (finding,) = LrTooHigh().check(training.digest(64))
        assert (finding.severity, finding.evidence[0].metric) == ("critical", "update_ratio")
        assert finding.step < 20

    def test_a_run_that_broke_at_a_healthy_rate_is_not_blamed_on_it(self, training):
        for each in training.parameters:
            training.column("param_norm", each.path)[20:] = np.nan
        assert not list(LrTooHigh().check(training.digest(64)))

    def test_a_solved_run_has_no_cause_of_death(self, training):
        scale_updates(training, 500)
        for each in training.parameters:
            training.column("grad_norm", each.path)[20:] = 0.0
            training.column("update_norm", each.path)[20:] = 0.0
        training.column("loss")[20:] = 0.0
        assert not list(LrTooHigh().check(training.digest(64)))

    def test_the_first_steps_of_a_zero_initialised_matrix_are_silent(self, training):
        ratio = 1 / (1 + np.arange(training.rows))
        for each in training.parameters:
            training.columns["update_norm", each.path] = ratio * training.column("param_norm", each.path)
        for rows in (5, 20, 64, 128, 320):
            assert not list(LrTooHigh().check(training.digest(rows)))

    @staticmethod
    def replace_weights(training, ratio, later=0.02):
        for each in training.parameters:
            training.columns["update_norm", each.path][:] = later * training.column("param_norm", each.path)
            training.columns["update_norm", each.path][0] = ratio * training.column("param_norm", each.path)[0]

    def test_a_first_update_that_replaces_the_weights_of_a_run_that_learns_nothing(self, training):
        self.replace_weights(training, 0.6)
        training.column("loss")[:] = 2.2
        training.sample_losses()
        assert not list(LrTooHigh().check(training.digest(200)))
        (finding,) = LrTooHigh().check(training.digest())
        assert (finding.severity, finding.path, finding.step) == ("warning", "", 0)
        assert finding.evidence[0].value == pytest.approx(0.6)

    @pytest.mark.parametrize(("ratio", "later", "level"), [(0.2, 0.02, 2.2), (0.6, 0.002, 2.2), (0.6, 0.02, 1.5)])
    def test_small_later_and_learning_ones_are_silent(self, training, ratio, later, level):
        self.replace_weights(training, ratio, later)
        training.column("loss")[:] = level
        training.sample_losses()
        assert not list(LrTooHigh().check(training.digest()))

    def test_weights_that_outgrow_their_beginning_step_by_step(self, training):
        self.replace_weights(training, 0.02)
        training.column("loss")[:] = 2.2
        training.sample_losses()
        assert not list(LrTooHigh().check(training.digest()))
        for each in training.parameters:
            training.columns["param_norm", each.path] = np.linspace(4.0, 20.0, training.rows)
            training.columns["update_norm", each.path] = 0.02 * training.columns["param_norm", each.path]
        assert [each.severity for each in LrTooHigh().check(training.digest())] == ["warning"]

    def test_a_run_that_broke_after_its_first_update_is_blamed_on_it(self, training):
        self.replace_weights(training, 0.9)
        for each in training.parameters:
            training.columns["param_norm", each.path] = 4.0 * 10.0 ** np.arange(training.rows).clip(max=30)
            training.column("update_norm", each.path)[0] = 3.6
            training.column("grad_norm", each.path)[20:] = 0.0
        (finding,) = LrTooHigh().check(training.digest(64))
        assert (finding.severity, finding.step) == ("critical", 0)


class TestLrTooLow:
    def test_silent_on_healthy(self, training):
        assert not list(LrTooLow().check(training.digest()))

    def test_info_with_the_number(self, training):
        scale_updates(training, 1e-4)
        (finding,) = LrTooLow().check(training.digest())
        assert (finding.severity, finding.step) == ("info", 64)
        assert finding.evidence[0].value == pytest.approx(1e-7, rel=0.2)

    def test_a_learning_rate_of_zero_is_a_warning_once_it_is_no_warm_up(self, training):
        training.columns["lr", "main"][:] = 0.0
        assert not list(LrTooLow().check(training.digest(255)))
        (finding,) = LrTooLow().check(training.digest(256))
        assert (finding.severity, finding.step, finding.evidence[0].path) == ("warning", 0, "main")
        training.columns["lr", "main"][200] = 1e-3
        assert not list(LrTooLow().check(training.digest()))

    def test_one_layer_that_moves_is_enough(self, training):
        scale_updates(training, 1e-4)
        training.column("update_norm", "layers.3.weight")[:] *= 1e4
        assert not list(LrTooLow().check(training.digest()))

    @pytest.mark.parametrize("schedule", ["warm-up", "decay"])
    def test_schedules_are_silent(self, training, schedule):
        scale_updates(training, 1e-4)
        ramp = np.linspace(1e-7, 1e-5, training.rows)
        training.columns["lr", "main"] = ramp if schedule == "warm-up" else ramp[::-1].copy()
        assert not list(LrTooLow().check(training.digest()))

    def test_a_short_way_at_the_uninformed_loss_is_a_warning_with_the_rate_to_try(self, training):
        """lr 1e-5 where 1e-3 is right: 320 steps of 1e-5 of the norm are 0.3 %."""
        training.columns["lr", "main"][:] = 1e-5
        scale_updates(training, 1e-2)
        guess(training)
        (finding,) = LrTooLow().check(training.digest())
        assert (finding.severity, finding.step, finding.path) == ("warning", 0, "")
        assert finding.evidence[0].value == pytest.approx(1e-5, rel=0.2)
        assert finding.evidence[1].metric == "loss" and finding.evidence[1].value == pytest.approx(2.3, rel=0.02)
        assert "lr 1e-05 -> up to about 0.001" in finding.advice[0]

    def test_a_short_run_is_judged_when_it_has_ended(self, training):
        scale_updates(training, 1e-1)
        guess(training)
        assert not list(LrTooLow().check(training.digest(128)))
        assert [each.severity for each in LrTooLow().check(training.digest(100, finished=True))] == ["warning"]

    @pytest.mark.parametrize("steps", [1, 20])
    def test_healthy_updates_are_not_too_small_because_the_run_is_short(self, training, steps):
        scale_updates(training, 2)
        guess(training)
        assert not list(LrTooLow().check(training.digest(steps, finished=True)))

    @pytest.mark.parametrize("reason", ["learns", "warm-up", "fine-tuning", "small gradient", "adversaries"])
    def test_a_short_way_with_a_good_reason_is_silent(self, training, reason):
        scale_updates(training, 1e-2)
        if reason != "learns":
            guess(training)
        if reason == "warm-up":
            training.columns["lr", "main"] = np.linspace(1e-7, 1e-5, training.rows)
        if reason == "fine-tuning":
            training.columns["loss", ""] *= 0.1
            training.sample_losses()
        if reason == "small gradient":
            training.columns["lr", "main"][:] = 1.0
        if reason == "adversaries":
            training.regroup(layers__0__weight="a.0", layers__1__weight="b.0")
            training.columns["lr", "a.0"] = training.columns["lr", "b.0"] = training.columns["lr", "main"]
        assert not list(LrTooLow().check(training.digest()))

    def test_a_schedule_that_ends_before_anything_was_learned_is_a_warning_since_its_end(self, training):
        """A factor of 0.1 for every 20 steps, where one per epoch was meant."""
        training.columns["lr", "main"] = 0.1 * 0.1 ** (np.arange(training.rows) // 20)
        for each in training.parameters:
            training.column("update_norm", each.path)[:] *= 0.1 ** (np.arange(training.rows) // 20)
        guess(training)
        (finding,) = LrTooLow().check(training.digest())
        assert (finding.severity, finding.step, finding.evidence[0].path) == ("warning", 64, "main")
        training.columns["loss", ""] = 2.3 * np.exp(-np.arange(training.rows) / 100)
        training.sample_losses()
        assert not [each for each in LrTooLow().check(training.digest()) if each.severity != "info"]

    def test_the_end_of_a_cosine_is_silent(self, training):
        training.columns["lr", "main"] = 0.05 * (1 + np.cos(np.pi * np.arange(training.rows) / training.rows))
        guess(training)
        assert not list(LrTooLow().check(training.digest()))


def guess(training):
    """The loss stays where a model that knows nothing is."""
    training.columns["loss", ""] = 2.3 * 10 ** np.random.default_rng(3).normal(0, 0.01, training.rows)
    training.sample_losses()


class TestLrTooHighByWhatCameOfIt:
    def test_bold_updates_at_a_loss_far_above_guessing_are_critical(self, training):
        scale_updates(training, 60)
        training.columns["loss", ""] = np.where(np.arange(training.rows) < 64, 2.3, 40.0)
        training.sample_losses()
        (finding,) = LrTooHigh().check(training.digest())
        assert (finding.severity, finding.step) == ("critical", 0)
        assert finding.evidence[0].value == pytest.approx(0.06, rel=0.1)

    def test_one_leap_after_which_the_run_only_guesses_is_critical_and_names_its_step(self, training):
        for each in training.parameters:
            training.column("update_norm", each.path)[70] = 0.5 * training.column("param_norm", each.path)[70]
        guess(training)
        training.column("loss")[71:74] = [80.0, 30.0, 9.0]
        training.sample_losses()
        (finding,) = LrTooHigh().check(training.digest())
        assert (finding.severity, finding.step) == ("critical", 70)
        assert finding.evidence[0].value == pytest.approx(0.5)

    def test_a_leap_that_did_no_harm_is_silent(self, training):
        for each in training.parameters:
            training.column("update_norm", each.path)[70] = 0.5 * training.column("param_norm", each.path)[70]
        training.column("loss")[71:74] = [80.0, 30.0, 9.0]
        training.sample_losses()
        assert not list(LrTooHigh().check(training.digest()))

    def test_what_was_learned_and_lost_under_bold_updates_is_a_warning_since_the_best_block(self, training):
        """A learning rate that is raised too far at step 128, as in the OPT logbook."""
        rows = np.arange(training.rows)
        training.columns["loss", ""] = np.where(rows < 128, 2.3 * np.exp(-rows / 250), 2.2)
        training.sample_losses()
        assert not list(LrTooHigh().check(training.digest()))  # the size of updates does not explain it
        scale_updates(training, 15, start=128)
        (finding,) = LrTooHigh().check(training.digest())
        assert (finding.severity, finding.step) == ("warning", 128)
        assert finding.evidence[0].value == pytest.approx(0.015, rel=0.1)
        training.columns["loss", ""][256:] = 0.9  # it came back
        training.sample_losses()
        assert not list(LrTooHigh().check(training.digest()))

    def test_updates_that_grow_late_under_a_flat_loss_are_info(self, long_training):
        rows = np.arange(long_training.rows)
        for each in long_training.parameters:
            long_training.column("update_norm", each.path)[:] *= 10 ** np.maximum(0, (rows - 1100) / 400)
        assert not list(LrTooHigh().check(long_training.digest()))  # the loss falls
        long_training.columns["loss", ""] = 0.5 + np.exp(-rows / 50)
        (finding,) = LrTooHigh().check(long_training.digest())
        assert (finding.severity, finding.step) == ("info", 1472)
        long_training.columns["lr", "main"] = 10 ** (rows / 800 - 4)
        assert not list(LrTooHigh().check(long_training.digest()))

    @staticmethod
    def die(training, late, modules=3):
        """Large updates at first; units of some of four modules die within 100 steps, their last layer aside."""
        training.modules = tuple(Module(f"layers.{layer}", "M", True, "affine") for layer in range(4))
        scale_updates(training, 30.0)
        for layer in range(4):
            dead = late if layer < modules else 0.1
            values = np.where(np.arange(training.rows) < 100, 0.2, dead)
            training.sample("dead_fraction", values, f"layers.{layer}")

    def test_units_that_die_after_bold_updates_are_a_warning(self, training):
        self.die(training, 0.9)
        training.column("loss")[50:55] *= 3  # the updates that killed them show in the loss
        (finding,) = LrTooHigh().check(training.digest())
        assert (finding.severity, finding.path, finding.step) == ("warning", "", 0)
        assert finding.evidence[0].value == pytest.approx(0.03, rel=0.3)
        assert "3 of 3 modules" in finding.summary

    def test_units_that_die_without_harm_to_the_loss_are_info(self, training):
        self.die(training, 0.9)
        assert [each.severity for each in LrTooHigh().check(training.digest())] == ["info"]
        training.column("loss")[:] = 2.3
        assert [each.severity for each in LrTooHigh().check(training.digest())] == ["warning"]

    @pytest.mark.parametrize("why", ["few die", "one module", "small updates"])
    def test_some_dead_units_are_no_death(self, training, why):
        self.die(training, 0.4 if why == "few die" else 0.9, 1 if why == "one module" else 3)
        if why == "small updates":
            scale_updates(training, 1 / 30)
        assert not list(LrTooHigh().check(training.digest()))
