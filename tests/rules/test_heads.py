import numpy as np
import pytest
from tests.rules.conftest import audit_of, spread

from auscult.core.anatomy import Anatomy
from auscult.core.run import Module
from auscult.rules.heads import DoubleSoftmax, SoftmaxWrongAxis, WrongOutputActivation
from auscult.rules.registry import judge

NOISE = np.random.default_rng(0)
LOGITS = NOISE.normal(0, 0.5, (32, 10))
LABELS = NOISE.integers(0, 10, 32)
NUMBERS = NOISE.normal(0, 1, (32, 1))


def softmax(values, axis=1):
    powers = np.exp(values)
    return powers / powers.sum(axis, keepdims=True)


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def end_with(training, output, kind="activation"):
    """A model whose last module gives this output, `(N, C)`."""
    training.modules = (
        Module("", "Net", False),
        Module("layers.3", "L", True, "affine"),
        Module("head", "H", True, kind),
    )
    training.anatomy = Anatomy(
        0,
        output_shape=output.shape,
        output=spread(output),
        output_spread=float(output.std(0).mean()),
        output_rows_sum_to_one=None,
        output_columns_sum_to_one=None,
    )
    training.sample("activation_std", output.std(ddof=1), "head")


@pytest.mark.parametrize("loss", ["cross_entropy", "mse_loss", "binary_cross_entropy"])
def test_a_softmax_over_one_unit_is_critical_and_named_first(training, loss):
    end_with(training, np.ones((32, 1)))
    training.audit = audit_of(loss, np.ones((32, 1)), LABELS)
    for each in training.parameters:
        training.column("grad_norm", each.path)[:] = 0.0
    digest = training.digest()
    (finding,) = WrongOutputActivation().check(digest)
    assert (finding.severity, finding.path, finding.step) == ("critical", "head", 0)
    assert judge(digest, digest)[0].code == "H001"


def test_an_output_that_begins_at_one_with_a_gradient_is_silent(training):
    end_with(training, np.ones((32, 1)), "affine")
    training.audit = audit_of("mse_loss", np.ones((32, 1)), NUMBERS)
    assert not list(WrongOutputActivation().check(training.digest()))


@pytest.mark.parametrize("given", [softmax(LOGITS), LOGITS, np.log(np.clip(LOGITS, 1e-7, 1))])
def test_nll_loss_of_anything_but_log_probabilities(training, given):
    training.audit = audit_of("nll_loss", given, LABELS)
    (finding,) = WrongOutputActivation().check(training.digest())
    assert finding.severity == "warning" and finding.evidence[0].metric == "rows_log_sum_to_one"


def test_nll_loss_of_log_probabilities_is_silent(training):
    training.audit = audit_of("nll_loss", np.log(softmax(LOGITS)), LABELS)
    assert not list(WrongOutputActivation().check(training.digest()))


@pytest.mark.parametrize("output", [np.maximum(LOGITS, 0), sigmoid(LOGITS), sigmoid(LOGITS[:, :3])])
def test_cross_entropy_of_outputs_that_are_never_negative(training, output):
    end_with(training, output)
    training.audit = audit_of("cross_entropy", output, LABELS)
    (finding,) = WrongOutputActivation().check(training.digest())
    assert (finding.severity, finding.path) == ("warning", "head")
    assert finding.evidence[0].value == output.min()


@pytest.mark.parametrize("output", [LOGITS, np.zeros((32, 10)), np.log(softmax(LOGITS)), LOGITS[:, :2] + 3])
def test_cross_entropy_of_logits_zeros_and_logarithms_is_silent(training, output):
    end_with(training, output, "affine")
    training.audit = audit_of("cross_entropy", output, LABELS)
    for rule in (WrongOutputActivation(), DoubleSoftmax(), SoftmaxWrongAxis()):
        assert not list(rule.check(training.digest()))


def test_a_relu_before_targets_below_zero(training):
    output = np.maximum(NUMBERS + 1, 0)
    end_with(training, output)
    training.audit = audit_of("mse_loss", output, NUMBERS)
    (finding,) = WrongOutputActivation().check(training.digest())
    assert finding.path == "head" and "cannot be negative" in finding.summary


def test_a_relu_before_targets_above_zero_and_positive_outputs_of_a_linear_head_are_silent(training):
    output = np.maximum(NUMBERS + 1, 0)
    end_with(training, output)
    training.audit = audit_of("mse_loss", output, np.abs(NUMBERS))
    assert not list(WrongOutputActivation().check(training.digest()))
    end_with(training, np.abs(NUMBERS) + 0.1, "affine")
    training.audit = audit_of("mse_loss", np.abs(NUMBERS) + 0.1, NUMBERS)
    assert not list(WrongOutputActivation().check(training.digest()))


def test_a_bounded_output_for_targets_far_beyond(training):
    output = sigmoid(NUMBERS)
    end_with(training, output)
    training.audit = audit_of("mse_loss", output, 100 + 30 * NUMBERS)
    training.sample("saturated_fraction", 1.0, "head")
    training.sample("batch_r2", -5.0)
    (finding,) = WrongOutputActivation().check(training.digest())
    assert finding.path == "head" and "have never left [-1, 1]" in finding.summary
    training.sample("batch_r2", 0.9)
    assert not list(WrongOutputActivation().check(training.digest()))


def test_a_relu_within_the_unit_range_at_first_is_not_bounded(training):
    output = np.clip(NUMBERS, 0, 0.9)
    end_with(training, output)
    training.audit = audit_of("mse_loss", output, 100 + 30 * NUMBERS)
    training.sample("batch_r2", -5.0)
    column = np.ma.array(np.zeros(training.rows), mask=True)
    column[0] = 0.0  # observed only where all outputs lie within [-1, 1]
    training.columns["saturated_fraction", "head"] = column
    assert not list(WrongOutputActivation().check(training.digest()))


def test_softmax_for_labels_that_do_not_exclude_each_other(training):
    several = NOISE.integers(0, 2, (32, 10)).astype(float)
    training.audit = audit_of("mse_loss", softmax(LOGITS), several)
    (finding,) = WrongOutputActivation().check(training.digest())
    assert "several targets of a row are 1" in finding.summary
    training.audit = audit_of("mse_loss", softmax(LOGITS), softmax(NOISE.normal(0, 1, (32, 10))))
    assert not list(WrongOutputActivation().check(training.digest()))  # distillation


def test_binary_cross_entropy_of_an_output_that_was_cut(training):
    output = 4 * LOGITS[:, :1]
    end_with(training, output, "affine")
    yes = (LABELS[:, None] > 4).astype(float)
    training.audit = audit_of("binary_cross_entropy", np.clip(output, 1e-7, 1 - 1e-7), yes)
    (finding,) = WrongOutputActivation().check(training.digest())
    assert finding.evidence[0].value == output.max()
    training.audit = audit_of("binary_cross_entropy", sigmoid(output), yes)
    assert not list(WrongOutputActivation().check(training.digest()))


def test_a_loss_by_hand_that_is_too_good_for_its_accuracy(training):
    """Half of the samples named wrongly cost log(2) each, so a cross-entropy is 0.35 or more."""
    end_with(training, sigmoid(LOGITS))
    training.columns["val/loss", ""] = np.linspace(1.0, 0.002, training.rows)
    training.columns["val/accuracy", ""] = np.full(training.rows, 0.5)
    (finding,) = WrongOutputActivation().check(training.digest())
    assert finding.evidence[0].bound == pytest.approx(0.3466, abs=1e-4)
    training.columns["val/loss", ""] = np.linspace(1.0, 0.4, training.rows)
    assert not list(WrongOutputActivation().check(training.digest()))


def test_double_softmax_from_the_first_call(training):
    """The floor for 10 classes, ln(e + 9) - 1 = 1.461, is that of the literature."""
    end_with(training, softmax(LOGITS))
    training.audit = audit_of("cross_entropy", softmax(LOGITS), LABELS, 2.3)
    (finding,) = DoubleSoftmax().check(training.digest(1))
    assert (finding.severity, finding.path, finding.step) == ("warning", "head", 0)
    assert finding.evidence[1].bound == pytest.approx(1.461, abs=1e-3)
    assert not list(WrongOutputActivation().check(training.digest()))


@pytest.mark.parametrize(("path", "words"), [("9", "module 9 (Softmax)"), ("", "the model (Softmax)")])
def test_a_module_is_named_by_its_class_too(training, path, words):
    end_with(training, softmax(LOGITS))
    training.modules = (Module(path, "Softmax", True, "activation"),)
    training.sample("activation_std", softmax(LOGITS).std(ddof=1), path)
    training.audit = audit_of("cross_entropy", softmax(LOGITS), LABELS, 2.3)
    (finding,) = DoubleSoftmax().check(training.digest(1))
    assert (finding.path, finding.advice[0]) == (path, f"Pass logits: remove {words}.")


def test_a_sigmoid_taken_twice(training):
    output = sigmoid(LOGITS[:, :1])
    end_with(training, output)
    training.audit = audit_of("binary_cross_entropy_with_logits", output, LABELS[:, None] > 4)
    assert [each.path for each in DoubleSoftmax().check(training.digest())] == ["head"]
    training.audit = audit_of("binary_cross_entropy_with_logits", LOGITS[:, :1], LABELS[:, None] > 4)
    assert not list(DoubleSoftmax().check(training.digest()))


def test_a_sigmoid_that_is_no_module_is_told_by_its_centre(training):
    """A map of 64 pixels whose shared bias happens to be 0.17 lies within [0, 1] as well."""
    for centre, found in ((0.5, 1), (0.17, 0)):
        output = centre + NOISE.uniform(-0.15, 0.15, (32, 64))
        training.audit = audit_of("binary_cross_entropy_with_logits", output, NOISE.integers(0, 2, (32, 64)))
        assert len(list(DoubleSoftmax().check(training.digest(1)))) == found


def test_softmax_over_the_batch(training):
    output = softmax(LOGITS, axis=0)
    end_with(training, output)
    training.audit = audit_of("nll_loss", np.log(output), LABELS)
    training.anatomy = Anatomy(
        0, output_shape=output.shape, output=spread(output), output_rows_sum_to_one=0.0, output_columns_sum_to_one=1.0
    )
    (finding,) = SoftmaxWrongAxis().check(training.digest(1))
    assert (finding.severity, finding.path, finding.step) == ("warning", "head", 0)
    assert not list(WrongOutputActivation().check(training.digest()))


def test_rows_that_sum_to_one_are_no_wrong_axis(training):
    training.audit = audit_of("mse_loss", np.full((4, 4), 0.25), np.eye(4))
    assert not list(SoftmaxWrongAxis().check(training.digest()))


def test_similarities_between_the_samples_of_a_batch_may_all_be_positive(training):
    embedding = np.abs(NOISE.normal(0, 1, (32, 16)))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    end_with(training, embedding)
    training.audit = audit_of("cross_entropy", embedding @ embedding.T / 0.1, np.arange(32))
    assert not list(WrongOutputActivation().check(training.digest()))
    training.audit = audit_of("cross_entropy", embedding @ embedding.T / 0.1, np.zeros(32))  # a queue of negatives
    assert not list(WrongOutputActivation().check(training.digest()))
    training.audit = audit_of("cross_entropy", embedding, NOISE.integers(0, 16, 32))
    assert [each.path for each in WrongOutputActivation().check(training.digest())] == ["head"]


def test_weights_of_the_samples_in_a_single_column_are_no_wrong_axis(training):
    output = softmax(NUMBERS, axis=0)
    end_with(training, output)
    training.anatomy = Anatomy(0, output_shape=output.shape, output=spread(output), output_columns_sum_to_one=1.0)
    assert not list(SoftmaxWrongAxis().check(training.digest(1)))
    training.audit = audit_of("binary_cross_entropy", output, LABELS[:, None] > 4)  # the loss takes them as they are
    assert [each.path for each in SoftmaxWrongAxis().check(training.digest(1))] == ["head"]


def shares_against(training, spread_late, share):
    """An output that began about 1/2, of no known module, for targets about 0."""
    output = sigmoid(NOISE.normal(0, 0.2, (32, 1)))
    training.audit = audit_of("mse_loss", output, NUMBERS)
    training.sample("output_spread", np.linspace(0.05, spread_late, training.rows))
    training.sample("batch_r2", share)
    return training.digest()


def test_a_sigmoid_that_is_no_module_before_targets_below_zero(training):
    (finding,) = WrongOutputActivation().check(shares_against(training, 0.4, 0.3))
    assert (finding.severity, finding.path, finding.evidence[0].metric) == ("warning", "", "smallest_prediction")


@pytest.mark.parametrize(("spread_late", "share"), [(0.4, 0.7), (0.9, 0.3)], ids=["fits", "wider than a sigmoid"])
def test_a_linear_output_that_happens_to_begin_about_a_half_is_silent(training, spread_late, share):
    assert not list(WrongOutputActivation().check(shares_against(training, spread_late, share)))


@pytest.mark.parametrize(("late", "alarm"), [(1e-4, True), (0.3, False)])
def test_a_bounded_output_at_its_bound_for_every_sample(training, late, alarm):
    end_with(training, np.tanh(NUMBERS * 0.2))
    begun = np.arange(training.rows) < 60
    training.sample("saturated_fraction", np.where(begun, 0.0, 1.0), "head")
    training.sample("output_spread", np.where(begun, 0.2, late))
    found = list(WrongOutputActivation().check(training.digest()))
    assert [(each.severity, each.path) for each in found] == [("warning", "head")] * alarm
