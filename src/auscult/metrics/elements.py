"""Elements: all elements of a tensor, counted by bin and summed up, without waiting for an accelerator."""

from typing import NamedTuple

import torch
from torch import Tensor

from auscult.core.detail import TensorDetail, TensorKind
from auscult.core.histogram import PER_OCTAVE, PREFIXES, Histogram

_CHUNK = 1 << 17
# The prefix is what is left of float32's 32 bits without the fraction bits below the first two.
_SHIFT = 23 - PER_OCTAVE.bit_length() + 1


class Elements(NamedTuple):
    """What all elements of a tensor gave, still on its device.

    Attributes:
        facts: float64 `(5,)`: mean, sum of squared deviations, minimum, maximum, number of exact zeros.
        prefixes: int64 `(2048,)`, number of elements by prefix; see `auscult.core.histogram`.
    """

    facts: Tensor
    prefixes: Tensor

    def describe(self, kind: TensorKind, path: str) -> TensorDetail:
        """Bring it to the host."""
        mean, deviations, minimum, maximum, zeros = self.facts.tolist()
        histogram = Histogram.from_prefixes(self.prefixes.cpu().numpy(), int(zeros))
        count = histogram.total + histogram.nonfinite
        std = (deviations / (count - 1)) ** 0.5 if count > 1 else float("nan")
        return TensorDetail(kind, path, mean, std, minimum, maximum, histogram)


def count_elements(tensor: Tensor) -> Elements | None:
    """Count and sum up all elements.

    Args:
        tensor: Real, strided, floating-point, on any device. Wider numbers are counted as the nearest float32.

    Returns:
        What they gave; None for a tensor without elements.
    """
    flat = tensor.detach().reshape(-1)
    if not flat.numel():
        return None
    wide = torch.float32 if flat.device.type == "mps" else torch.float64
    chunks = flat.split(_CHUNK) if flat.is_cpu else (flat,)
    mean = torch.stack([chunk.sum(dtype=wide) for chunk in chunks]).sum() / flat.numel()
    deviations = torch.stack([(chunk.to(wide) - mean).square().sum() for chunk in chunks]).sum()
    zeros = torch.stack([(chunk == 0).sum() for chunk in chunks]).sum()
    facts = torch.stack([mean, deviations, *(each.to(wide) for each in flat.aminmax()), zeros.to(wide)])
    prefixes = torch.stack([_prefixes(chunk) for chunk in chunks]).sum(0)
    return Elements(facts, prefixes)


def _prefixes(flat: Tensor) -> Tensor:
    """Number of elements by prefix, int64 `(2048,)`; adding 0 makes -0.0 the other zero."""
    codes = (((flat.float() + 0).view(torch.int32) >> _SHIFT) & (PREFIXES - 1)).long()
    if flat.is_cpu:
        return torch.bincount(codes, minlength=PREFIXES)
    counts = torch.zeros(PREFIXES, dtype=torch.long, device=flat.device)  # bincount would wait for the device
    return counts.scatter_add_(0, codes, torch.ones_like(codes))
