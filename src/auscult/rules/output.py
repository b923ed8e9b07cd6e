"""Output: what a model's output can be and cannot be, and what that means for its loss.

Knows the first pass, the first loss call and how well the run fits since.
"""

from math import exp, isclose, log, prod, sqrt
from typing import NamedTuple

import numpy as np

from auscult.core.anatomy import Anatomy
from auscult.core.audit import Audit, Spread
from auscult.core.digest import Digest
from auscult.core.finding import Evidence, Finding, Phase, Severity
from auscult.core.naming import EVALUATIONS
from auscult.core.run import Module
from auscult.rules.channels import leaves, state_of, trainable, worded
from auscult.rules.fit import REGRESSIONS, is_poor

PROBABILITIES = "binary_cross_entropy"
CLASSES = frozenset({"cross_entropy", "nll_loss"})
ALL_ROWS = 0.99
COLUMNS = 8  # of a random start, all outputs at or above 0: less than 1 in 256
BEYOND = 0.25  # of the targets' standard deviation
CLAMPED = 1e-3
WRONG, TOO_GOOD, LEARNED = 0.2, 0.2, 0.5
APART = 1.1
UNIT_RANGE = 1.5  # well outside [-1, 1]
HALF, CENTRED = 0.5, 0.1  # of a sigmoid
CONSTANT = 0.01  # spread of the outputs / that at the beginning


class Head(NamedTuple):
    """What is wrong with an output, in words and in figures."""

    text: str
    evidence: tuple[Evidence, ...]
    advice: tuple[str, ...]
    ruled_out: tuple[str, ...]
    severity: Severity = "warning"
    confidence: float = 0.9

    def finding(self, code: str, name: str, path: str, phase: Phase) -> Finding:
        """As the finding of a rule."""
        return Finding(
            code,
            name,
            self.severity,
            path,
            self.evidence[0].step,
            self.text,
            self.evidence,
            self.advice,
            phase=phase,
            ruled_out=self.ruled_out,
            confidence=self.confidence,
        )


def wrong_head(digest: Digest) -> Head | None:
    """What is wrong with the model's output for this loss; None where nothing is, or that is not known."""
    constant = _constant(digest)
    audit = digest.audit
    if constant is not None:
        return constant
    if audit is None or audit.prediction is None or audit.target is None:
        return _at_its_limit(digest) or (too_good(digest) if last_activation(digest) is not None else None)
    if over_the_batch(digest) is not None:
        return None
    if audit.loss == "nll_loss":
        return _not_logs(audit)
    if audit.loss == "cross_entropy":
        return _never_negative_logits(digest, audit, audit.prediction)
    if audit.loss == PROBABILITIES:
        return _clamped(digest, audit, audit.prediction)
    if audit.loss in REGRESSIONS:
        return (
            _competing(audit, audit.target)
            or _never_negative(digest, audit, audit.prediction, audit.target)
            or _bounded(digest, audit, audit.target)
        )
    return None


def _constant(digest: Digest) -> Head | None:
    audit, anatomy = digest.audit, digest.anatomy
    if audit is not None and audit.loss in CLASSES and audit.classes == 1:
        return Head(
            "The loss has a single class: its softmax is always 1, the loss always 0 and every gradient exactly 0.",
            (Evidence("loss", "", audit.step, audit.value, 0.0),),
            ("Use binary_cross_entropy_with_logits for a single output, or two outputs with cross_entropy.",),
            ("Not vanishing gradients: they are exactly 0 in every layer.",),
            "critical",
            1.0,
        )
    if anatomy is None or anatomy.output is None or not anatomy.output.minimum == anatomy.output.maximum == 1:
        return None
    _, states = digest.select("grad_norm", trainable(digest).paths)
    if not len(states) or (states["finite"] == 0).all() or states["first"].any():
        return None
    return Head(
        "The output is exactly 1 for every sample and no parameter has a gradient: a softmax over a single unit.",
        (
            Evidence("output_spread", "", anatomy.step, 0.0, 0.0),
            Evidence("grad_norm", "", int(states["first_step"].min()), 0.0, 0.0),
        ),
        ("Use a sigmoid (better: none, and binary_cross_entropy_with_logits) for a yes or no, nothing for a number.",),
        ("Not vanishing gradients or dead units: the output is 1 to the last bit, whatever the input.",),
        "critical",
        1.0,
    )


def too_good(digest: Digest) -> Head | None:
    """A loss that was computed by hand and is lower than the accuracy allows for a cross-entropy.

    A sample that is named wrongly has at most half of the probability on its class, and so a loss of log(2) or more.
    """
    if digest.audit is not None and digest.audit.loss != "nll_loss":
        return None
    for name in sorted(EVALUATIONS):
        loss, accuracy = state_of(digest, f"{name}/loss"), state_of(digest, f"{name}/accuracy")
        if loss is None or accuracy is None or not 0 <= accuracy["minimum"] <= accuracy["maximum"] <= 1:
            continue
        wrong, value = 1 - float(accuracy["last"]), float(loss["last"])
        if wrong >= WRONG and 0 <= value < TOO_GOOD * wrong * log(2) and loss["last"] < LEARNED * loss["maximum"]:
            step = int(loss["last_step"])
            return Head(
                f"{name}/loss is {value:.3g} while {wrong:.0%} of the samples are named wrongly: a cross-entropy "
                f"would be {wrong * log(2):.2g} or more. The loss can be made small without a right answer.",
                (
                    Evidence(f"{name}/loss", "", step, value, wrong * log(2)),
                    Evidence(f"{name}/accuracy", "", int(accuracy["last_step"]), 1 - wrong),
                ),
                ("Give logits to torch.nn.functional.cross_entropy, with no activation at the end of the model.",),
                ("Not overfitting: loss and accuracy are of the same evaluation.",),
                confidence=0.7,
            )
    return None


def _not_logs(audit: Audit) -> Head | None:
    share, prediction = audit.rows_log_sum_to_one, _spread(audit.prediction)
    if share is None or share >= 0.5:
        return None
    probabilities = audit.rows_sum_to_one is not None and audit.rows_sum_to_one >= ALL_ROWS
    given = "probabilities, not their logarithms" if probabilities else "something else than log-probabilities"
    return Head(
        f"nll_loss was given {given}: the exponentials of {1 - share:.0%} of its rows do not sum to 1.",
        (
            Evidence("rows_log_sum_to_one", "", audit.step, share, 0.5),
            Evidence("largest_prediction", "", audit.step, prediction.maximum, 0.0),
        ),
        (
            "Pass logits to cross_entropy, with no activation at the end of the model.",
            "Or pass log_softmax(logits, dim=1) to nll_loss.",
        ),
        (
            f"Not a low learning rate or corrupt labels: predictions run from {prediction.minimum:.3g} to "
            f"{prediction.maximum:.3g} at the first call.",
        ),
        confidence=0.95,
    )


def _never_negative_logits(digest: Digest, audit: Audit, prediction: Spread) -> Head | None:
    if is_squashed_twice(digest, audit) or _are_pairs(digest, audit):
        return None
    if not _is_never_negative(digest, audit, prediction):
        return None
    what = "a sigmoid's" if prediction.minimum > 0 and prediction.maximum < 1 else "a ReLU's"
    return Head(
        f"cross_entropy was given outputs that are never negative, such as {what}: it expects logits, which have both "
        "signs.",
        (Evidence("smallest_prediction", "", audit.step, prediction.minimum, 0.0),),
        ("Remove the activation at the end of the model: cross_entropy takes logits.",),
        (f"Not a softmax: {audit.rows_sum_to_one or 0:.0%} of the rows sum to 1.",),
        confidence=0.8,
    )


def _never_negative(digest: Digest, audit: Audit, prediction: Spread, target: Spread) -> Head | None:
    if target.minimum >= -BEYOND * target.std:
        return None
    if not _is_never_negative(digest, audit, prediction) and not _looks_like_shares(digest, prediction, target):
        return None
    return Head(
        f"Targets go down to {target.minimum:.3g}, and the output cannot be negative: its smallest value at the start "
        f"is {prediction.minimum:.3g}.",
        (
            Evidence("smallest_prediction", "", audit.step, prediction.minimum, target.minimum),
            Evidence("target_mean", "", audit.step, target.mean),
        ),
        ("Remove the activation at the end of the model: a number needs none.",),
        ("Not dead units: the first output was not yet trained.",),
        confidence=0.9,
    )


def _bounded(digest: Digest, audit: Audit, target: Spread) -> Head | None:
    module = last_activation(digest)
    inside = None if module is None else state_of(digest, "saturated_fraction", module.path)
    outputs = None if module is None else state_of(digest, "activation_std", module.path)
    furthest = max(abs(target.minimum), abs(target.maximum))
    if module is None or inside is None or outputs is None or furthest <= UNIT_RANGE:
        return None
    if inside["rows"] < outputs["rows"] or inside["rows"] < 2 or not is_poor(digest, 0.5):
        return None
    return Head(
        f"Targets run from {target.minimum:.3g} to {target.maximum:.3g}, and the outputs of {worded(module)} have "
        "never left [-1, 1].",
        (
            Evidence("activation_std", module.path, int(outputs["last_step"]), float(outputs["last"]), 1.0),
            Evidence("target_std", "", audit.step, target.std, 1.0),
        ),
        (
            f"Remove {worded(module)}: a number needs no activation at the end.",
            f"Or bring the targets into its range: (target - {target.mean:.3g}) / {furthest:.3g}.",
        ),
        ("Not a low learning rate: no update brings a bounded output to these targets.",),
        confidence=0.8,
    )


def _competing(audit: Audit, target: Spread) -> Head | None:
    if audit.rows_sum_to_one is None or audit.rows_sum_to_one < ALL_ROWS:
        return None
    several = audit.whole_targets and not audit.one_hot_targets and target.minimum >= 0 and target.maximum <= 1
    if not several and -BEYOND * target.std <= target.minimum and target.maximum <= UNIT_RANGE:
        return None
    what = (
        "several targets of a row are 1"
        if several
        else f"targets run from {target.minimum:.3g} to {target.maximum:.3g}"
    )
    return Head(
        f"The outputs of a row sum to 1, while {what}: a softmax where outputs do not exclude each other.",
        (
            Evidence("rows_sum_to_one", "", audit.step, audit.rows_sum_to_one, ALL_ROWS),
            Evidence("target_mean", "", audit.step, target.mean, 1.0 / max(1, audit.input_shape[-1])),
        ),
        ("Use a sigmoid per output with binary_cross_entropy (better: logits and its _with_logits).",)
        if several
        else ("Remove the softmax: a number needs no activation at the end.",),
        ("Not a low learning rate: a row that sums to 1 cannot reach these targets.",),
        confidence=0.9,
    )


def _clamped(digest: Digest, audit: Audit, prediction: Spread) -> Head | None:
    """binary_cross_entropy of an output that was cut to [0, 1], or of a ReLU's."""
    anatomy = digest.anatomy
    if anatomy is None or anatomy.output is None or anatomy.output_shape is None or anatomy.output.std == 0:
        return None
    output = anatomy.output
    if prod(anatomy.output_shape) != prod(audit.input_shape):
        return None
    low = prediction.minimum <= CLAMPED if output.minimum <= 0 else abs(prediction.minimum - output.minimum) <= CLAMPED
    high = (
        prediction.maximum >= 1 - CLAMPED
        if output.maximum >= 1
        else abs(prediction.maximum - output.maximum) <= CLAMPED
    )
    beyond = output.minimum < 0 or output.maximum > 1
    rectified = output.minimum == 0 and output.maximum < 0.9 and _is_never_negative(digest, audit, output)
    if not low or not high or not (beyond or rectified) or (output.minimum < -10 and output.maximum > 10):
        return None
    return Head(
        f"binary_cross_entropy takes probabilities, and the model's output runs from {output.minimum:.3g} to "
        f"{output.maximum:.3g}: it is no sigmoid's and was at most cut to [0, 1].",
        (
            Evidence("largest_output", "", anatomy.step, output.maximum, 1.0),
            Evidence("smallest_output", "", anatomy.step, output.minimum, 0.0),
            Evidence("loss", "", audit.step, audit.value, audit.expected),
        ),
        ("Pass the output of the last affine layer to binary_cross_entropy_with_logits.", "Or end with a sigmoid."),
        (
            f"Not a sigmoid outside the model: that would give {_sigmoid(output.minimum):.3g} to "
            f"{_sigmoid(output.maximum):.3g}, and the loss got {prediction.minimum:.3g} to {prediction.maximum:.3g}.",
        ),
        confidence=0.9,
    )


def is_squashed_twice(digest: Digest, audit: Audit) -> bool:
    """Whether the logits of a loss have been through a softmax or a sigmoid."""
    if audit.rows_sum_to_one is not None and audit.rows_sum_to_one >= ALL_ROWS:
        return True
    prediction = audit.prediction
    if audit.loss != "binary_cross_entropy_with_logits" or prediction is None or prediction.std == 0:
        return False
    within = prediction.minimum > 0 and prediction.maximum < 1
    about_half = prod(audit.input_shape[1:]) >= COLUMNS and abs(prediction.mean - HALF) <= CENTRED
    return within and (last_activation(digest) is not None or about_half)


def over_the_batch(digest: Digest) -> tuple[int, float, float] | None:
    """Step and shares of columns and rows that sum to 1, where only columns do."""
    audit, anatomy = digest.audit, digest.anatomy
    facts: list[tuple[int, float | None, float | None, tuple[int, ...] | None]] = []
    if audit is not None:
        facts.append((audit.step, audit.columns_sum_to_one, audit.rows_sum_to_one, audit.input_shape))
    if anatomy is not None and anatomy.output_shape is not None and prod(anatomy.output_shape[1:]) > 1:
        facts.append(
            (anatomy.step, anatomy.output_columns_sum_to_one, anatomy.output_rows_sum_to_one, anatomy.output_shape)
        )
    for step, columns, rows, shape in facts:
        if shape and shape[0] > 1 and columns is not None and columns >= ALL_ROWS and (rows or 0.0) < 0.5:
            return step, columns, rows or 0.0
    return None


def _is_never_negative(digest: Digest, audit: Audit, spread: Spread) -> bool:
    """Whether an output is at or above 0 because it cannot be otherwise."""
    if not (spread.std > 0 and spread.minimum >= 0):
        return False
    if spread.minimum == 0 or last_activation(digest) is not None:
        return True
    within = None if digest.anatomy is None else digest.anatomy.output_spread
    differ = within is not None and spread.std > APART * within  # units drawn at random differ more than samples do
    return differ and prod(audit.input_shape[1:]) >= COLUMNS


def _are_pairs(digest: Digest, audit: Audit) -> bool:
    """Whether classes are the samples of the batch, as where pairs are matched: similarities have any sign.

    The targets are then 0 to N - 1, once each, or 0 throughout where the match stands first; and the loss was given
    another tensor than the model's output.
    """
    target, output = audit.target, None if digest.anatomy is None else digest.anatomy.output
    if target is None or audit.prediction is None or not audit.whole_targets or len(audit.input_shape) != 2:
        return False
    if output is not None and _alike(output.mean, audit.prediction.mean) and _alike(output.std, audit.prediction.std):
        return False
    rows, columns = audit.input_shape
    every = columns >= rows == prod(audit.target_shape) and (target.minimum, target.maximum) == (0, rows - 1)
    once = every and _alike(target.mean, (rows - 1) / 2) and _alike(target.std, sqrt(rows * (rows + 1) / 12))
    return once or target.minimum == target.maximum == 0


def _alike(left: float, right: float) -> bool:
    return isclose(left, right, rel_tol=1e-3, abs_tol=1e-6)


def _looks_like_shares(digest: Digest, prediction: Spread, target: Spread) -> bool:
    """Whether an output of unknown making began about 1/2, as a sigmoid's, and has stayed too narrow to fit."""
    spread = state_of(digest, "output_spread")
    if not (prediction.minimum > 0 and prediction.maximum < 1 and abs(prediction.mean - HALF) <= CENTRED):
        return False
    narrow = spread is not None and bool(spread["maximum"] <= HALF) and target.std > HALF
    return narrow and is_poor(digest, HALF)


def _at_its_limit(digest: Digest) -> Head | None:
    """A bounded output at its bound for every sample: it gives them all the same."""
    module, spread = last_activation(digest), state_of(digest, "output_spread")
    inside = None if module is None else state_of(digest, "saturated_fraction", module.path)
    if module is None or spread is None or inside is None or inside["blocks"] < 2 or spread["blocks"] < 2:
        return None
    share, left = float(np.nanmin(inside["recent_minimum"][-2:])), float(np.nanmax(spread["recent_maximum"][-2:]))
    if not (inside["first"] < HALF and share >= ALL_ROWS and 0 <= left <= CONSTANT * spread["first"]):
        return None
    return Head(
        f"{share:.0%} of the outputs of {worded(module)} are beyond 0.97 in size, and every sample gets the "
        "same: a bounded output at its bound.",
        (
            Evidence("saturated_fraction", module.path, int(inside["last_step"]), share, ALL_ROWS),
            Evidence("output_spread", "", int(spread["last_step"]), left, CONSTANT * float(spread["first"])),
        ),
        (
            f"Remove {worded(module)} if numbers are predicted: they need no activation at the end.",
            "Or bring the targets into its range.",
        ),
        ("Not the start: the outputs of different samples differed then.",),
        confidence=0.8,
    )


def last_activation(digest: Digest) -> Module | None:
    """The activation whose output is that of the model, as far as can be told; None where another module is last."""
    every = list(leaves(digest).values())
    called = [each for each in every if state_of(digest, "activation_std", each.path) is not None] or every
    while called and called[-1].kind == "shape":
        called.pop()
    if not called or called[-1].kind not in ("activation", "other") or _weighs(digest, called[-1].path):
        return None
    last, anatomy = called[-1], digest.anatomy
    state = state_of(digest, "activation_std", last.path)
    if state is None or anatomy is None or anatomy.output is None or not _same_output(anatomy, float(state["first"])):
        return None
    return last


def _weighs(digest: Digest, module: str) -> bool:
    """Whether a module has parameters of its own."""
    return any(each.path.rpartition(".")[0] == module for each in digest.parameters)


def _same_output(anatomy: Anatomy, std: float) -> bool:
    """Whether a standard deviation, Bessel-corrected and of a sample, may be that of the model's output."""
    output = _spread(anatomy.output).std
    return abs(std - output) <= 0.2 * max(std, output) or max(std, output) < 1e-6


def _sigmoid(value: float) -> float:
    return 1 / (1 + exp(-value)) if value > -500 else 0.0


def _spread(spread: Spread | None) -> Spread:
    """A spread that is there; NaN throughout where it is not."""
    return spread or Spread(*[float("nan")] * 4)
