"""Directions: where an update points, and which units of a parameter are equal."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auscult.core.sink import Values, empty_row, to_float32
from auscult.metrics.norms import as_real, is_unsafe, measurable
from auscult.metrics.pack import Pack, fits

METRICS = ("descent_cosine", "decay_cosine", "twin_fraction")
DESCENT, DECAY, TWINS = range(3)
# Elements that are held in float64 at once: what a CPU has in its caches, what keeps an accelerator busy.
_CPU_CHUNK, _DEVICE_CHUNK = 2**16, 2**22


def comparable(update: Tensor, other: Tensor | None) -> bool:
    """Whether an angle between two tensors can be measured: both whole, dense, as large and on one device."""
    return (
        other is not None
        and measurable(other)
        and other.layout == update.layout == torch.strided
        and other.shape == update.shape
        and other.device == update.device
        and other.is_complex() == update.is_complex()
    )


def products(left: Tensor, right: Tensor) -> Tensor:
    """Inner products of two `comparable` tensors, each up to a positive factor that cancels in their cosine.

    Args:
        left: Any shape and dtype; of complex elements real and imaginary parts count as elements of their own.
        right: Likewise.

    Returns:
        float64 `(3,)` on their device (float32 where it has no float64): <left, right>, <left, left>, <right, right>.
    """
    one, other = _flat(left), _flat(right)
    chunk = _CPU_CHUNK if one.is_cpu else _DEVICE_CHUNK
    wide = torch.float32 if one.device.type == "mps" else torch.float64
    sums = torch.zeros(3, dtype=wide, device=one.device)
    for a, b in zip(one.split(chunk), other.split(chunk), strict=True):
        a, b = a.to(wide), b.to(wide)
        sums += torch.stack([torch.dot(a, b), torch.dot(a, a), torch.dot(b, b)])
    return sums


def packed_products(left: Pack, right: Pack, places: Sequence[int], norms: NDArray[np.float64]) -> Tensor:
    """The same for tensors in some places of two packs.

    Args:
        left: The pack of one of the two.
        right: The pack of the other.
        places: Which tensors.
        norms: L2 norms of the tensors of `left`, float64 `(len(places),)`.

    Returns:
        float64 `(3, len(places))`.
    """
    others = right.norms(places)
    found = np.stack([left.dots(right, places), norms * norms, others * others])
    for number in np.flatnonzero(is_unsafe(norms) | is_unsafe(others)).tolist():
        found[:, number] = products(left.places[places[number]], right.places[places[number]])
    return torch.from_numpy(found)


def write_cosines(row: Values, positions: Sequence[int], found: NDArray[np.float64]) -> None:
    """The negative cosine between pairs of tensors; where one of the two is all zero, there is no angle.

    Args:
        row: `(P,)`, written at `positions`.
        positions: Which of them.
        found: `(3, len(positions))`; see `products`.
    """
    dots, lefts, rights = found
    with np.errstate(all="ignore"):
        cosines = to_float32(np.clip(-dots / np.sqrt(lefts) / np.sqrt(rights), -1.0, 1.0))
    row[positions] = np.where((lefts == 0) | (rights == 0), empty_row("sampled", 1), cosines)


def has_units(shape: Sequence[int]) -> bool:
    """Whether a parameter is a matrix or kernel of two or more units, counted by its first dimension."""
    return len(shape) >= 2 and shape[0] >= 2 and 0 not in shape


def twin_fraction(tensor: Tensor) -> Tensor:
    """Share of the units of a tensor that are equal to the first one, it included.

    Args:
        tensor: Strided, of a shape that `has_units`.

    Returns:
        float32, 0-d, within [1 / units, 1], on the tensor's device.
    """
    units = len(tensor)
    if tensor.is_cpu:  # one element of each unit tells most units apart; elsewhere asking would mean to wait
        elements = tensor[(slice(None), *(0 for _ in tensor.shape[1:]))]
        if int((elements == elements[0]).sum()) <= 1:
            return torch.tensor(1 / units)
    same = (tensor == tensor[0]).flatten(1).all(1)
    return same.sum().clamp(min=1).float() / units  # a unit with a NaN in it is not equal to itself


def is_packable(gradient: Tensor | None, place: Tensor) -> bool:
    """Whether a gradient may be loaded into a place of a pack."""
    return gradient is not None and fits(gradient) and gradient.shape == place.shape


def _flat(tensor: Tensor) -> Tensor:
    flat = as_real(tensor).reshape(-1)
    if flat.dtype == torch.float64 or flat.device.type == "mps":  # whose squares could leave the range of the sums
        return flat / flat.abs().amax().clamp(min=torch.finfo(flat.dtype).tiny) if flat.numel() else flat
    return flat
