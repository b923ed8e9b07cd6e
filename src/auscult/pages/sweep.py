"""Sweep: one metric of many paths, read in a single pass and summed up by column of steps.

Of a long run it reads the digests of 64 steps, and the rows of those paths alone of which these do not tell enough.
Memory depends on the number of paths, not on the length of the run. Knows nothing of colours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from auscult.core.catalogue import METRICS, unit_of
from auscult.core.digest import BLOCK_STEPS, channel_values, complete_blocks
from auscult.core.metric import Stream
from auscult.core.run import Run
from auscult.core.series import Series
from auscult.core.sink import Channel, observed, row_dtype
from auscult.pages.tally import Counts, Floats, Mask, Steps, Tally

MAX_COLUMNS = 600
MAX_CELLS = 160_000
SAMPLE_ROWS = 8192
BLOCKS_AT_ONCE = 32


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
            8,192 rows, of the medians of 64 steps each where these were read; NaN where there is none.
        count: Values observed per path `(P,)`.
        nonfinite: NaN and infinite values per path `(P,)`.
        nonfinite_at: Step of the first of them `(P,)`; -1.
        last: Last observed value per path `(P,)`; NaN where there is none.
        lowest: Smallest finite value over the paths at every step; empty where the rows were not read.
        highest: Largest value over the paths; NaN at a step at which a path was not finite; likewise.
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


def sweep(
    run: Run,
    metric: str,
    paths: Sequence[str],
    max_columns: int = MAX_COLUMNS,
    every_step: bool = False,
    edges: Steps | None = None,
) -> Sweep | None:
    """Read one metric of many paths once.

    Args:
        run: The run.
        metric: A metric recorded per parameter or module, or derived from such in one stream.
        paths: The rows wanted.
        max_columns: Columns at most.
        every_step: Whether `lowest` and `highest` are wanted, for which every row is read.
        edges: First steps of the columns, as `shared_edges` gives them; the run's own columns without.

    Returns:
        None if the metric was not observed at all.
    """
    stream = _stream_of(run, metric)
    if stream is None or not paths:
        return None
    steps = steps_of(run, stream)
    if not len(steps):
        return None
    columns = max(100, min(max_columns, MAX_CELLS // len(paths)))
    tally = None
    if (
        not every_step
        and METRICS[metric].derive is None
        and _is_long(steps, columns)
        and row_dtype(stream) == np.float32
    ):
        tally = _tally_blocks(run, stream, metric, paths, steps, columns, edges)
    if tally is None:
        tally = _tally_rows(run, stream, metric, paths, _edges(steps, columns) if edges is None else edges, len(steps))
    binned = len(tally.edges) < len(steps)
    return _close(tally, metric, tuple(paths), int(steps[-1]), binned) if tally.seen.any() else None


def shared_edges(several: Sequence[Steps], columns: int = MAX_COLUMNS) -> Steps:
    """First steps of columns that several runs can be summed up by: whole blocks where these runs are long.

    Args:
        several: The recorded steps of each run, of at least one run at least one.
        columns: Columns at most.
    """
    steps = np.unique(np.concatenate(several))
    if not _is_long(steps, columns):
        return _edges(steps, columns)
    first = int(steps[0]) // BLOCK_STEPS * BLOCK_STEPS
    width = -(-(int(steps[-1]) + 1 - first) // (BLOCK_STEPS * columns)) * BLOCK_STEPS
    return np.arange(first, int(steps[-1]) + 1, width, dtype=np.int64)


def _is_long(steps: Steps, columns: int) -> bool:
    """Whether there are more blocks than columns."""
    return int(steps[-1] - steps[0]) // BLOCK_STEPS >= columns


def _tally_rows(run: Run, stream: Stream, metric: str, paths: Sequence[str], edges: Steps, rows: int) -> Tally:
    tally = Tally(len(paths), edges, -(-rows // SAMPLE_ROWS))
    for some, values, seen in _pieces(run, stream, metric, paths):
        tally.add(some, values, seen)
    tally.close()
    return tally


def _tally_blocks(
    run: Run, stream: Stream, metric: str, paths: Sequence[str], steps: Steps, columns: int, edges: Steps | None
) -> Tally | None:
    """From blocks, and of paths with values that are not positive from rows; None if no block is stored."""
    if next(iter(run.source.blocks(stream)), None) is None:
        return None
    index = {channel: position for position, channel in enumerate(run.source.channels(stream))}
    positions = np.array([index.get(Channel(metric, path), -1) for path in paths])
    stored = complete_blocks(run, stream, int(steps[-1]) + 1)
    blocks = ((each.start, channel_values(each, positions)) for each in stored)
    tally: Tally | None = None
    while several := list(islice(blocks, BLOCKS_AT_ONCE)):
        starts = np.array([start for start, _ in several], np.int64)
        if tally is None:
            between = _block_edges(int(starts[0]), steps, columns) if edges is None else edges
            tally = Tally(len(paths), between, -(-len(steps) // SAMPLE_ROWS))
        tally.add_blocks(starts, np.stack([values for _, values in several]))
    if tally is not None and len(mixed := tally.close_blocks()):
        rows: list[int] = mixed.tolist()
        some = [paths[row] for row in rows]
        tally.put(mixed, _tally_rows(run, stream, metric, some, tally.edges, len(steps)))
    return tally


def _block_edges(first: int, steps: Steps, columns: int) -> Steps:
    """First steps of columns of whole blocks, the first of which begins at a step."""
    last = int(steps[-1]) // BLOCK_STEPS * BLOCK_STEPS
    width = -(-(last + BLOCK_STEPS - first) // (BLOCK_STEPS * columns)) * BLOCK_STEPS
    edges = np.arange(first, last + 1, width, dtype=np.int64)
    edges[0] = steps[0]
    return edges


def _close(tally: Tally, metric: str, paths: tuple[str, ...], last_step: int, binned: bool) -> Sweep:
    kept = tally.seen.any(0)
    starts = tally.edges[kept]
    nothing = np.empty(0, np.int64), np.empty(0), np.empty(0)
    steps, lowest, highest = (np.concatenate(parts) for parts in zip(nothing, *tally.spread))
    return Sweep(
        metric=metric,
        paths=paths,
        starts=starts,
        stops=_stops(starts, last_step, binned),
        low=tally.low[:, kept],
        high=tally.high[:, kept],
        zero=tally.zero[:, kept],
        bad=tally.bad[:, kept],
        seen=tally.seen[:, kept],
        centres=tally.centres,
        count=tally.count,
        nonfinite=tally.nonfinite,
        nonfinite_at=tally.nonfinite_at,
        last=tally.last,
        lowest=Series(metric, "", steps, lowest, unit_of(metric)),
        highest=Series(metric, "", steps, highest, unit_of(metric)),
    )


def _inputs(metric: str) -> tuple[str, ...]:
    return METRICS[metric].inputs or (metric,)


def _stream_of(run: Run, metric: str) -> Stream | None:
    """The stream that has every input of a metric."""
    for stream in run.streams:
        recorded = {channel.metric for channel in run.source.channels(stream)}
        if recorded.issuperset(_inputs(metric)):
            return stream
    return None


def steps_of(run: Run, stream: Stream) -> Steps:
    """The steps at which a stream recorded something, int64 `(N,)`."""
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
        known = observed(np.ascontiguousarray(columns))
        if len(positions) == found.size:
            values, seen = columns.astype(np.float64).reshape(*found.shape, -1), known.reshape(*found.shape, -1)
        else:
            values, seen = np.full((*found.shape, len(steps)), np.nan), np.zeros((*found.shape, len(steps)), bool)
            values[found >= 0], seen[found >= 0] = columns, known
        yield steps, values[0] if derive is None else derive(*values), np.logical_and.reduce(seen, axis=0)


def _stops(starts: Steps, last_step: int, binned: bool) -> Steps:
    """Ends of the columns: the next start, but never more than twice the usual width after the own start."""
    if len(starts) == 1:
        return np.array([max(int(starts[0]), last_step) + 1])
    width = max(1, int(np.median(np.diff(starts))))
    end = last_step + 1 if binned else max(int(starts[-1]) + width, last_step + 1)
    return np.minimum(np.append(starts[1:], end), starts + 2 * width)
