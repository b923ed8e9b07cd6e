"""Density: tensors side by side over one range, each as the height of a histogram.

Every bin is one or several of those that `Histogram` counts in, so that no count is ever split: the heights are those
of an ordinary histogram over the same edges. Knows nothing of how it is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auscult.core.detail import TensorDetail
from auscult.core.histogram import Histogram

Floats = NDArray[np.float64]

FINEST = 24
"""Bins between 0 and the end of the range are at least this part of it wide."""
TAIL = 0.005
FARTHEST = 4.0
TALLEST = 4.0
_ENDS = Histogram(np.arange(1, 1021, dtype=np.int16), np.ones(1020, np.int64)).edges()[1]


@dataclass(frozen=True, slots=True, eq=False)
class Density:
    """One tensor over the range of its picture.

    Attributes:
        tensor: The tensor.
        edges: Ends of the bins, float64 `(E + 1,)`, increasing, the outermost no farther than the extremes; empty
            where there is nothing to draw: no finite number but 0 within the range, or only one.
        heights: Share of the finite elements in a bin / its width `(E,)`. Exact zeros are left out: they have no width.
        zeros: Share of the finite elements that are exactly 0; NaN if there are none.
        outside: Share of the finite elements beyond the range; NaN if there are none.
    """

    tensor: TensorDetail
    edges: Floats
    heights: Floats
    zeros: float
    outside: float


@dataclass(frozen=True, slots=True, eq=False)
class Densities:
    """Several tensors over one range.

    Attributes:
        several: One per tensor, in their order.
        reach: The range is `-reach` to `reach`; 0 where no tensor has a finite number but 0.
        top: The height at which the picture ends, >= 0.
    """

    several: tuple[Density, ...]
    reach: float
    top: float


def densities(tensors: Sequence[TensorDetail]) -> Densities:
    """Lay tensors side by side.

    The range holds the middle 99 % of every tensor, and the top every peak, unless one is more than 4 times as wide,
    or as high, as the median one: then that one is cut, not all others flattened.

    Args:
        tensors: The tensors.
    """
    plain = [_without_zeros(each.histogram) for each in tensors]
    reach = _reach([_width(each) for each in plain if each.total])
    edges = _edges(reach)
    several = tuple(_density(tensor, each, edges) for tensor, each in zip(tensors, plain))
    peaks = [float(each.heights.max()) for each in several if len(each.heights)]
    top = min(max(peaks), TALLEST * float(np.median(peaks))) if peaks else 0.0
    return Densities(several, reach, top)


def _without_zeros(histogram: Histogram) -> Histogram:
    held = histogram.codes != 0
    return Histogram(histogram.codes[held], histogram.counts[held], histogram.nonfinite)


def _width(histogram: Histogram) -> float:
    return max(abs(histogram.quantile(TAIL)), abs(histogram.quantile(1 - TAIL)))


def _reach(widths: Sequence[float]) -> float:
    """The end of a bin beyond the widest, or beyond four times the median one."""
    if not widths:
        return 0.0
    wanted = min(max(widths), FARTHEST * float(np.median(widths)))
    return float(_ENDS[min(int(np.searchsorted(_ENDS, wanted, side="right")), len(_ENDS) - 1)])


def _edges(reach: float) -> Floats:
    """Ends of bins from `-reach` to `reach`, of those of `Histogram` the ones that are far enough apart."""
    kept = [0.0]
    for end in _ENDS[: int(np.searchsorted(_ENDS, reach, side="right"))].tolist():
        if end - kept[-1] >= reach / FINEST:
            kept.append(end)
    return np.array([*(-each for each in reversed(kept[1:])), *kept])


def _density(tensor: TensorDetail, plain: Histogram, edges: Floats) -> Density:
    total = tensor.histogram.total
    zeros = tensor.histogram.zeros / total if total else np.nan
    mass = plain.mass(edges) if len(edges) > 1 else np.empty(0)
    outside = float((plain.total - mass.sum()) / total) if total else np.nan
    held = np.flatnonzero(mass)
    if not len(held):
        return Density(tensor, np.empty(0), np.empty(0), zeros, outside)
    inside = slice(held[0], held[-1] + 1)
    ends, mass = _fitted(edges[held[0] : held[-1] + 2], mass[inside], tensor)
    widths = np.diff(ends)
    if not (widths > 0).all():
        return Density(tensor, np.empty(0), np.empty(0), zeros, outside)
    return Density(tensor, ends, mass / total / widths, zeros, outside)


def _fitted(edges: Floats, mass: Floats, tensor: TensorDetail) -> tuple[Floats, Floats]:
    """The outermost bins end at the extremes; one of which hardly anything is left joins its neighbour."""
    ends = edges.copy()
    if np.isfinite(tensor.minimum):
        ends[0] = max(ends[0], tensor.minimum)
    if np.isfinite(tensor.maximum):
        ends[-1] = min(ends[-1], tensor.maximum)
    if len(mass) > 1 and ends[1] - ends[0] < (edges[1] - edges[0]) / 4:
        ends, mass = np.delete(ends, 1), np.concatenate(([mass[0] + mass[1]], mass[2:]))
    if len(mass) > 1 and ends[-1] - ends[-2] < (edges[-1] - edges[-2]) / 4:
        ends, mass = np.delete(ends, -2), np.concatenate((mass[:-2], [mass[-2] + mass[-1]]))
    return ends, mass
