"""Losses: the first loss call as it was, and losses by category."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from auscult.core.audit import Audit
from auscult.core.errors import SetupError

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


class LossAudit(TorchFunctionMode):
    """Sees the first loss call of torch.nn.functional between `begin` and `end`, and changes nothing.

    It is put on the stack of torch function modes only when that is empty, so that it never comes between a mode of the
    user's and its exit; where that is not so, the loss is not observed.

    Attributes:
        call: What was seen.
        active: Whether it is on the stack.
    """

    def __init__(self) -> None:
        super().__init__()
        self.call: dict[str, Any] | None = None
        self.active = False

    def begin(self) -> None:
        """Start to look."""
        if not self.active and not _stack():
            self.__enter__()
            self.active = True

    def end(self) -> None:
        """Stop looking; where another mode was put on top meanwhile, look away but stay."""
        if self.active and _stack()[-1:] == [self]:
            self.__exit__(None, None, None)
            self.active = False

    def audit(self, step: int) -> Audit | None:
        """What was seen, or None."""
        return None if self.call is None else Audit(step=step, **self.call)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        result = func(*args, **given)
        if self.call is None and func in _LOSSES and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            with suppress(Exception):  # tensors without values: meta, fake, inside vmap; then the loss is not observed
                self.call = _describe(func, args, given, result)
        return result


def _stack() -> list[object]:
    """The torch function modes now in force; `[None]` where this torch does not tell."""
    current = getattr(torch.overrides, "_get_current_function_mode_stack", None)
    return [None] if current is None else list(current())


def _describe(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> dict[str, Any] | None:
    values = dict(zip(("input", "target", "weight"), args)) | kwargs
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
