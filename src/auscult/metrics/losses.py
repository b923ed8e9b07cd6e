"""Losses: the first loss call as it was, and losses by category."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from auscult.core.audit import Audit
from auscult.core.errors import SetupError
from auscult.metrics.taps import FunctionTap

_CLASSIFICATION = {functional.cross_entropy: "cross_entropy", functional.nll_loss: "nll_loss"}
_BINARY = {
    functional.binary_cross_entropy: "binary_cross_entropy",
    functional.binary_cross_entropy_with_logits: "binary_cross_entropy_with_logits",
}
_SQUARED = {functional.mse_loss: "mse_loss"}
_OTHER = {
    functional.l1_loss: "l1_loss",
    functional.smooth_l1_loss: "smooth_l1_loss",
    functional.huber_loss: "huber_loss",
    functional.kl_div: "kl_div",
}
_LOSSES: dict[Callable[..., Any], str] = {**_CLASSIFICATION, **_BINARY, **_SQUARED, **_OTHER}


class LossAudit(FunctionTap):
    """Sees the first loss call of torch.nn.functional between `begin` and `end`.

    Attributes:
        call: What was seen.
    """

    def __init__(self) -> None:
        super().__init__(_LOSSES)
        self.call: dict[str, Any] | None = None

    def audit(self, step: int) -> Audit | None:
        """What was seen, or None."""
        return None if self.call is None else Audit(step=step, **self.call)

    def hear(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: object
    ) -> None:
        """A loss was computed."""
        if self.call is None:
            with suppress(Exception):  # tensors without values: meta, fake, inside vmap; then the loss is not observed
                self.call = _describe(function, args, kwargs, result)


def _describe(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: object
) -> dict[str, Any] | None:
    values = dict(zip(("input", "target", "weight"), args)) | dict(kwargs)
    given, target = values.get("input"), values.get("target")
    if not (isinstance(given, Tensor) and isinstance(target, Tensor) and isinstance(result, Tensor)):
        return None
    reduction = str(values.get("reduction", "mean"))
    plain = reduction == "mean" and values.get("weight") is None and not values.get("label_smoothing")
    classes = expected = None
    if func in _CLASSIFICATION and given.ndim:
        classes = int(given.shape[1] if given.ndim > 1 else given.shape[0])
        expected = math.log(classes) if plain else None
    elif func in _BINARY:
        classes = 2
        expected = math.log(2) if plain and values.get("pos_weight") is None else None
    elif func in _SQUARED and plain and target.numel() > 1:
        expected = float(target.detach().double().var(correction=0))
    return {
        "loss": _LOSSES[func],
        "value": float(result.detach().double().mean()),
        "expected": expected,
        "classes": classes,
        "reduction": reduction,
        "input_shape": tuple(given.shape),
        "target_shape": tuple(target.shape),
    }


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
