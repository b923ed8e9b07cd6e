"""Marks: what each gradient was when the backward pass ended, so that a change by anybody unheard is noticed later."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd import Variable

_current: Callable[[], int] | None = getattr(getattr(torch, "_C", None), "_current_graph_task_id", None)


class Marks:
    """Remembers identity and version of the gradients of a few parameters; column k is parameter k.

    Noticed is every in-place operation on `p.grad` and every other tensor put in its place. Not noticed are operations
    that leave the version alone: those on `p.grad.data`, `GradScaler.unscale_`, and kernels of other libraries.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._seen: list[tuple[int, int] | None] = [None] * len(self._parameters)
        self._changed: set[int] = set()

    def remember(self) -> None:
        """A backward pass has ended: the gradients are what it left."""
        self._seen = [None if grad is None else (id(grad), grad._version) for grad in map(_grad, self._parameters)]
        self._changed.clear()

    def changed(self, positions: Iterable[int]) -> list[int]:
        """Positions whose gradient is there and not known to be what a backward pass left.

        Once named, a position stays so until `remember`, whatever `renew` is told.
        """
        for position in positions:
            grad = self._parameters[position].grad
            if grad is not None and self._seen[position] != (id(grad), grad._version):
                self._changed.add(position)
        return [position for position in positions if position in self._changed]

    def renew(self, positions: Iterable[int]) -> None:
        """These gradients have been changed by somebody who was heard doing it."""
        for position in positions:
            grad = self._parameters[position].grad
            self._seen[position] = None if grad is None else (id(grad), grad._version)


def at_end_of_backward(call: Callable[[], None]) -> bool:
    """From inside a backward pass (a hook), have something called when it is over.

    Over means after everything that DistributedDataParallel, FSDP2 and activation checkpointing do at its end, hence
    from a callback that is asked for at the end itself.

    Args:
        call: What is called; an exception would reach the user's `backward()`.

    Returns:
        Whether it will be called; False outside of a backward pass, or where this torch has no such callbacks.
    """
    engine = getattr(Variable, "_execution_engine", None)
    queue = getattr(engine, "queue_callback", None)
    if queue is None:
        return False
    try:
        queue(lambda: queue(call))
    except RuntimeError:  # no backward pass is running in this thread
        return False
    return True


def running_backward() -> int:
    """Number of the backward pass that runs in this thread; -1 outside, or where this torch does not tell."""
    return -1 if _current is None else _current()


def _grad(parameter: nn.Parameter) -> Tensor | None:
    return parameter.grad
