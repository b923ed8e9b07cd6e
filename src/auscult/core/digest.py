"""Block and Digest: a run in a fixed number of bytes per channel.

A Block sums up up to 64 steps of one stream; a Digest is the left fold of blocks. Rules see nothing else. Folding is
pure, so that a run judged while it goes and the same run judged from disk give the same findings.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import merge
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auscult.core.anatomy import Anatomy
from auscult.core.audit import Audit
from auscult.core.metric import Stream
from auscult.core.origin import Origin
from auscult.core.run import Parameter, Run, Segment
from auscult.core.sink import Channel, Values, observed
from auscult.core.standstill import Standstill
from auscult.core.state import (
    NEVER,
    PAST_LEVELS,
    STATE,
    UNSEEN,
    Places,
    Trajectory,
    add_blocks,
    no_past,
    trajectory_of,
)

BLOCK_STEPS = 64
FOLDED_BLOCKS = 32  # at a time, of a run that is read
KEPT_PLACES = 64

BLOCK = np.dtype(
    [
        ("count", "<u2"),  # rows in which the channel was observed
        ("finite", "<u2"),  # of these, rows with a finite value
        ("zeros", "<u2"),  # of these, rows with an exact 0
        ("nonfinite_at", "<u2"),  # first non-finite row, as an offset in steps from the start of the block; or NEVER
        ("nonfinite_last", "<u2"),  # last non-finite row, likewise
        ("zeros_from", "<u2"),  # row at which the exact zeros that last to the end of the block began; or NEVER
        ("zero_tail", "<u2"),  # rows in that streak
        ("first_at", "<u2"),  # first observed row; or NEVER
        ("last_at", "<u2"),  # last observed row; or NEVER
        ("maximum_at", "<u2"),  # row of the largest |value|; or NEVER
        ("minimum", "<f4"),  # over the finite values; NaN if there is none
        ("maximum", "<f4"),
        ("mean", "<f4"),
        ("log_median", "<f4"),  # median of log10|x| over the finite values that are not 0; NaN if there is none
        ("first", "<f4"),  # first observed value
        ("last", "<f4"),  # last observed value
        ("nonfinite", "<f4"),  # first non-finite value (NaN or an infinity); 0 if there is none
    ]
)
"""What a block holds per channel. Offsets count steps from `Block.start`."""


def _nothing() -> NDArray[np.void]:
    """What a block holds of a channel that was not observed, shape `()`."""
    nothing = np.zeros((), BLOCK)
    for name in ("nonfinite_at", "nonfinite_last", "zeros_from", "first_at", "last_at", "maximum_at"):
        nothing[name] = NEVER
    for name in ("minimum", "maximum", "mean", "log_median", "first", "last"):
        nothing[name] = np.nan
    return nothing


_NOTHING = _nothing()


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Up to 64 steps of one stream, `[start, start + 64)` with `start` a multiple of 64.

    Attributes:
        stream: The stream summed up.
        start: First step of the block (not necessarily observed).
        stop: One past the last step it has seen; `start + 64` for a closed block.
        channels: The columns `(C,)`.
        values: Structured array `(C,)` of dtype `BLOCK`.
    """

    stream: Stream
    start: int
    stop: int
    channels: tuple[Channel, ...]
    values: NDArray[np.void]


def block_start(step: int) -> int:
    """First step of the block that a step lies in."""
    return step - step % BLOCK_STEPS


def digest_rows(
    stream: Stream,
    channels: tuple[Channel, ...],
    steps: NDArray[np.int64],
    rows: Values,
    stop: int,
) -> Block:
    """Sum up the rows of one block.

    Args:
        stream: The stream they belong to.
        channels: The columns `(C,)`.
        steps: int64 `(R,)`, strictly increasing, all within one block; R >= 1.
        rows: `(R, C)`, contiguous, float32 or float64 as the stream has it; see `auscult.core.sink.observed`.
        stop: One past the last step that the block has seen.
    """
    start = block_start(int(steps[0]))
    offsets = (steps - start).astype(np.uint16)
    finite, size = np.isfinite(rows), np.abs(rows)
    whole, full = bool(finite.all()), bool(rows.all())  # nothing but finite numbers; no exact 0
    block = np.empty(len(channels), BLOCK)
    block[:] = _NOTHING
    count = np.intp(len(rows)) if whole else finite.sum(0)
    block["count"] = block["finite"] = count
    seen = finite
    if not whole:
        seen = observed(rows)
        block["count"] = seen.sum(0)
        _place_nonfinite(block, offsets, rows, seen & ~finite)
    if not full:
        zero = rows == 0
        block["zeros"] = zero.sum(0)
        block["zeros_from"], block["zero_tail"] = _trailing_zeros(seen, zero, offsets)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        _place_ends(block, offsets, rows, None if whole else seen)
        if whole:
            values = exact = rows
            block["maximum_at"] = offsets[size.argmax(0)]
        else:
            values, exact = np.where(finite, rows, np.nan), np.where(finite, rows, 0.0)
            largest = np.where(finite, size, -1.0).argmax(0)
            block["maximum_at"] = np.where(count > 0, offsets[largest], NEVER)
        block["minimum"] = _limited(np.fmin.reduce(values, axis=0))
        block["maximum"] = _limited(np.fmax.reduce(values, axis=0))
        block["mean"] = _limited(exact.astype(np.float64).sum(0) / count)
        plain = whole and full
        block["log_median"] = _median_of_logs(size if plain else np.where(finite & (size > 0), size, np.nan), plain)
    return Block(stream, start, stop, channels, block)


def _limited(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Numbers that float32 has room for."""
    largest = np.finfo(np.float32).max
    return values if values.dtype == np.float32 else np.clip(values, -largest, largest)


def _place_nonfinite(
    block: NDArray[np.void], offsets: NDArray[np.uint16], rows: Values, bad: NDArray[np.bool_]
) -> None:
    """Write down where the rows are that are not finite; `bad` is `(R, C)`."""
    columns = np.flatnonzero(bad.any(0))
    if len(columns):
        first, last = bad[:, columns].argmax(0), -1 - bad[::-1, columns].argmax(0)
        block["nonfinite_at"][columns] = offsets[first]
        block["nonfinite_last"][columns] = offsets[last]
        block["nonfinite"][columns] = rows[first, columns]


def _place_ends(
    block: NDArray[np.void], offsets: NDArray[np.uint16], rows: Values, seen: NDArray[np.bool_] | None
) -> None:
    """Write down the first and the last observed row; `seen` is `(R, C)`, or None where every row is."""
    if seen is None:
        block["first_at"], block["last_at"] = offsets[0], offsets[-1]
        block["first"], block["last"] = rows[0], rows[-1]
        return
    known, columns = seen.any(0), np.arange(rows.shape[1])
    for name, place, rank in (("first", "first_at", seen.argmax(0)), ("last", "last_at", -1 - seen[::-1].argmax(0))):
        block[place] = np.where(known, offsets[rank], NEVER)
        block[name] = np.where(known, rows[rank, columns], np.nan)


def _trailing_zeros(
    seen: NDArray[np.bool_], zero: NDArray[np.bool_], offsets: NDArray[np.uint16]
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Offset at which the exact zeros that reach the last observed row began, and their number; both `(C,)`.

    Rows in which a channel was not observed do not interrupt its streak.
    """
    broken = seen & ~zero
    after = len(broken) - broken[::-1].argmax(0)  # one past the last row that is not zero
    after = np.where(broken.any(0), after, 0)
    rows = np.arange(len(broken))[:, None]
    tail = zero & (rows >= after)
    return np.where(tail.any(0), offsets[tail.argmax(0)], NEVER).astype(np.uint16), tail.sum(0)


def _median_of_logs(sizes: Values, plain: bool) -> NDArray[np.float64]:
    """log10 of positive sizes `(R, C)`, its median over axis 0; NaN where a column has no number.

    Args:
        sizes: Positive or NaN.
        plain: Whether none is NaN.
    """
    ordered = np.sort(sizes, axis=0)  # NaN sorts to the end
    if plain:
        low, high = np.log10(ordered[[(len(sizes) - 1) // 2, len(sizes) // 2]].astype(np.float64))
        return (low + high) / 2
    count = np.count_nonzero(~np.isnan(ordered), axis=0)
    columns = np.arange(sizes.shape[1])
    middle = ordered[[np.maximum((count - 1) // 2, 0), np.minimum(count // 2, len(sizes) - 1)], columns]
    low, high = np.log10(middle.astype(np.float64))
    return np.where(count > 0, (low + high) / 2, np.nan)


class ChannelIndex:
    """Where each channel of a digest is; one for all digests that have the same channels.

    Args:
        channels: All columns of all streams `(C,)`, in the order in which they were first seen.

    Attributes:
        channels: These.
        positions: The position of each.
    """

    __slots__ = ("_places", "_rows", "channels", "positions")

    def __init__(self, channels: tuple[Channel, ...] = ()) -> None:
        self.channels = channels
        self.positions = {channel: position for position, channel in enumerate(channels)}
        self._places: dict[tuple[int, ...], tuple[Sequence[tuple[Channel, ...]], tuple[Places, ...]]] = {}
        self._rows: dict[tuple[str, tuple[str, ...] | None], tuple[NDArray[np.intp], NDArray[np.bool_] | None]] = {}

    def with_channels(self, several: Sequence[tuple[Channel, ...]]) -> "ChannelIndex":
        """This index, or a new one where channels are not known yet."""
        if tuple(map(id, several)) in self._places:
            return self
        new = dict.fromkeys(each for channels in several for each in channels if each not in self.positions)
        return ChannelIndex((*self.channels, *new)) if new else self

    def places(self, several: Sequence[tuple[Channel, ...]]) -> "tuple[Places, ...]":
        """Where the channels of several streams are, all in one if none is in two of them; found once for each."""
        key = tuple(map(id, several))
        known = self._places.get(key)
        if known is None:
            if len(self._places) >= KEPT_PLACES:
                self._places.clear()
            parts = [np.array([self.positions[each] for each in channels], np.intp) for channels in several]
            joined = np.concatenate(parts)
            if len(np.unique(joined)) == len(joined):
                parts = [joined]
            known = self._places[key] = several, tuple(Places.at(part) for part in parts)
        return known[1]

    def rows(self, metric: str, paths: tuple[str, ...] | None) -> tuple[NDArray[np.intp], NDArray[np.bool_] | None]:
        """Positions `(P,)` of one metric by path, or without paths of all that there are.

        Returns:
            The positions, -1 where there is none, and where that is; None if it is nowhere.
        """
        key = metric, paths
        known = self._rows.get(key)
        if known is None:
            found: Iterable[int] = (
                (position for channel, position in self.positions.items() if channel.metric == metric)
                if paths is None
                else (self.positions.get(Channel(metric, path), -1) for path in paths)
            )
            rows = np.array(list(found), np.intp)
            known = self._rows[key] = rows, (rows < 0 if (rows < 0).any() else None)
        return known


@dataclass(frozen=True, slots=True, eq=False)
class Digest:
    """Everything rules may look at.

    Attributes:
        segments: Where the run began and was resumed, with the facts known at that time; at least one.
        audit: What the first loss call looked like, where it was observed.
        origins: Where non-finite numbers arose, as far as that was searched for.
        anatomy: What the first training pass showed of the model, where it was observed.
        standstill: The last time that training went on for long without an update.
        finished: Whether the run has ended and no row will follow.
        step: The last step seen; -1 before the first.
        state: Structured array `(C,)` of dtype `STATE`.
        past: The bins of the same channels; see `auscult.core.state.no_past`.
        index: Where each channel is.
    """

    segments: tuple[Segment, ...]
    audit: Audit | None = None
    origins: tuple[Origin, ...] = ()
    anatomy: Anatomy | None = None
    standstill: Standstill | None = None
    finished: bool = False
    step: int = -1
    state: NDArray[np.void] = field(default_factory=lambda: np.empty(0, STATE))
    past: NDArray[np.float32] = field(default_factory=lambda: no_past(0, 0))
    index: ChannelIndex = field(default_factory=ChannelIndex)

    @property
    def told(self) -> bool:
        """Whether there is more to judge by than facts of the first step: a block, or a standstill."""
        return self.step >= 0 or self.standstill is not None

    @property
    def channels(self) -> tuple[Channel, ...]:
        """All columns of all streams `(C,)`, in the order in which they were first seen."""
        return self.index.channels

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters, as the last segment found them."""
        return self.segments[-1].parameters

    def select(self, metric: str, paths: Sequence[str] | None = None) -> tuple[list[str], NDArray[np.void]]:
        """Paths and states `(P,)` of one metric, in the order asked for (or recorded); unobserved ones are left out."""
        rows, _ = self.index.rows(metric, None if paths is None else tuple(paths))
        rows = rows[(rows >= 0) & (self.state["rows"][rows] > 0)] if len(self.state) else rows[:0]
        return [self.channels[row].path for row in rows.tolist()], self.state[rows]

    def take(self, name: str, metric: str, paths: tuple[str, ...]) -> NDArray[Any]:
        """One field of the state of a metric by path, `(P,)` or `(P, ring)`; of one never observed, as `STATE` has it.

        Much faster than the states as a whole where there are many; fastest if `paths` stays the same.
        """
        rows, missing = self.index.rows(metric, paths)
        if not len(self.state):
            return np.broadcast_to(UNSEEN[name], (len(rows), *UNSEEN[name].shape))
        values = self.state[name][rows]
        if missing is not None:
            values[missing] = UNSEEN[name]
        return values

    def trajectory(self, metric: str, paths: tuple[str, ...]) -> Trajectory:
        """How a metric went by path from the beginning until now, `(P, M)`."""
        recent = np.stack([self.take(name, metric, paths) for name in ("recent", "recent_at")])
        return trajectory_of(self.take("blocks", metric, paths), recent, self._past(metric, paths))

    def _past(self, metric: str, paths: tuple[str, ...]) -> NDArray[np.float32]:
        """The bins of a metric by path, of all levels; NaN where there is none."""
        rows, missing = self.index.rows(metric, paths)
        past = no_past(len(rows), 2**PAST_LEVELS)
        if len(self.past):
            past[:, : self.past.shape[1]] = self.past[rows]
            if missing is not None:
                past[missing] = np.nan
        return past

    def fold(self, *blocks: Block) -> "Digest":
        """This digest with the blocks of the next 64 steps (one per stream) added; neither is changed."""
        if len({block.start for block in blocks}) != 1:
            return self.fold_all(blocks)
        several = [block.channels for block in blocks]
        index = self.index.with_channels(several)
        places = index.places(several)
        state, past = self._state_of(index, len(places))
        values = [block.values for block in blocks]
        if len(places) == 1:
            values = [np.concatenate(values)]
        starts = np.array([blocks[0].start])
        for at, part in zip(places, values, strict=True):
            add_blocks(state, past, at, part[None], starts)
        step = max(self.step, *(block.stop - 1 for block in blocks))
        return replace(self, step=step, state=state, past=past, index=index)

    def fold_all(self, blocks: Iterable[Block]) -> "Digest":
        """This digest with many blocks added, in the order of their steps; the same as `fold` for each 64 steps."""
        digest = self
        waiting: dict[Stream, list[Block]] = {}
        for block in blocks:
            some = waiting.get(block.stream)
            if some and (len(some) == FOLDED_BLOCKS or some[0].channels is not block.channels):
                digest, waiting = digest._fold(list(waiting.values())), {}
            waiting.setdefault(block.stream, []).append(block)
        return digest._fold(list(waiting.values())) if waiting else digest

    def _fold(self, groups: Sequence[Sequence[Block]]) -> "Digest":
        """This digest with groups of blocks added; each group has one stream and one tuple of channels."""
        several = [group[0].channels for group in groups]
        index = self.index.with_channels(several)
        state, past = self._state_of(index, len(index.places(several)) * max(map(len, groups)))
        for group in groups:
            values = np.empty((len(group), len(group[0].values)), BLOCK)
            for into, block in zip(values, group):
                into[:] = block.values
            starts = np.array([block.start for block in group])
            add_blocks(state, past, index.places([group[0].channels])[0], values, starts)
        step = max([self.step, *(block.stop - 1 for group in groups for block in group)])
        return replace(self, step=step, state=state, past=past, index=index)

    def _state_of(self, index: ChannelIndex, more: int) -> tuple[NDArray[np.void], NDArray[np.float32]]:
        """Copies of the state and the past with room for all channels of an index with these, and for more blocks."""
        state = np.empty(len(index.channels), STATE)
        state[: len(self.state)] = self.state
        state[len(self.state) :] = UNSEEN
        past = no_past(len(state), int(self.state["blocks"].max(initial=0)) + more)
        past[: len(self.past), : self.past.shape[1]] = self.past
        return state, past


def digest_run(run: Run) -> tuple[Digest, Digest]:
    """Fold a run read from a store.

    Returns:
        `closed`, the fold of all blocks that were complete when the run stood where it stands now, and `now`, which
        adds the rows since. Of a finished run both are the same: its last block is complete although it is short.
    """
    end = run.last_step + 1
    tip = end if run.finished else block_start(end)
    blocks = merge(*(complete_blocks(run, stream, end) for stream in run.streams), key=lambda block: block.start)
    rest: list[Block] = []

    def complete() -> Iterator[Block]:
        for block in blocks:
            if block.stop <= tip:
                yield block
            else:
                rest.append(block)

    empty = Digest(run.segments, run.audit, run.origins, run.anatomy, run.standstill, run.finished)
    closed = empty.fold_all(complete())
    return closed, closed.fold(*rest)


def complete_blocks(run: Run, stream: Stream, end: int) -> Iterator[Block]:
    """The stored blocks of one stream before a step, and after them the rows that none of these covers."""
    covered = 0
    for block in run.source.blocks(stream):
        if block.start + BLOCK_STEPS <= end:
            covered = block.start + BLOCK_STEPS
            yield block
    channels = run.source.channels(stream)
    steps, rows = run.source.rows(stream, covered, end)
    bounds = np.flatnonzero(np.diff(steps // BLOCK_STEPS)) + 1
    for part in np.split(np.arange(len(steps)), bounds) if len(steps) else []:
        stop = min(block_start(int(steps[part[0]])) + BLOCK_STEPS, end)
        yield digest_rows(stream, channels, steps[part], np.ascontiguousarray(rows[part]), stop)


def channel_values(block: Block, positions: NDArray[np.intp]) -> NDArray[np.void]:
    """Values of some channels of a block's stream `(K,)` of dtype `BLOCK`.

    Args:
        block: The block.
        positions: Of the channels in the stream, `(K,)`; -1 for one that it does not have, which is unobserved, as is
            one that the block does not have yet.
    """
    known = (positions >= 0) & (positions < len(block.values))
    if known.all():
        return block.values.take(positions)
    kept = np.full(len(positions), _NOTHING)
    kept[known] = block.values[positions[known]]
    return kept
