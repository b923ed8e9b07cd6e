"""Sample: some elements of a tensor, picked by position alone, so that a large one costs no more than a small one."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from auscult.metrics.norms import is_transformed, measurable

SAMPLE = 4096
# A step of this many elements between samples; a prime, so that no power-of-two layout is met again and again.
_STRIDES = (1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749)


def sample(tensor: Tensor, exact: bool = False) -> Tensor:
    """At most 2 * 4096 elements, every k-th with k prime, as float64; all of them where it must be exact."""
    if tensor.is_contiguous():
        flat = tensor.view(-1)
    elif tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        flat = tensor.permute(0, 2, 3, 1).reshape(-1)
    else:
        flat = tensor.reshape(-1)
    stride = next((each for each in _STRIDES if each * 2 * SAMPLE >= flat.numel()), flat.numel() // SAMPLE)
    return wide(flat if exact else flat[::stride])


def thin(tensor: Tensor, limit: int, keep: int = 0) -> Tensor:
    """Evenly spaced positions of a tensor, chosen by its shape alone; a view.

    Args:
        tensor: A tensor with elements.
        limit: About as many elements are left, where the kept dimensions allow it.
        keep: So many dimensions at the end are kept whole.
    """
    free = tensor.ndim - keep
    while free > 0 and tensor.numel() > limit:
        longest = max(range(free), key=lambda each: tensor.shape[each])
        size = tensor.shape[longest]
        if size == 1:
            break
        stride = min(size, -(-tensor.numel() // limit))
        tensor = tensor[(slice(None),) * longest + (slice(None, None, stride),)]
    return tensor


def table(tensor: Tensor, axis: int, limit: int) -> Tensor:
    """One dimension of a tensor against all others, of which only some positions are kept where there are many.

    Args:
        tensor: A tensor of one dimension or more, with elements.
        axis: The dimension that is kept whole.
        limit: About as many elements are kept, and at least those along `axis`.

    Returns:
        float64 `(M, K)`, K the size of `axis`.
    """
    rows = thin(tensor.detach().movedim(axis, -1), limit, keep=1)
    return wide(rows.reshape(-1, rows.shape[-1]))


def wide(tensor: Tensor) -> Tensor:
    """As float64 (float32 where the device has no float64)."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def find_tensor(value: object, floating: bool) -> Tensor | None:
    """The first tensor with values among what a model was called with, or returned.

    Args:
        value: A tensor, or a sequence or mapping of such, at most three deep; of an object with `logits`, these.
        floating: Whether it must hold floating-point numbers.
    """
    return next(_tensors(value, floating, 3), None)


def _tensors(value: object, floating: bool, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        kind = value.is_floating_point() if floating else not value.is_complex()
        if kind and value.layout == torch.strided and value.numel() and measurable(value) and not is_transformed(value):
            yield value
        return
    held = value if isinstance(value, Mapping) else getattr(value, "__dict__", None)  # no property of the user's is run
    logits = held.get("logits") if isinstance(held, Mapping) else None
    if isinstance(logits, Tensor):
        yield from _tensors(logits, floating, 0)
    if depth and isinstance(value, (tuple, list, Mapping)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(each, floating, depth - 1)
