"""Tally: the sums of a sweep while the values of its rows, or the blocks that sum these up, come in."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.int64]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class Tally:
    """The sums of P rows of a sweep over C columns; fields that are not described as in `auscult.pages.sweep.Sweep`.

    Attributes:
        rows: P.
        edges: First step of each column, int64 `(C,)`, increasing.
        stride: Of so many steps one goes into the sample that the centres are taken from.
        read: Steps added so far.
        sample: Values of some steps, `(P, S)` each.
        spread: Steps, and over the rows the smallest and the largest value at each of them.
        mixed: Rows with a value that is not positive, as far as blocks were added `(P,)`.
        medians: log10 of the median of each block, `(P, B)` each.
    """

    rows: int
    edges: Steps
    stride: int
    low: Floats = field(init=False)
    high: Floats = field(init=False)
    zero: Mask = field(init=False)
    bad: Mask = field(init=False)
    seen: Mask = field(init=False)
    count: Counts = field(init=False)
    nonfinite: Counts = field(init=False)
    nonfinite_at: Counts = field(init=False)
    last: Floats = field(init=False)
    centres: Floats = field(init=False)
    read: int = 0
    sample: list[Floats] = field(default_factory=list[Floats])
    spread: list[tuple[Steps, Floats, Floats]] = field(default_factory=list[tuple[Steps, Floats, Floats]])
    mixed: Mask = field(init=False)
    medians: list[NDArray[np.float32]] = field(default_factory=list[NDArray[np.float32]])

    def __post_init__(self) -> None:
        shape = self.rows, len(self.edges)
        self.low, self.high = np.full(shape, np.inf), np.full(shape, -np.inf)
        self.zero, self.bad, self.seen = (np.zeros(shape, bool) for _ in range(3))
        self.count, self.nonfinite = np.zeros(self.rows, np.int64), np.zeros(self.rows, np.int64)
        self.nonfinite_at, self.last = np.full(self.rows, -1), np.full(self.rows, np.nan)
        self.centres, self.mixed = np.full(self.rows, np.nan), np.zeros(self.rows, bool)

    def add(self, steps: Steps, values: Floats, seen: Mask) -> None:
        """Add values `(P, R)` of some steps `(R,)`, of which some were observed `(P, R)`."""
        if not len(steps):
            return
        finite = seen & np.isfinite(values)
        positive = finite & (values > 0)
        if positive.all():
            self._add_positive(steps, values)
            return
        bad = seen & ~finite
        column = np.searchsorted(self.edges, steps, "right") - 1
        starts = np.flatnonzero(np.diff(column, prepend=-1))
        at = column[starts]
        least = np.where(positive, values, np.inf)
        most = np.where(positive, values, -np.inf)
        self.low[:, at] = np.minimum(self.low[:, at], np.minimum.reduceat(least, starts, axis=1))
        self.high[:, at] = np.maximum(self.high[:, at], np.maximum.reduceat(most, starts, axis=1))
        for total, mask in ((self.zero, finite & ~positive), (self.bad, bad), (self.seen, seen)):
            total[:, at] |= np.logical_or.reduceat(mask, starts, axis=1)
        self._add_rows(steps, values, seen, bad)
        self._add_spread(steps, np.where(finite, values, np.inf), np.where(finite, values, -np.inf), seen, bad)
        self._add_sample(np.where(positive, values, np.nan))

    def _add_positive(self, steps: Steps, values: Floats) -> None:
        """Add rows in which every value is finite and positive, as most are."""
        column = np.searchsorted(self.edges, steps, "right") - 1
        starts = np.flatnonzero(np.diff(column, prepend=-1))
        at = column[starts]
        self.low[:, at] = np.minimum(self.low[:, at], np.minimum.reduceat(values, starts, axis=1))
        self.high[:, at] = np.maximum(self.high[:, at], np.maximum.reduceat(values, starts, axis=1))
        self.seen[:, at] = True
        self.count += len(steps)
        self.last = values[:, -1].copy()
        self.spread.append((steps, values.min(0), values.max(0)))
        self._add_sample(values)

    def _add_sample(self, values: Floats) -> None:
        """Keep evenly spaced rows; `values` is NaN where a value is not finite and positive."""
        taken = slice(-self.read % self.stride, None, self.stride)
        self.sample.append(values[:, taken].copy())
        self.read += values.shape[1]

    def _add_rows(self, steps: Steps, values: Floats, seen: Mask, bad: Mask) -> None:
        self.count += seen.sum(1)
        self.nonfinite += bad.sum(1)
        new = (self.nonfinite_at < 0) & bad.any(1)
        self.nonfinite_at = np.where(new, steps[bad.argmax(1)], self.nonfinite_at)
        newest = len(steps) - 1 - seen[:, ::-1].argmax(1)
        self.last = np.where(seen.any(1), values[np.arange(self.rows), newest], self.last)

    def _add_spread(self, steps: Steps, least: Floats, most: Floats, seen: Mask, bad: Mask) -> None:
        used = seen.any(0)
        lowest, highest = least.min(0), most.max(0)
        lowest[np.isinf(lowest)] = np.nan
        highest[bad.any(0) | np.isinf(highest)] = np.nan
        self.spread.append((steps[used], lowest[used], highest[used]))

    def close(self) -> None:
        """All rows were added: take the centres."""
        if self.sample:
            self.centres = _medians(np.concatenate(self.sample, axis=1))

    def add_blocks(self, starts: Steps, blocks: NDArray[np.void]) -> None:
        """Add blocks of 64 steps in place of their rows, as far as these tell as much as the values themselves.

        Args:
            starts: First step of each block, int64 `(B,)`, increasing; no column begins within a block.
            blocks: Structured array `(B, P)` of dtype `auscult.core.digest.BLOCK`.
        """
        column = np.searchsorted(self.edges, np.maximum(starts, self.edges[0]), "right") - 1
        groups = np.flatnonzero(np.diff(column, prepend=-1))
        at = column[groups]
        count, finite = blocks["count"], blocks["finite"]
        some, bad, seen = finite > 0, count > finite, count > 0
        low = np.where(some, blocks["minimum"], np.inf).astype(np.float64)
        high = np.where(some, blocks["maximum"], -np.inf).astype(np.float64)
        self.low[:, at] = np.minimum(self.low[:, at], np.minimum.reduceat(low, groups, axis=0).T)
        self.high[:, at] = np.maximum(self.high[:, at], np.maximum.reduceat(high, groups, axis=0).T)
        for total, mask in ((self.bad, bad), (self.seen, seen)):
            total[:, at] |= np.logical_or.reduceat(mask, groups, axis=0).T
        self.count += count.sum(0, np.int64)
        self.nonfinite += (count - finite).sum(0, np.int64)
        columns = np.arange(self.rows)
        first, last = bad.argmax(0), len(blocks) - 1 - seen[::-1].argmax(0)
        new = (self.nonfinite_at < 0) & bad.any(0)
        self.nonfinite_at = np.where(new, starts[first] + blocks["nonfinite_at"][first, columns], self.nonfinite_at)
        self.last = np.where(seen.any(0), blocks["last"][last, columns], self.last)
        self.mixed |= (low <= 0).any(0)
        self.medians.append(blocks["log_median"].T.copy())

    def close_blocks(self) -> Counts:
        """All blocks were added: take the centres.

        Returns:
            The rows with a value that is not positive: the smallest one that is cannot be told from blocks.
        """
        self.centres = 10.0 ** _medians(np.concatenate(self.medians, axis=1).astype(np.float64))
        return np.flatnonzero(self.mixed)

    def put(self, rows: Counts, other: "Tally") -> None:
        """Take some rows from another tally of the same columns."""
        for name in ("low", "high", "zero", "bad", "seen", "count", "nonfinite", "nonfinite_at", "last", "centres"):
            getattr(self, name)[rows] = getattr(other, name)


def _medians(values: Floats) -> Floats:
    """Median over axis 1 of `(P, N)` without the NaNs; NaN where a row has no number."""
    count = np.count_nonzero(~np.isnan(values), axis=1)
    ordered = np.sort(values, axis=1)  # NaN sorts to the end
    rows = np.arange(len(values))
    low = ordered[rows, np.maximum((count - 1) // 2, 0)]
    high = ordered[rows, np.minimum(count // 2, values.shape[1] - 1)]
    middle = (low + high) / 2
    return np.where(count > 0, middle, np.nan)
