"""Arguments: what users hand to `watch`, to a monitor and to their model, checked or understood."""

from collections.abc import Iterable, Mapping, Sequence, ValuesView
from itertools import islice
from operator import index
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from auscult.core.errors import SetupError

Number = float | Tensor


def step_number(step: object) -> int:
    """The number of an update.

    Raises:
        SetupError: if it is none.
    """
    try:
        number = index(step)  # pyright: ignore[reportArgumentType]  (that it may be anything is what is checked)
    except TypeError:
        number = -1
    if number < 0:
        raise SetupError(f"Expected `step` to be a whole number of updates, 0 or more, but got {step!r}.")
    return number


def last_step(steps: object) -> int | None:
    """The last of so many updates."""
    if steps is None:
        return None
    try:
        return step_number(steps) - 1
    except SetupError:
        raise SetupError(
            f"Expected `steps` to be the number of updates of the whole training, but got {steps!r}. "
            "Write steps=epochs * len(loader), or leave it out."
        ) from None


def optimizers_by_name(optimizer: Optimizer | Sequence[Optimizer] | Mapping[str, Optimizer]) -> dict[str, Optimizer]:
    """Optimizers by name; the only one is called `""`."""
    named: dict[str, Optimizer]
    if isinstance(optimizer, Mapping):
        named = dict(optimizer)
    elif isinstance(optimizer, Sequence):
        named = {str(number) if len(optimizer) > 1 else "": each for number, each in enumerate(optimizer)}
    else:
        named = {"": optimizer}
    if not named:
        raise SetupError("Expected at least one optimizer, but got none. Write watch(model, optimizer, path).")
    return named


def as_number(name: str, value: Any) -> Number:
    """A number to log: a float, or a detached tensor where reading it would wait for an accelerator.

    Raises:
        SetupError: if it is neither a number nor a tensor with one element.
    """
    try:
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise TypeError(f"a tensor of shape {tuple(value.shape)}")
            if any(not each.is_replicate() for each in getattr(value, "placements", ())):
                raise TypeError("a DTensor that no rank holds whole (write value.full_tensor())")
            return float(value.item()) if value.is_cpu else value.detach().clone()
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise SetupError(
            f"Expected `{name}` to be a number or a tensor with one element, but got {error}. "
            f"Was it reduced? Write monitor.log({name}=loss.mean())."
        ) from None


def batch_size(inputs: Iterable[Any], depth: int = 0) -> int:
    """Size of the first dimension of the first tensor among a model's inputs; 0 where there is none nearby."""
    for value in islice(inputs, 16):
        if isinstance(value, Tensor):
            return value.shape[0] if value.ndim else 1
        nested = value.values() if isinstance(value, Mapping) else value
        if depth < 2 and isinstance(nested, (list, tuple, ValuesView)) and (size := batch_size(nested, depth + 1)):
            return size
    return 0


def is_compiled(model: nn.Module) -> bool:
    """Whether the model or a part of it is compiled."""
    return any(
        type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


def text_of(error: BaseException | None) -> str:
    """The message of an exception, whatever its class."""
    try:
        return str(error)
    except Exception:  # its own __str__ is broken; the user's exception matters more
        return "(its message cannot be shown)"
