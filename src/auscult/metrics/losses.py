"""Losses: the first loss call of a step, seen while it is made, and losses by category."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from auscult.core.errors import SetupError
from auscult.metrics.losscall import KINDS, LossCall
from auscult.metrics.stretch import DIFFERENCES, Stretch
from auscult.metrics.taps import FunctionTap


class LossTap(FunctionTap):
    """Sees the first loss call of torch.nn.functional between `begin` and `end`.

    Args:
        seen: Told of the call, whose result has a gradient; what it raises does not reach the user's training.
        stretched: Told of each difference before that call in which both sides were stretched to a larger shape.
    """

    def __init__(self, seen: Callable[[LossCall], None], stretched: Callable[[Stretch], None] | None = None) -> None:
        super().__init__(KINDS.keys() if stretched is None else KINDS.keys() | DIFFERENCES)
        self._seen, self._stretched = seen, stretched

    def hear(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: object
    ) -> None:
        """A loss was computed; where only the function itself understands its arguments, it is not observed."""
        if function in DIFFERENCES:
            stretch = Stretch.read(args, result)
            if stretch is not None and self._stretched is not None:
                self._stretched(stretch)
            return
        call = LossCall.read(function, args, kwargs, result)
        if call is not None and call.result.requires_grad:
            self.wanted = False
            self._seen(call)


def by_category(
    losses: Tensor | Sequence[float],
    categories: Sequence[object] | Tensor,
    lengths: Tensor | Sequence[float] | None = None,
) -> dict[tuple[str, str], tuple[float, float]]:
    """Sums of losses by category, normalised by length.

    Args:
        losses: Loss of each sample, `(N,)`; with `lengths`, the sum over its tokens.
        categories: Category of each sample, N of anything `str` can name.
        lengths: Tokens of each sample, `(N,)`, > 0.

    Returns:
        (metric, category) to (numerator, denominator), so that the calls of one step can be added up before dividing.

    Raises:
        SetupError: if the lengths differ or a length is not positive.
    """
    loss = torch.as_tensor(losses).detach().double().flatten().cpu()
    size = torch.ones_like(loss) if lengths is None else torch.as_tensor(lengths).detach().double().flatten().cpu()
    names = [str(each) for each in (categories.tolist() if isinstance(categories, Tensor) else categories)]
    if not len(loss) == len(names) == len(size):
        raise SetupError(
            f"Expected `losses`, `categories` and `lengths` to be equally long, but got {len(loss)}, {len(names)} and "
            f"{len(size)}. Was the loss reduced? Compute it with reduction='none'."
        )
    if not bool((size > 0).all()):
        raise SetupError("Expected `lengths` to be positive, but some are not. Leave empty samples out.")
    sums: dict[tuple[str, str], tuple[float, float]] = {}
    for name, value, tokens in zip(names, loss.tolist(), size.tolist()):
        _add(sums, ("category_loss", name), value / tokens, 1.0)
        _add(sums, ("category_count", name), 1.0, 0.0)
        if lengths is not None:
            _add(sums, ("category_loss_per_token", name), value, tokens)
    return sums


def _add(sums: dict[tuple[str, str], tuple[float, float]], key: tuple[str, str], above: float, below: float) -> None:
    numerator, denominator = sums.get(key, (0.0, 0.0))
    sums[key] = (numerator + above, denominator + below)
