"""Stretch: a difference between predictions and targets that was taken between every one and every other.

What a loss that is written by hand shows of its shapes: (N, 1) - (N,) is (N, N).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from auscult.core.audit import Audit, Spread
from auscult.metrics.batch import spread
from auscult.metrics.norms import is_transformed, measurable
from auscult.metrics.sample import wide

DIFFERENCES: frozenset[Callable[..., Any]] = frozenset({torch.Tensor.sub, torch.sub, torch.subtract})


@dataclass(frozen=True, slots=True)
class Stretch:
    """Two tensors of as many elements, but other dimensions, whose difference has the shape of neither.

    Attributes:
        prediction: The one with a gradient, detached.
        target: The one without.
        value: Mean squared difference, on its device.
    """

    prediction: Tensor
    target: Tensor
    value: Tensor

    @classmethod
    def read(cls, args: Sequence[Any], result: object) -> "Stretch | None":
        """A difference of two tensors; None where neither or one alone was stretched, or both have a gradient."""
        if len(args) != 2 or not all(isinstance(each, Tensor) for each in (*args, result)):
            return None
        left, right, both = args[0], args[1], result
        assert isinstance(both, Tensor)
        if left.ndim == right.ndim or left.numel() != right.numel() or left.requires_grad == right.requires_grad:
            return None
        if both.shape in (left.shape, right.shape):
            return None
        if any(is_transformed(each) or not measurable(each) for each in (left, right, both)) or not both.numel():
            return None
        prediction, target = (left, right) if left.requires_grad else (right, left)
        return cls(prediction.detach(), target.detach(), wide(both.detach()).square().mean())


class StretchFacts:
    """What an audit tells of it, still on its device: the tensors themselves are not kept."""

    def __init__(self, stretch: Stretch) -> None:
        self._shapes = tuple(stretch.prediction.shape), tuple(stretch.target.shape)
        self._spreads = spread(stretch.prediction), spread(stretch.target)
        self._value = stretch.value

    def audit(self, step: int) -> Audit:
        """As that of a loss call named `difference`; waits for the device."""
        prediction, target = (Spread(*each.tolist()) for each in self._spreads)
        return Audit(step, "difference", float(self._value), None, None, "none", *self._shapes, prediction, target)
