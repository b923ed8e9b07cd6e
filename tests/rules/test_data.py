from math import log

import numpy as np
import pytest
from tests.rules.conftest import audit_of, spread

from auscult.core.anatomy import Anatomy, Feed
from auscult.core.run import Module
from auscult.rules.data import (
    ClassImbalance,
    DataLeak,
    InputNotNormalised,
    LabelsCorrupt,
    RepeatedData,
    TargetScale,
)

NOISE = np.random.default_rng(0)
LOGITS = NOISE.normal(0, 0.5, (32, 10))
LABELS = NOISE.integers(0, 10, 32)
PIXELS = NOISE.integers(0, 256, (32, 784)).astype(float)


def given(training, inputs, first="affine", dtype="float32", feeds=(), scale=None):
    """A model called with these inputs, whose first module is of a kind."""
    training.modules = (
        Module("", "Net", False),
        Module("layers.0", "M", True, first),
        Module("layers.1", "M", True, "affine"),
    )
    training.anatomy = Anatomy(
        0, input_shape=inputs.shape, input_dtype=dtype, input=spread(inputs), feature_scale=scale, feeds=feeds
    )
    return training


def start(training, loss):
    training.audit = audit_of("cross_entropy", LOGITS, LABELS, loss)


def test_pixels_of_255_that_make_a_loud_start(training):
    start(given(training, PIXELS), 405.0)
    (finding,) = InputNotNormalised().check(training.digest())
    assert (finding.severity, finding.path, finding.step, finding.phase) == ("warning", "layers.0", 0, "data")
    assert finding.advice[0] == "Divide the inputs by 255."
    assert finding.evidence[2].value == 405.0


def test_a_loud_start_that_is_over_is_info(training):
    start(given(training, PIXELS), 12.0)
    training.sample("observed_loss", 0.1)
    training.sample("uninformed_loss", log(10))
    assert [each.severity for each in InputNotNormalised().check(training.digest())] == ["info"]


def test_large_inputs_of_a_dead_network_are_critical(training):
    given(training, PIXELS)
    for each in training.parameters:
        training.column("grad_norm", each.path)[100:] = 0.0
    (finding,) = InputNotNormalised().check(training.digest())
    assert (finding.severity, finding.step, finding.evidence[2].step) == ("critical", 0, 100)


def test_raw_inputs_that_do_no_harm_are_info(training):
    start(given(training, PIXELS), 2.4)
    assert [each.severity for each in InputNotNormalised().check(training.digest())] == ["info"]
    training.column("loss")[:] = 2.3
    assert [each.severity for each in InputNotNormalised().check(training.digest())] == ["warning"]
    training.sample("observed_loss", 1.0)
    training.sample("uninformed_loss", log(10))
    assert [each.severity for each in InputNotNormalised().check(training.digest())] == ["info"]


@pytest.mark.parametrize(
    "inputs",
    [NOISE.normal(0, 1, (32, 8)), PIXELS / 255, NOISE.integers(0, 17, (32, 64)).astype(float), NOISE.random((32, 2))],
    ids=["standardised", "unit", "digits of 0 to 16", "uniform"],
)
def test_inputs_in_range_are_silent(training, inputs):
    training.column("loss")[:] = 2.3
    start(given(training, inputs, scale=130.0 if inputs.max() <= 1 else 20.0), 400.0)
    assert not list(InputNotNormalised().check(training.digest()))


def test_integers_embeddings_and_normalisations_are_silent(training):
    start(given(training, 50_000 * NOISE.random((32, 16)), dtype="int64"), 400.0)
    assert not list(InputNotNormalised().check(training.digest()))
    for kind in ("embedding", "normalisation"):
        start(given(training, PIXELS, kind), 400.0)
        assert not list(InputNotNormalised().check(training.digest()))
    given(training, PIXELS, feeds=(Feed("layers.0", "norm"),))
    training.modules = (*training.modules, Module("norm", "M", True, "normalisation"))
    assert not list(InputNotNormalised().check(training.digest()))


def test_pixels_scaled_inside_the_model_are_silent(training):
    """Weights of norm 4 and 32 outputs make 0.7 of unit inputs, and 100 of these pixels."""
    start(given(training, PIXELS), 400.0)
    training.sample("activation_mean", 0.1, "layers.0")
    training.sample("activation_std", 0.5, "layers.0")
    assert not list(InputNotNormalised().check(training.digest()))
    training.sample("activation_std", 90.0, "layers.0")
    assert [each.severity for each in InputNotNormalised().check(training.digest())] == ["warning"]


def test_uneven_and_tiny_features(training):
    training.column("loss")[:] = 2.3
    uneven = NOISE.normal(0, 1, (32, 3)) * [10, 0.01, 0.01]
    (finding,) = InputNotNormalised().check(given(training, uneven, scale=1000.0).digest())
    assert (finding.severity, finding.evidence[2].metric) == ("warning", "feature_scale")
    (finding,) = InputNotNormalised().check(given(training, PIXELS / 255**2).digest())
    assert finding.severity == "warning" and "tiny" in finding.summary


@pytest.mark.parametrize(("fit", "severity"), [(0.3, "warning"), (0.8, "info")])
def test_extreme_inputs_that_are_hardly_learned_from(training, fit, severity):
    start(given(training, PIXELS * 40, scale=5e3), 2.5)
    training.sample("observed_loss", (1 - fit) * log(10))
    training.sample("uninformed_loss", log(10))
    (finding,) = InputNotNormalised().check(training.digest())
    assert (finding.severity, finding.path) == (severity, "layers.0")
    if severity == "warning":
        assert (finding.evidence[-1].metric, finding.evidence[-1].value) == (
            "observed_loss",
            pytest.approx(0.7 * log(10)),
        )


@pytest.mark.parametrize(("late", "severity"), [(0.9, "warning"), (0.1, "info")])
def test_large_inputs_that_saturate_the_first_activation(training, late, severity):
    start(given(training, PIXELS), 2.5)
    training.sample("observed_loss", 0.7 * log(10))
    training.sample("uninformed_loss", log(10))
    training.sample("saturated_fraction", np.where(np.arange(training.rows) < 20, 0.9, late), "layers.1")
    (finding,) = InputNotNormalised().check(training.digest())
    assert finding.severity == severity
    if severity == "warning":
        assert (finding.evidence[-1].path, finding.evidence[-1].step) == ("layers.1", 0)


def far(training, r2, begin=0.0):
    targets = 152 + 77 * NOISE.normal(0, 1, (32, 1))
    training.audit = audit_of("mse_loss", begin + NOISE.normal(0, 0.3, (32, 1)), targets, 28_100.0)
    training.sample("batch_r2", r2)
    return training


def test_targets_far_from_where_predictions_begin(training):
    (finding,) = TargetScale().check(far(training, -0.5).digest())
    assert (finding.severity, finding.step) == ("warning", 0)
    mean = training.audit.target.mean
    assert f"(target - {mean:.4g})" in finding.advice[0] and finding.evidence[0].value == mean


def test_targets_that_are_reached_or_scaled_are_no_alarm(training):
    assert [each.severity for each in TargetScale().check(far(training, 0.9).digest())] == ["info"]
    assert not list(TargetScale().check(far(training, -0.5, begin=150.0).digest()))


def test_a_first_batch_of_lower_loss_is_no_rise(training):
    training.column("loss")[:] = 28_100.0
    training.column("loss")[0] = 26_000.0
    assert [each.severity for each in TargetScale().check(far(training, -0.5).digest())] == ["warning"]


def test_a_run_that_diverges_is_not_one_of_far_targets(training):
    training.column("loss")[200:] = 1e6
    assert [each.severity for each in TargetScale().check(far(training, -0.5).digest())] == ["info"]


def classes(training, share, accuracy, **facts):
    training.audit = audit_of("cross_entropy", LOGITS, LABELS, 2.3, **facts)
    training.sample("largest_class", share)
    training.sample("target_entropy", 0.9)
    training.sample("batch_accuracy", accuracy)
    return training


def test_a_model_that_names_the_majority(training):
    (finding,) = ClassImbalance().check(classes(training, 0.8, 0.81).digest())
    assert (finding.severity, finding.step, finding.evidence[0].value) == ("warning", 0, pytest.approx(0.8))
    assert finding.evidence[2].bound == pytest.approx(log(10))


def test_a_balanced_evaluation_tells_that_the_rest_is_not_found(training):
    classes(training, 0.8, 0.91)
    assert [each.severity for each in ClassImbalance().check(training.digest())] == ["info"]
    evaluate(training, "val/accuracy", 0.2)
    (finding,) = ClassImbalance().check(training.digest())
    assert finding.severity == "warning"
    assert (finding.evidence[-1].metric, finding.evidence[-1].value) == ("val/accuracy", pytest.approx(0.2))


def test_imbalance_that_is_learned_or_weighted_is_info(training):
    assert [each.severity for each in ClassImbalance().check(classes(training, 0.8, 0.93).digest())] == ["info"]
    weighted = classes(training, 0.95, 0.95, expected=None)
    assert [each.severity for each in ClassImbalance().check(weighted.digest())] == ["info"]


def test_balanced_classes_and_few_batches_are_silent(training):
    assert not list(ClassImbalance().check(classes(training, 0.63, 0.63).digest()))
    assert not list(ClassImbalance().check(classes(training, 0.8, 0.8).digest(32)))


def test_labels_that_inputs_say_nothing_of(training):
    training.sample("observed_loss", log(10) * 1.002)
    training.sample("uninformed_loss", log(10))
    (finding,) = LabelsCorrupt().check(training.digest())
    assert (finding.severity, finding.phase) == ("info", "data")
    assert not list(LabelsCorrupt().check(training.digest(200)))
    training.sample("observed_loss", 1.5)
    assert not list(LabelsCorrupt().check(training.digest()))


@pytest.mark.parametrize(("explained", "found"), [(0.1, 0), (0.0, 1)])
def test_small_batches_of_many_classes_are_more_alike_than_what_they_are_drawn_from(explained, found, training):
    noise = np.random.default_rng(1)
    shares = noise.dirichlet(np.full(27, 2.0))
    drawn = noise.multinomial(32, shares, training.rows) / 32
    of_batches = -(drawn * np.log(np.where(drawn > 0, drawn, 1.0))).sum(1)
    of_the_data = -(shares * np.log(shares)).sum()
    assert of_batches.mean() < 0.9 * of_the_data
    training.audit = audit_of("cross_entropy", np.ones((32, 27)), LABELS, 3.3)
    training.sample("observed_loss", (1 - explained) * of_the_data)
    training.sample("uninformed_loss", of_batches)
    training.columns["loss", ""] = np.full(training.rows, (1 - explained) * of_the_data)
    assert len(list(LabelsCorrupt().check(training.digest()))) == found


def test_a_stalled_optimizer_is_no_corrupt_label(training):
    training.sample("observed_loss", log(10))
    training.sample("uninformed_loss", log(10))
    for each in training.parameters:
        training.columns["update_norm", each.path] = np.full(training.rows, 1e-9)
    assert not list(LabelsCorrupt().check(training.digest()))


def test_batches_that_come_again(training):
    again = np.ones(training.rows)
    again[0] = 0.0
    training.sample("repeated_batch", again)
    (finding,) = RepeatedData().check(training.digest())
    assert finding.severity == "info" and finding.evidence[0].value == pytest.approx(0.95)
    training.sample("repeated_batch", 0.0)
    assert not list(RepeatedData().check(training.digest()))


def test_batches_of_one_class(training):
    training.sample("largest_class", 1.0)
    training.sample("target_std", 0.0)
    training.sample("target_mean", np.arange(training.rows) // 32)
    (finding,) = RepeatedData().check(training.digest())
    assert finding.severity == "info" and "shuffle=True" in finding.advice[0]
    training.sample("largest_class", 0.2)
    assert not list(RepeatedData().check(training.digest()))


def evaluate(training, name, values):
    column = np.ma.array(np.zeros(training.rows), mask=True)
    column[40::40] = values
    training.columns[name, ""] = column


def test_two_evaluations_of_the_same_rows(training):
    falling = np.linspace(2.0, 1.0, 7)
    evaluate(training, "val/loss", falling)
    evaluate(training, "test/loss", falling)
    (finding,) = DataLeak().check(training.digest())
    assert finding.severity == "info" and "val/loss" in finding.summary
    evaluate(training, "test/loss", falling * 1.01)
    assert not list(DataLeak().check(training.digest()))


def test_an_evaluation_that_is_better_than_training_ever_was(training):
    evaluate(training, "val/loss", np.linspace(0.3, 0.1, 7))
    assert [each.severity for each in DataLeak().check(training.digest())] == ["info"]
    training.modules = (Module("drop", "Dropout", True, "dropout", 0.5),)
    assert not list(DataLeak().check(training.digest()))


def test_a_small_last_batch_of_one_class_is_no_imbalance(training):
    share = np.full(training.rows, 0.55)
    share[-16:] = 1.0
    accuracy = np.where(share == 1.0, 1.0, 0.53)
    classes(training, share, accuracy)
    assert not list(ClassImbalance().check(training.digest()))


def test_sparse_inputs_are_not_tiny(training):
    training.column("loss")[:] = 2.3
    words = np.eye(1000)[NOISE.integers(0, 1000, 32)]
    assert not list(InputNotNormalised().check(given(training, words).digest()))
    (finding,) = InputNotNormalised().check(given(training, NOISE.normal(0, 0.01, (32, 784))).digest())
    assert "tiny" in finding.summary


def test_old_figures_of_batches_do_not_speak_of_now(long_training):
    training = given(long_training, NOISE.normal(0, 0.01, (32, 784)))
    training.sample_losses()
    steps = np.arange(training.rows)
    training.column("loss")[:400] = 2.3
    for name in ("observed_loss", "uninformed_loss"):
        training.columns[name, ""] = np.ma.masked_array(np.full(training.rows, 2.3), (steps % 16 != 0) | (steps >= 400))
    training.audit = audit_of("cross_entropy", LOGITS, LABELS, 2.3)
    assert [each.severity for each in InputNotNormalised().check(training.digest(400))] == ["warning"]
    assert [each.severity for each in InputNotNormalised().check(training.digest())] == ["info"]
