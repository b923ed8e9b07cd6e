"""Sweep: one metric of many paths, read in a single pass and summed up by column of steps.

Memory depends on the number of paths, not on the length of the run. Knows nothing of colours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from auscult.core.catalogue import METRICS, unit_of
from auscult.core.metric import Stream
from auscult.core.run import Run
from auscult.core.series import Series
from auscult.core.sink import Channel, observed

Steps = NDArray[np.int64]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]

MAX_COLUMNS = 600
MAX_CELLS = 400_000
SAMPLE_ROWS = 8192


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """One metric of P paths over C columns of steps.

    Attributes:
        metric: The metric.
        paths: The paths `(P,)`, in the order asked for.
        starts: First step of each column, int64 `(C,)`, increasing.
        stops: One past the last step of each column `(C,)`.
        low: Smallest finite positive value `(P, C)`; inf where there is none.
        high: Largest finite positive value `(P, C)`; -inf where there is none.
        zero: Whether an exact 0 (or less) was observed `(P, C)`.
        bad: Whether a NaN or an infinity was observed `(P, C)`.
        seen: Whether anything was observed `(P, C)`.
        centres: Median of the finite positive values per path `(P,)`, of evenly spaced ones where there are more than
            8,192 rows; NaN where there is none.
        count: Values observed per path `(P,)`.
        nonfinite: NaN and infinite values per path `(P,)`.
        nonfinite_at: Step of the first of them `(P,)`; -1.
        last: Last observed value per path `(P,)`; NaN where there is none.
        lowest: Smallest finite value over the paths at every step.
        highest: Largest value over the paths; NaN at a step at which a path was not finite.
    """

    metric: str
    paths: tuple[str, ...]
    starts: Steps
    stops: Steps
    low: Floats
    high: Floats
    zero: Mask
    bad: Mask
    seen: Mask
    centres: Floats
    count: Counts
    nonfinite: Counts
    nonfinite_at: Counts
    last: Floats
    lowest: Series
    highest: Series


def sweep(run: Run, metric: str, paths: Sequence[str], max_columns: int = MAX_COLUMNS) -> Sweep | None:
    """Read one metric of many paths once.

    Args:
        run: The run.
        metric: A metric recorded per parameter or module, or derived from such in one stream.
        paths: The rows wanted.
        max_columns: Columns at most.

    Returns:
        None if the metric was not observed at all.
    """
    stream = _stream_of(run, metric)
    if stream is None or not paths:
        return None
    steps = _steps_of(run, stream)
    if not len(steps):
        return None
    columns = max(100, min(max_columns, MAX_CELLS // len(paths)))
    fold = _Fold(len(paths), _edges(steps, columns), -(-len(steps) // SAMPLE_ROWS))
    for some, values, seen in _pieces(run, stream, metric, paths):
        fold.add(some, values, seen)
    return fold.close(metric, tuple(paths), int(steps[-1])) if fold.seen.any() else None


def _inputs(metric: str) -> tuple[str, ...]:
    return METRICS[metric].inputs or (metric,)


def _stream_of(run: Run, metric: str) -> Stream | None:
    """The stream that has every input of a metric."""
    for stream in run.streams:
        recorded = {channel.metric for channel in run.source.channels(stream)}
        if recorded.issuperset(_inputs(metric)):
            return stream
    return None


def _steps_of(run: Run, stream: Stream) -> Steps:
    parts = [steps for steps, _ in run.source.columns(stream, [], run.stop)]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _edges(steps: Steps, columns: int) -> Steps:
    """First steps of the columns: each recorded step, or bins of equal width where there are more than `columns`."""
    if len(steps) <= columns:
        return steps
    first, span = int(steps[0]), int(steps[-1]) + 1 - int(steps[0])
    return first + np.arange(columns, dtype=np.int64) * span // columns


def _pieces(
    run: Run, stream: Stream, metric: str, paths: Sequence[str]
) -> Iterator[tuple[Steps, Floats, NDArray[np.bool_]]]:
    """Steps `(R,)`, values `(P, R)` and what was observed `(P, R)`, piece by piece."""
    index = {channel: position for position, channel in enumerate(run.source.channels(stream))}
    inputs = _inputs(metric)
    found = np.array([[index.get(Channel(name, path), -1) for path in paths] for name in inputs])  # (I, P)
    positions = found[found >= 0].tolist()
    derive = METRICS[metric].derive
    for steps, columns in run.source.columns(stream, positions, run.stop):
        values = np.full((*found.shape, len(steps)), np.nan)
        seen = np.zeros(values.shape, bool)
        values[found >= 0] = columns
        seen[found >= 0] = observed(np.ascontiguousarray(columns))
        yield steps, values[0] if derive is None else derive(*values), np.logical_and.reduce(seen, axis=0)


@dataclass(slots=True, eq=False)
class _Fold:
    """The sums of a sweep while it goes on."""

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
    read: int = 0
    sample: list[Floats] = field(default_factory=list[Floats])
    spread: list[tuple[Steps, Floats, Floats]] = field(default_factory=list[tuple[Steps, Floats, Floats]])

    def __post_init__(self) -> None:
        shape = self.rows, len(self.edges)
        self.low, self.high = np.full(shape, np.inf), np.full(shape, -np.inf)
        self.zero, self.bad, self.seen = (np.zeros(shape, bool) for _ in range(3))
        self.count, self.nonfinite = np.zeros(self.rows, np.int64), np.zeros(self.rows, np.int64)
        self.nonfinite_at, self.last = np.full(self.rows, -1), np.full(self.rows, np.nan)

    def add(self, steps: Steps, values: Floats, seen: Mask) -> None:
        if not len(steps):
            return
        finite = seen & np.isfinite(values)
        positive = finite & (values > 0)
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
        taken = slice(-self.read % self.stride, None, self.stride)
        self.sample.append(np.where(positive[:, taken], values[:, taken], np.nan))
        self.read += len(steps)

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

    def close(self, metric: str, paths: tuple[str, ...], last_step: int) -> Sweep:
        kept = self.seen.any(0)
        starts = self.edges[kept]
        steps, lowest, highest = (np.concatenate(parts) for parts in zip(*self.spread))
        return Sweep(
            metric=metric,
            paths=paths,
            starts=starts,
            stops=_stops(starts, last_step),
            low=self.low[:, kept],
            high=self.high[:, kept],
            zero=self.zero[:, kept],
            bad=self.bad[:, kept],
            seen=self.seen[:, kept],
            centres=_medians(np.concatenate(self.sample, axis=1)),
            count=self.count,
            nonfinite=self.nonfinite,
            nonfinite_at=self.nonfinite_at,
            last=self.last,
            lowest=Series(metric, "", steps, lowest, unit_of(metric)),
            highest=Series(metric, "", steps, highest, unit_of(metric)),
        )


def _stops(starts: Steps, last_step: int) -> Steps:
    """Ends of the columns: the next start, but never more than twice the usual width after the own start."""
    if len(starts) == 1:
        return np.array([max(int(starts[0]), last_step) + 1])
    width = max(1, int(np.median(np.diff(starts))))
    return np.minimum(np.append(starts[1:], max(int(starts[-1]) + width, last_step + 1)), starts + 2 * width)


def _medians(values: Floats) -> Floats:
    """Median over axis 1 of `(P, N)` without the NaNs; NaN where a row has no number."""
    count = np.count_nonzero(~np.isnan(values), axis=1)
    ordered = np.sort(values, axis=1)  # NaN sorts to the end
    rows = np.arange(len(values))
    low = ordered[rows, np.maximum((count - 1) // 2, 0)]
    high = ordered[rows, np.minimum(count // 2, values.shape[1] - 1)]
    middle = (low + high) / 2
    return np.where(count > 0, middle, np.nan)
