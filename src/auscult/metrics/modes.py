"""Modes: which modules of a model act differently in training and in evaluation, and in which mode they are."""

from collections.abc import Iterator
from weakref import ref

from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]  (of batch and instance norm)
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]  (of all kinds of dropout)

from auscult.metrics.parameters import unwrap


class Modes:
    """Knows dropout, normalisation that keeps running statistics, and what has dropout inside (attention, recurrent).

    Args:
        model: The model; modules that it gets later are not known.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = [ref(each) for each in unwrap(model).modules() if _rate(each) is not None or _tracks(each)]

    def matter(self) -> bool:
        """Whether the model acts differently in training and in evaluation, as far as is known."""
        return next(self._dependent(), None) is not None

    def share_in_evaluation(self) -> float | None:
        """Share of the modules that act differently which are in evaluation mode; None where there are none."""
        evaluating = [not each.training for each in self._dependent()]
        return sum(evaluating) / len(evaluating) if evaluating else None

    def _dependent(self) -> Iterator[nn.Module]:
        modules = (module for each in self._modules if (module := each()) is not None)
        return (each for each in modules if _rate(each) or _tracks(each))


def _rate(module: nn.Module) -> float | None:
    """The rate of a module's dropout; None for one that has none."""
    if isinstance(module, _DropoutNd):
        return float(module.p)
    if isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
        return float(module.dropout)
    return None


def _tracks(module: nn.Module) -> bool:
    return isinstance(module, _NormBase) and bool(module.track_running_stats)
