"""LossCall: one call of a loss function of torch.nn.functional, and what it says of the batch.

Nothing here waits for an accelerator, except where an `Audit` is made of the first call.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from auscult.core.audit import Audit, Spread
from auscult.metrics.batch import LIMIT, WHOLE, moments, spread, sums_to_one
from auscult.metrics.norms import is_transformed, measurable
from auscult.metrics.sample import sample, table, thin, wide

Kind = Literal["classes", "binary", "squared", "absolute", "regression", "other"]

KINDS: dict[Callable[..., Any], Kind] = {
    functional.cross_entropy: "classes",
    functional.nll_loss: "classes",
    functional.binary_cross_entropy: "binary",
    functional.binary_cross_entropy_with_logits: "binary",
    functional.mse_loss: "squared",
    functional.l1_loss: "absolute",
    functional.smooth_l1_loss: "regression",
    functional.huber_loss: "regression",
    functional.kl_div: "other",
    functional.multi_margin_loss: "other",
    functional.soft_margin_loss: "other",
    functional.gaussian_nll_loss: "other",
    functional.poisson_nll_loss: "other",
}
"""The loss functions that are known, and what their targets are."""
SEEN = 2**22  # predictions that are looked at on a sampled step


@dataclass(frozen=True, slots=True)
class LossCall:
    """What a loss function was given, and what it returned.

    Attributes:
        name: The function, as `cross_entropy`.
        kind: What its targets are.
        prediction: Its first argument, detached.
        target: Its second argument, detached.
        result: What it returned, as it is.
        reduction: `mean`, `sum` or `none`.
        plain: Whether no weight, no smoothing and nothing else made it another function of the same targets.
        ignored: The class index that does not count; None where there are no class indices.
        bend: The error at which smooth_l1_loss or huber_loss goes over from squared to absolute.
    """

    name: str
    kind: Kind
    prediction: Tensor
    target: Tensor
    result: Tensor
    reduction: str
    plain: bool
    ignored: int | None
    bend: float = 1.0

    @classmethod
    def read(
        cls, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: object
    ) -> "LossCall | None":
        """A call of one of `KINDS`; None where an argument or the result is no tensor with values."""
        values = dict(zip(_names(function), args)) | dict(kwargs)
        prediction, target = values.get("input"), values.get("target")
        if not (isinstance(prediction, Tensor) and isinstance(target, Tensor) and isinstance(result, Tensor)):
            return None
        given = (prediction, target, result)
        if any(is_transformed(each) or not measurable(each) or each.layout != torch.strided for each in given):
            return None
        kind = KINDS[function]
        indices = kind == "classes" and not target.is_floating_point()
        changed = any(values.get(name) is not None for name in ("weight", "pos_weight"))
        return cls(
            name=function.__name__,
            kind=kind,
            prediction=prediction.detach(),
            target=target.detach(),
            result=result,
            reduction=_reduction(values),
            plain=not changed and not values.get("label_smoothing"),
            ignored=int(values.get("ignore_index", -100)) if indices else None,
            bend=float(values.get("beta", values.get("delta", 1.0))),
        )

    @property
    def axis(self) -> int:
        """The dimension of the predictions that counts classes or columns."""
        return 0 if self.prediction.ndim < 2 else -1 if self.name == "kl_div" else 1

    @property
    def classes(self) -> int | None:
        """C of a classification."""
        if self.kind == "classes" and self.prediction.ndim:
            return self.prediction.shape[self.axis]
        return 2 if self.kind == "binary" else None

    def figures(self) -> dict[str, Tensor]:
        """What the call says of the batch, by name of the metric: scalars on their device, NaN where not observed."""
        found = {"observed_loss": wide(self.result.detach()).mean()}
        if not self.target.numel() or not self.prediction.numel():
            return found
        if self.kind == "classes":
            found |= self._figures_of_classes()
        elif self.kind == "binary":
            found |= self._figures_of_pairs()
        elif self.kind != "other":
            found |= self._figures_of_numbers()
        if self.target.is_floating_point():
            found["target_mean"], found["target_std"], _ = moments(self.target)
        return found

    def _figures_of_classes(self) -> dict[str, Tensor]:
        whole = self.prediction.movedim(self.axis, -1)
        classes = whole.shape[-1]
        scores = thin(whole, SEEN, keep=1)
        if self.ignored is not None:
            counted = self.target != self.ignored
            total = counted.sum()
            labels = torch.where(thin(counted, WHOLE), thin(self.target, WHOLE), classes).long().reshape(-1)
            bins = torch.zeros(classes + 1, dtype=torch.int64, device=labels.device)
            counts = bins.scatter_add_(0, labels, torch.ones_like(labels))[:-1]
            shares = wide(counts) / counts.sum()
            among = _like(counted, whole, scores)
            right = (scores.argmax(-1) == _like(self.target, whole, scores)) & among
            seen = among.sum()
        else:
            soft = self.target.movedim(self.axis, -1)
            shares = table(self.target, self.axis, WHOLE).mean(0)
            total = soft.numel() // classes
            right = scores.argmax(-1) == thin(soft, SEEN, keep=1).argmax(-1)
            seen = right.numel()
        entropy = -torch.special.xlogy(shares, shares).sum()
        accuracy = wide(right.sum()) / seen
        found = {"batch_accuracy": accuracy, "target_entropy": entropy, "largest_class": shares.amax()}
        if self.plain:
            found["uninformed_loss"] = self._reduced(entropy, total)
        return found

    def _figures_of_pairs(self) -> dict[str, Tensor]:
        if self.prediction.shape != self.target.shape:
            return {}
        bound = 0.0 if self.name.endswith("with_logits") else 0.5
        right = (thin(self.prediction, LIMIT) > bound) == (thin(self.target, LIMIT) > 0.5)
        found = {"batch_accuracy": wide(right).mean()}
        shares = table(self.target.reshape(-1, 1) if self.target.ndim < 2 else self.target, 1, WHOLE).mean(0)
        entropies = -torch.special.xlogy(shares, shares) - torch.special.xlogy(1 - shares, 1 - shares)
        if self.plain:
            found["uninformed_loss"] = self._reduced(entropies.mean(), self.target.numel())
        if shares.numel() == 1:
            found["target_entropy"] = entropies[0]
            found["largest_class"] = torch.maximum(shares[0], 1 - shares[0])
        return found

    def _figures_of_numbers(self) -> dict[str, Tensor]:
        targets = wide(thin(self.target, LIMIT))
        found: dict[str, Tensor] = {}
        variance = targets.var(correction=0)
        if self.prediction.shape == self.target.shape:
            errors = (wide(thin(self.prediction, LIMIT)) - targets).square().mean()
            found["batch_r2"] = torch.where(variance > 0, 1 - errors / variance, torch.nan)
        if self.plain and self.kind in ("squared", "absolute", "regression"):
            loss = variance if self.kind == "squared" else self._of_errors((targets - targets.median()).abs()).mean()
            total = math.prod(torch.broadcast_shapes(self.prediction.shape, self.target.shape))
            found["uninformed_loss"] = self._reduced(loss, total)
        return found

    def _of_errors(self, sizes: Tensor) -> Tensor:
        """The absolute, smooth L1 or Huber loss of errors of these sizes."""
        if self.kind == "absolute" or self.bend == 0:
            return sizes
        smooth = torch.where(sizes < self.bend, 0.5 * sizes.square() / self.bend, sizes - 0.5 * self.bend)
        return smooth * self.bend if self.name == "huber_loss" else smooth

    def _reduced(self, mean: Tensor, total: Tensor | int) -> Tensor:
        """A mean over so many targets, reduced as the loss was; the mean of a loss that was not counts all of them."""
        if self.reduction == "mean":
            return mean
        return mean * total / (1 if self.reduction == "sum" else self.result.numel())


class LossFacts:
    """What the audit of a call needs, still on its device: the call itself is not kept."""

    def __init__(self, call: LossCall) -> None:
        self._name, self._classes, self._reduction = call.name, call.classes, call.reduction
        self._shapes = tuple(call.prediction.shape), tuple(call.target.shape)
        self._value = wide(call.result.detach()).mean()
        self._expected = _expected(call)
        self._spreads = [spread(each) if _is_real(each) else None for each in (call.prediction, call.target)]
        self._shares: list[Tensor | None] = [None, None, None]
        if call.prediction.is_floating_point() and call.prediction.numel():
            self._shares = [
                sums_to_one(call.prediction, call.axis),
                sums_to_one(call.prediction, call.axis, logarithms=True),
                _columns(call),
            ]
        self._one_hot = _is_one_hot(call.target, call.axis)
        self._whole = _is_whole(call.target)
        self._counted = None if call.ignored is None else (call.target != call.ignored).sum()

    def audit(self, step: int) -> Audit:
        """The audit of the call; waits for the device."""
        prediction, target = (None if each is None else Spread(*each.tolist()) for each in self._spreads)
        rows, logarithms, columns = (None if each is None else float(each) for each in self._shares)
        return Audit(
            step=step,
            loss=self._name,
            value=float(self._value),
            expected=float(self._expected) if isinstance(self._expected, Tensor) else self._expected,
            classes=self._classes,
            reduction=self._reduction,
            input_shape=self._shapes[0],
            target_shape=self._shapes[1],
            prediction=prediction,
            target=target,
            rows_sum_to_one=rows,
            rows_log_sum_to_one=logarithms,
            columns_sum_to_one=columns,
            one_hot_targets=None if self._one_hot is None else bool(self._one_hot),
            whole_targets=None if self._whole is None else bool(self._whole),
            counted=None if self._counted is None else int(self._counted),
        )


def _expected(call: LossCall) -> Tensor | float | None:
    """The loss of an uninformed model, of calls that are plain and reduced by the mean."""
    if not call.plain or call.reduction != "mean":
        return None
    if call.classes:
        return math.log(call.classes)
    if call.kind == "squared" and call.target.numel() > 1:
        return sample(call.target).var(correction=0)
    return None


def _columns(call: LossCall) -> Tensor | None:
    """Share of the columns that are distributions over the batch, as they are or, for nll_loss, as logarithms."""
    plain, logarithms = (sums_to_one(call.prediction, 0, logarithms=each) for each in (False, True))
    return plain if call.name != "nll_loss" or plain is None or logarithms is None else plain.maximum(logarithms)


def _is_one_hot(target: Tensor, axis: int) -> Tensor | None:
    """Whether every row has a single 1 and 0 elsewhere; None where there are no rows of two or more."""
    if target.ndim < 2 or target.shape[axis] < 2 or not _is_real(target):
        return None
    rows = table(target, axis, WHOLE)
    return (((rows == 0) | (rows == 1)).all(1) & (rows.sum(1) == 1)).all()


def _is_whole(target: Tensor) -> Tensor | bool | None:
    """Whether every element is a whole number; None where there are none."""
    if not _is_real(target):
        return None
    return (target == target.floor()).all() if target.is_floating_point() else True


def _is_real(tensor: Tensor) -> bool:
    return tensor.numel() > 0 and not tensor.is_complex()


def _like(targets: Tensor, whole: Tensor, thinned: Tensor) -> Tensor:
    """The targets of those predictions `(..., C)` that are left when these have been thinned."""
    if thinned.shape == whole.shape:
        return targets
    return thin(targets.unsqueeze(-1).expand(whole.shape), SEEN, keep=1)[..., 0]


def _reduction(values: Mapping[str, Any]) -> str:
    """How the loss is reduced, by the argument of today or those that it has replaced."""
    if values.get("reduce") is None and values.get("size_average") is None:
        return str(values.get("reduction", "mean"))
    if values.get("reduce") is False:
        return "none"
    return "sum" if values.get("size_average") is False else "mean"


@cache
def _names(function: Callable[..., Any]) -> tuple[str, ...]:
    """The parameters of a loss function, in order."""
    return tuple(signature(function).parameters)
