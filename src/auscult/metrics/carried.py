"""Carried: whether a backward pass adds to the very gradients that an update has already used."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from auscult.metrics.norms import measurable
from auscult.metrics.sample import sample


class _Mark:
    """The gradient of one parameter as the update left it, and what was added to it since."""

    def __init__(self, gradient: Tensor) -> None:
        self.identity = id(gradient)
        self.version = gradient._version
        self.added = 0  # backward passes that have reached it
        self.reached = False
        self.intact = True  # nothing else has touched it
        self.filled: Tensor | None = None  # whether it was other than 0 when the first of them came

    def before_adding(self, gradient: Tensor | None) -> None:
        """A backward pass is about to add to what is now the gradient of the parameter."""
        if not self.intact:
            return
        if gradient is None or not self._fits(gradient):
            self.intact, self.reached = False, True
        elif self.filled is None:
            with torch.no_grad():
                self.filled = (sample(gradient) != 0).any().double()

    def after_adding(self, gradient: Tensor | None) -> None:
        """It has added to it."""
        self.reached = True
        self.added += 1
        self.intact = self.intact and gradient is not None and self._fits(gradient)

    def _fits(self, gradient: Tensor) -> bool:
        """Whether this is the same gradient, with nothing but backward passes added."""
        return (id(gradient), gradient._version) == (self.identity, self.version + self.added)


class CarriedGradients:
    """Watches the gradients of two parameters, the first and the last that have one, from one update to the next.

    A gradient is carried if the tensor that the update used is still there, is not all zero, and has had nothing done
    to it but what backward passes added. `zero_grad` of either kind, before or after the forward pass or between two
    backward passes of a step, makes it another one; so does clipping each micro-batch. `torch.autograd.grad`, which
    adds nothing, decides nothing.

    Args:
        parameters: The parameters that optimizers hold.
        failed: Told of an exception inside a hook, which never reaches the user's backward pass.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], failed: Callable[[Exception], None]) -> None:
        self._parameters = list(parameters)
        self._failed = failed
        self._marks: list[_Mark] = []
        self._handles: list[RemovableHandle] = []
        self._none = False  # the update left no gradient at all

    def begin(self) -> None:
        """An update has been made, and nothing has been done to the gradients since."""
        self.close()
        first = next((each for each in self._parameters if _has_gradient(each)), None)
        last = next((each for each in reversed(self._parameters) if _has_gradient(each)), None)
        self._none = first is None and all(each.grad is None for each in self._parameters)
        for each in (first,) if first is last else (first, last):
            if each is not None and each.grad is not None:
                mark = _Mark(each.grad)
                self._marks.append(mark)
                self._handles.append(each.register_hook(partial(self._before_adding, mark, each)))
                self._handles.append(each.register_post_accumulate_grad_hook(partial(self._after_adding, mark)))

    def told(self) -> Tensor | float | None:
        """Whether the backward passes since then found a gradient carried; it ceases to watch.

        Returns:
            1 or 0; None where none came, or where no gradient is of a kind that can be told (sparse, complex, sharded).
        """
        marks, self._marks = self._marks, []
        self.close()
        carried = [each.filled for each in marks if each.added and each.intact and each.filled is not None]
        if carried:
            return carried[0] if len(carried) == 1 else torch.maximum(carried[0], carried[1].to(carried[0].device))
        return 0.0 if self._none or any(each.reached for each in marks) else None

    def close(self) -> None:
        """Take the hooks off."""
        for each in self._handles:
            each.remove()
        self._handles.clear()
        self._marks.clear()

    def _before_adding(self, mark: _Mark, parameter: nn.Parameter, gradient: Tensor) -> None:
        try:
            mark.before_adding(parameter.grad)
        except Exception as error:
            self._failed(error)

    def _after_adding(self, mark: _Mark, parameter: Tensor) -> None:
        try:
            mark.after_adding(parameter.grad)
        except Exception as error:
            self._failed(error)


def _has_gradient(parameter: nn.Parameter) -> bool:
    gradient = parameter.grad
    if gradient is None or gradient.layout != torch.strided or not gradient.is_floating_point():
        return False
    return parameter.requires_grad and gradient.numel() > 0 and measurable(gradient)
