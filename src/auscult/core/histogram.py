"""Histogram: how the elements of a tensor are distributed, in bins that every tensor of every run shares.

A bin holds the float32 numbers that agree in sign, exponent and the first two bits of the fraction: four bins to a
power of two, from the smallest number to the largest. So no range has to be known beforehand, a count costs no
logarithm, and two histograms merge exactly by adding their counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import SetupError

PER_OCTAVE = 4
PREFIXES = 2048
"""Number of prefixes of 11 bits (sign, exponent, two bits of the fraction) that float32 numbers have."""
_NONFINITE = 1020  # prefixes from here on, without the sign, belong to infinities and NaN
_BIAS = 127


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts of elements by bin.

    Attributes:
        codes: int16 `(K,)`, increasing: 0 counts exact zeros, `c` and `-c` the positive and the negative numbers whose
            prefix without the sign is `c - 1`. Only bins that hold something are listed.
        counts: int64 `(K,)`, elements in each, > 0.
        nonfinite: Number of elements that are NaN or infinite; they are in no bin.
    """

    codes: NDArray[np.int16]
    counts: NDArray[np.int64]
    nonfinite: int = 0

    @classmethod
    def from_prefixes(cls, counts: NDArray[np.int64], zeros: int) -> "Histogram":
        """From counts by prefix.

        Args:
            counts: int64 `(2048,)`, elements by the first 11 bits of their float32 representation.
            zeros: Number of exact zeros, which `counts` holds among the positive numbers (-0.0 + 0 is 0.0).

        Returns:
            The histogram.
        """
        positive, negative = counts[:_NONFINITE].copy(), counts[PREFIXES // 2 :][:_NONFINITE].copy()
        nonfinite = int(counts.sum() - positive.sum() - negative.sum())
        positive[0] -= zeros  # the smallest numbers share their prefix
        all_counts = np.concatenate([negative[::-1], [zeros], positive])
        all_codes = np.arange(-_NONFINITE, _NONFINITE + 1)
        held = all_counts > 0
        return cls(all_codes[held].astype(np.int16), all_counts[held].astype(np.int64), nonfinite)

    @property
    def total(self) -> int:
        """Number of finite elements."""
        return int(self.counts.sum())

    @property
    def zeros(self) -> int:
        """Number of exact zeros."""
        return int(self.counts[self.codes == 0].sum())

    def __add__(self, other: "Histogram") -> "Histogram":
        """The histogram of both sets of elements together."""
        codes, places = np.unique(np.concatenate([self.codes, other.codes]), return_inverse=True)
        counts = np.zeros(len(codes), np.int64)
        np.add.at(counts, places, np.concatenate([self.counts, other.counts]))
        return Histogram(codes, counts, self.nonfinite + other.nonfinite)

    def edges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lower and the upper end of each bin, float64 `(K,)` each; both 0 for the bin of exact zeros."""
        prefix = np.maximum(np.abs(self.codes.astype(np.int64)) - 1, 0)
        near, far = _least(prefix), _least(prefix + 1)
        low = np.where(self.codes > 0, near, np.where(self.codes < 0, -far, 0.0))
        high = np.where(self.codes > 0, far, np.where(self.codes < 0, -near, 0.0))
        return low, high

    def mass(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Number of finite elements between given edges, as if each bin were filled evenly.

        Args:
            edges: float64 `(E + 1,)`, increasing. An exact zero on an inner edge counts above it.

        Returns:
            float64 `(E,)`.

        Raises:
            SetupError: if the edges do not increase.
        """
        edges = np.asarray(edges, np.float64)
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise SetupError("Expected `edges` to be at least two increasing numbers; np.linspace(-1, 1, 101), say.")
        low, high = self.edges()
        wide = high > low
        spread = self.counts[wide] / (high[wide] - low[wide])
        inside = np.minimum(edges[1:, None], high[wide]) - np.maximum(edges[:-1, None], low[wide])
        found = (np.maximum(inside, 0) * spread).sum(1)
        place = int(np.searchsorted(edges, 0.0, side="right")) - 1
        if self.zeros and 0 <= place < len(found):
            found[place] += self.zeros
        return found

    def fraction_below(self, bound: float) -> float:
        """Share of the finite elements below a bound, as if each bin were filled evenly; NaN if there are none."""
        low, high = self.edges()
        wide = high > low
        share = np.where(low < bound, 1.0, 0.0)
        share[wide] = np.clip((bound - low[wide]) / (high[wide] - low[wide]), 0, 1)
        return float((self.counts * share).sum() / self.total) if self.total else float("nan")

    def quantile(self, share: float) -> float:
        """The number below which a share of the finite elements lies, to a bin's width; NaN if there are none.

        Raises:
            SetupError: if `share` is not between 0 and 1.
        """
        if not 0 <= share <= 1:
            raise SetupError(f"Expected `share` to be between 0 and 1, but got {share}. Write 0.5 for the median.")
        if not self.total:
            return float("nan")
        low, high = self.edges()
        below = np.cumsum(self.counts)
        place = min(int(np.searchsorted(below, share * self.total)), len(self.codes) - 1)
        inside = (share * self.total - (below[place] - self.counts[place])) / self.counts[place]
        return float(low[place] + (high[place] - low[place]) * inside)


def _least(prefix: NDArray[np.int64]) -> NDArray[np.float64]:
    """The smallest number >= 0 with each prefix, float64; the first of all is 0."""
    exponent, fraction = np.divmod(prefix, PER_OCTAVE)
    normal = np.ldexp(1 + fraction / PER_OCTAVE, exponent - _BIAS)
    subnormal = np.ldexp(fraction / PER_OCTAVE, 1 - _BIAS)
    return np.where(exponent > 0, normal, subnormal)
