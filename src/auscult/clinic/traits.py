"""Traits: a stored run as the numbers that published threshold tables ask for.

The tables were written for epochs and whole tensors. What a run holds in their place: twenty periods of equal length
for the epochs, norms for mean absolute gradients, and for shares of elements the step recorded last in full detail.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from math import nan, pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from auscult.core.run import Parameter, Run
from auscult.core.series import Series

if TYPE_CHECKING:
    from auscult.core.detail import Detail

PERIODS = 20
MEAN_PER_RMS = sqrt(2 / pi)
"""Mean absolute value / root mean square of a normal distribution around 0, as gradients nearly are."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Traits:
    """Numbers of one run; NaN for what was not observed, so that no comparison with it holds.

    Attributes:
        nonfinite: 1 if a number of the run is not finite, else 0.
        loss_largest: Largest loss of a step.
        loss_drop: Share of the first period's loss that the last period's has lost.
        loss_rebound: Largest mean loss of a period / smallest one of a period before it.
        stale_periods: Periods at the end since the mean loss last was 1e-4 of itself lower than ever.
        stagnant_share: Share of periods in which the mean loss falls by less than 5 %.
        accuracy_last: Accuracy on the training batches in the last period.
        accuracy_gain: Largest rise of it from one period to the next, from 30 % of the run on.
        oscillation_share: Share of periods in which it swings by .03 or more, down after up.
        correlation: |correlation| of loss and accuracy over the sampled batches.
        evaluation_accuracy: Last accuracy of an evaluation.
        evaluation_gap: Accuracy in training less that of the last evaluation.
        evaluation_rise: Last loss of an evaluation / smallest one before.
        gradient_first: Smallest, over periods, of the first weight's median gradient norm.
        gradient_ratio_least: Smallest, over periods, of first / last weight's median gradient norm.
        gradient_ratio_largest: Largest of these.
        gradient_mean_least: Smallest, over weights and periods, of the mean |g|.
        gradient_mean_largest: Largest of these.
        gradient_growth: Largest ratio of the total gradient norm from one period to the next.
        gradient_decay: Smallest of these.
        gradient_zeros: Share of exact zeros among all gradients.
        update_ratio_least: Smallest, over weights, of the median update ratio.
        update_ratio_largest: Largest of these.
        untouched_weights: Number of trainable weights that no update changed.
        lr: First learning rate.
        lr_effect_least: Smallest, over weights, of the median lr * ||g|| / ||theta||.
        lr_effect_largest: Largest of these.
        weight_variance_least: Smallest variance of a weight.
        weight_variance_largest: Largest variance of a weight.
        weight_largest: Largest |weight|.
        nonpositive_share: Largest, over activation modules that never give a negative number, of the share of zeros.
        preactivation_share: Largest, over inner affine modules, of the share of outputs outside [-5, 5].
        dead_share: Largest, over modules, of the share of units that are 0 for 95 % of the batch.
        saturated_share: Largest, over modules, of the share of units that saturate for 85 % of the batch.
        activation_rms: Largest root mean square of a module's output.
        first_std_least: Smallest standard deviation of an inner module's output at the first step.
        first_std_largest: Largest of these.
        first_loss_excess: First loss / that of an uninformed model.
        input_least: Smallest element of the model's input.
        input_largest: Largest of these.
        input_rms: Root mean square of the model's input.
        feature_scale: Largest / smallest standard deviation over the input's features.
        dropout: Largest rate of a dropout module.
        affine_chain: 1 if one affine module feeds another directly, else 0.
        missing_softmax: 1 if a loss that takes log-probabilities gets rows that are none, else 0.
        rows_sum_to_one: Share of the loss call's rows that are probabilities already.
        class_perplexity: Perplexity of the batches' classes / their number.
        output_spread: Last spread of the model's output over the batch.
        twin_share: Largest, over weights, of the share of units equal to the first.
        evaluation_mode: Mean share of modules in evaluation mode while training.
        clip_ratio: Median gradient norm / bound, where something clips.
        attention_entropy: Smallest of the modules' last attention entropies.
    """

    nonfinite: float = 0.0
    loss_largest: float = nan
    loss_drop: float = nan
    loss_rebound: float = nan
    stale_periods: float = nan
    stagnant_share: float = nan
    accuracy_last: float = nan
    accuracy_gain: float = nan
    oscillation_share: float = nan
    correlation: float = nan
    evaluation_accuracy: float = nan
    evaluation_gap: float = nan
    evaluation_rise: float = nan
    gradient_first: float = nan
    gradient_ratio_least: float = nan
    gradient_ratio_largest: float = nan
    gradient_mean_least: float = nan
    gradient_mean_largest: float = nan
    gradient_growth: float = nan
    gradient_decay: float = nan
    gradient_zeros: float = nan
    update_ratio_least: float = nan
    update_ratio_largest: float = nan
    untouched_weights: float = nan
    lr: float = nan
    lr_effect_least: float = nan
    lr_effect_largest: float = nan
    weight_variance_least: float = nan
    weight_variance_largest: float = nan
    weight_largest: float = nan
    nonpositive_share: float = nan
    preactivation_share: float = nan
    dead_share: float = nan
    saturated_share: float = nan
    activation_rms: float = nan
    first_std_least: float = nan
    first_std_largest: float = nan
    first_loss_excess: float = nan
    input_least: float = nan
    input_largest: float = nan
    input_rms: float = nan
    feature_scale: float = nan
    dropout: float = nan
    affine_chain: float = nan
    missing_softmax: float = nan
    rows_sum_to_one: float = nan
    class_perplexity: float = nan
    output_spread: float = nan
    twin_share: float = nan
    evaluation_mode: float = nan
    clip_ratio: float = nan
    attention_entropy: float = nan

    def numbers(self) -> tuple[float, ...]:
        """All of them, in the order of `TRAITS`."""
        return astuple(self)


TRAITS = tuple(each.name for each in fields(Traits))
"""The names of the traits."""


def traits_of(run: Run) -> Traits:
    """The traits of a run."""
    weights = [each for each in run.parameters if each.trainable and len(each.shape) > 1]
    found: dict[str, float] = {}
    with np.errstate(all="ignore"):
        for part in (_progress(run), _gradients(run, weights), _updates(run, weights), _tensors(run), _facts(run)):
            found.update(part)
    return Traits(**found)


def _progress(run: Run) -> dict[str, float]:
    """How loss and accuracy went."""
    loss = _first_observed(run, "loss", "train/loss", "observed_loss")
    periods = _periods(loss, np.mean)
    accuracy = _series(run, "batch_accuracy")
    right = _periods(accuracy, np.mean)
    evaluated = _evaluations(run, "accuracy")
    losses = _evaluations(run, "loss")
    finite = _series(run, "finite")
    least = np.fmin.accumulate(periods) if len(periods) else periods
    better = np.flatnonzero(periods[1:] < least[:-1] * (1 - np.sign(least[:-1]) * 1e-4)) + 1
    swings = [_swing(each) for each in np.array_split(accuracy, PERIODS) if len(each) > 2]
    late = right[int(0.3 * len(right)) :]
    return {
        "nonfinite": float((finite == 0).any() or not np.isfinite(loss).all()),
        "loss_largest": _largest(loss),
        "loss_drop": 1 - _ratio(_at(periods, -1), _at(periods, 0)),
        "loss_rebound": _largest(periods[1:] / least[:-1]) if (least > 0).all() else nan,
        "stale_periods": float(len(periods) - 1 - (better[-1] if len(better) else 0)) if len(periods) else nan,
        "stagnant_share": _mean(periods[1:] > 0.95 * periods[:-1]),
        "accuracy_last": _at(right, -1),
        "accuracy_gain": _largest(np.diff(late)),
        "oscillation_share": _mean(np.array(swings) >= 0.03),
        "correlation": _correlation(_series(run, "observed_loss"), accuracy),
        "evaluation_accuracy": _at(evaluated, -1),
        "evaluation_gap": _at(right, -1) - _at(evaluated, -1),
        "evaluation_rise": _ratio(_at(losses, -1), _least(losses[:-1])),
    }


def _gradients(run: Run, weights: Sequence[Parameter]) -> dict[str, float]:
    """How gradients lie over depth and time."""
    if not weights:
        return {}
    norms = [_periods(_series(run, "grad_norm", each.path), np.median) for each in weights]
    means = [MEAN_PER_RMS * norm / sqrt(each.size) for each, norm in zip(weights, norms, strict=True)]
    total = _periods(_series(run, "grad_norm"), np.median)
    change = total[1:] / total[:-1]
    ratio = norms[0] / norms[-1] if len(norms[0]) == len(norms[-1]) and len(norms) > 1 else np.empty(0)
    return {
        "gradient_first": _least(norms[0]),
        "gradient_ratio_least": _least(ratio),
        "gradient_ratio_largest": _largest(ratio),
        "gradient_mean_least": _least(np.concatenate(means)),
        "gradient_mean_largest": _largest(np.concatenate(means)),
        "gradient_growth": _largest(change),
        "gradient_decay": _least(change),
    }


def _updates(run: Run, weights: Sequence[Parameter]) -> dict[str, float]:
    """How far updates move the weights."""
    groups = [_series(run, "lr", path) for path in run.paths("lr")]
    lr = max((_at(each, 0) for each in groups), default=nan)
    ratios = np.array([_middle(_series(run, "update_ratio", each.path)) for each in weights])
    effects = [
        lr * _ratio(_middle(_series(run, "grad_norm", each.path)), _middle(_series(run, "param_norm", each.path)))
        for each in weights
    ]
    untouched = [len(groups) > 0 and not _series(run, "update_norm", each.path).any() for each in weights]
    clip = _series(run, "clip_ratio")
    return {
        "update_ratio_least": _least(ratios),
        "update_ratio_largest": _largest(ratios),
        "untouched_weights": float(sum(untouched)),
        "lr": lr,
        "lr_effect_least": _least(np.array(effects)),
        "lr_effect_largest": _largest(np.array(effects)),
        "clip_ratio": _middle(clip),
    }


def _tensors(run: Run) -> dict[str, float]:
    """Shares of elements and units, at the first and at the last step that was recorded in full detail."""
    if not run.details:
        return {}
    first, last = run.detail(run.details[0]), run.detail(run.details[-1])
    kinds = {each.path: each.kind for each in run.modules}
    shapes = {each.path: each.shape for each in run.parameters}
    outputs = last.of("activation")
    inner = [each.path for each in first.of("activation")][:-1]
    affine = [each for each in outputs if kinds.get(each.path) == "affine" and each.path in inner]
    rectified = [each for each in outputs if kinds.get(each.path) == "activation" and each.minimum >= 0]
    matrices = [each for each in last.of("param") if len(shapes.get(each.path, ())) > 1]
    grads = last.of("grad")
    stds = np.array([each.std for each in first.of("activation") if each.path in inner])
    return {
        "gradient_zeros": sum(each.histogram.zeros for each in grads) / max(1, sum(each.count for each in grads)),
        "nonpositive_share": _largest([each.histogram.zeros / each.count for each in rectified]),
        "preactivation_share": _largest(
            [1 - each.histogram.fraction_below(5.0) + each.histogram.fraction_below(-5.0) for each in affine]
        ),
        "activation_rms": _largest([sqrt(each.mean_square) for each in outputs if np.isfinite(each.mean)]),
        "weight_variance_least": _least([each.std**2 for each in matrices]),
        "weight_variance_largest": _largest([each.std**2 for each in matrices]),
        "weight_largest": _largest([max(-each.minimum, each.maximum) for each in matrices]),
        "dead_share": _stuck(last, "zero", 0.95),
        "saturated_share": _stuck(last, "saturated", 0.85),
        "first_std_least": _least(stds),
        "first_std_largest": _largest(stds),
    }


def _facts(run: Run) -> dict[str, float]:
    """What the first pass and the first loss call showed, and what is measured of the batches."""
    found: dict[str, float] = {"dropout": _largest([nan if each.rate is None else each.rate for each in run.modules])}
    kinds = {each.path: each.kind for each in run.modules}
    anatomy, audit = run.anatomy, run.audit
    if anatomy is not None:
        chain = [(kinds.get(each.source), kinds.get(each.target)) == ("affine", "affine") for each in anatomy.feeds]
        found["affine_chain"] = float(any(chain))
        found["feature_scale"] = _number(anatomy.feature_scale)
        if anatomy.input is not None:
            found["input_least"], found["input_largest"] = anatomy.input.minimum, anatomy.input.maximum
            found["input_rms"] = sqrt(anatomy.input.mean**2 + anatomy.input.std**2)
    if audit is not None:
        found["first_loss_excess"] = audit.value / audit.expected if audit.expected else nan
        found["rows_sum_to_one"] = _number(audit.rows_sum_to_one)
        if audit.rows_log_sum_to_one is not None and audit.loss == "nll_loss":
            found["missing_softmax"] = float(audit.rows_log_sum_to_one < 0.5)
        if audit.classes:
            found["class_perplexity"] = float(np.exp(_middle(_series(run, "target_entropy")))) / audit.classes
    found["output_spread"] = _at(_series(run, "output_spread"), -1)
    found["twin_share"] = _largest(
        [_at(_series(run, "twin_fraction", path), -1) for path in run.paths("twin_fraction")]
    )
    found["evaluation_mode"] = _mean(_series(run, "evaluation_mode"))
    entropies = [_at(_series(run, "attention_entropy", path), -1) for path in run.paths("attention_entropy")]
    found["attention_entropy"] = _least(entropies)
    return found


def _series(run: Run, metric: str, path: str = "") -> Array:
    """The values of a series; empty where it was not observed."""
    if not path and not run.paths(metric):
        return np.empty(0)
    return _values(run.series(metric, path))


def _values(series: Series) -> Array:
    return np.asarray(series)


def _first_observed(run: Run, *metrics: str) -> Array:
    known = run.metrics
    return next((_series(run, each) for each in metrics if each in known), np.empty(0))


def _evaluations(run: Run, name: str) -> Array:
    """A number of the first evaluation that logged it, as `val/accuracy`."""
    metric = next((each for each in run.metrics if each.endswith(f"/{name}") and each != f"train/{name}"), None)
    return np.empty(0) if metric is None else _series(run, metric)


def _periods(values: Array, reduce: Callable[[Array], Any]) -> Array:
    """One number for each of up to twenty periods of equal length; only finite values count."""
    parts = [each[np.isfinite(each)] for each in np.array_split(values, min(PERIODS, max(1, len(values))))]
    return np.array([float(reduce(each)) for each in parts if len(each)])


def _swing(values: Array) -> float:
    """How far values fall from a peak to a later trough."""
    return float((np.maximum.accumulate(values) - values).max())


def _correlation(left: Array, right: Array) -> float:
    if len(left) != len(right) or len(left) < 3 or left.std() == 0 or right.std() == 0:
        return nan
    return float(abs(np.corrcoef(left, right)[0, 1]))


def _stuck(detail: "Detail", kind: str, share: float) -> float:
    """Largest share, over modules, of the units that are stuck for a share of the batch."""
    return _largest([float((each.fractions >= share).mean()) for each in detail.units if each.kind == kind])


def _largest(values: Iterable[float]) -> float:
    known = [float(each) for each in values if each == each]
    return max(known, default=nan)


def _least(values: Iterable[float]) -> float:
    known = [float(each) for each in values if each == each]
    return min(known, default=nan)


def _middle(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else nan


def _mean(values: NDArray[np.generic]) -> float:
    return float(np.mean(values.astype(np.float64))) if len(values) else nan


def _at(values: Array, index: int) -> float:
    return float(values[index]) if len(values) else nan


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else nan


def _number(value: float | None) -> float:
    return nan if value is None else value
