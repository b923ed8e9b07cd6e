"""Block and Digest: a run in a fixed number of bytes per channel.

A Block sums up up to 64 steps of one stream; a Digest is the left fold of blocks. Rules see nothing else. Folding is
pure, so that a run judged while it goes and the same run judged from disk give the same findings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from auscult.core.metric import Stream
from auscult.core.origin import Origin
from auscult.core.run import Audit, Parameter, Run, Segment
from auscult.core.sink import Channel, Values, observed

BLOCK_STEPS = 64
EARLY_BLOCKS = 4
RECENT_BLOCKS = 16
NEVER = np.uint16(0xFFFF)

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

STATE = np.dtype(
    [
        ("rows", "<i8"),  # rows observed
        ("finite", "<i8"),
        ("zeros", "<i8"),
        ("zero_rows", "<i8"),  # rows in the streak of exact zeros that lasts until now
        ("zeros_from", "<i8"),  # step at which it began; -1 if there is none
        ("nonfinite_at", "<i8"),  # first non-finite step; -1 if there is none
        ("nonfinite_last", "<i8"),  # last non-finite step; -1
        ("first_step", "<i8"),  # first observed step; -1
        ("last_step", "<i8"),  # last observed step; -1
        ("maximum_at", "<i8"),  # step of the largest |value|; -1
        ("first", "<f8"),
        ("last", "<f8"),
        ("minimum", "<f8"),
        ("maximum", "<f8"),
        ("nonfinite", "<f8"),  # first non-finite value; 0 if there is none
        ("blocks", "<i8"),  # blocks with at least one value
        ("early", "<f8", (EARLY_BLOCKS,)),  # log_median of the first blocks, NaN-padded: the run's own baseline
        ("recent", "<f8", (RECENT_BLOCKS,)),  # log_median of the last blocks, newest last, NaN-padded in front
        ("recent_minimum", "<f8", (RECENT_BLOCKS,)),
        ("recent_maximum", "<f8", (RECENT_BLOCKS,)),
        ("recent_mean", "<f8", (RECENT_BLOCKS,)),
    ]
)
"""What a digest holds per channel, whatever the length of the run."""


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
    seen = observed(rows)
    finite = seen & np.isfinite(rows)
    zero = finite & (rows == 0)
    bad = seen & ~finite
    block = np.zeros(len(channels), BLOCK)
    block["count"] = seen.sum(0)
    block["finite"] = finite.sum(0)
    block["zeros"] = zero.sum(0)
    any_bad = bad.any(0)
    block["nonfinite_at"] = np.where(any_bad, offsets[bad.argmax(0)], NEVER)
    block["nonfinite_last"] = np.where(any_bad, offsets[len(steps) - 1 - bad[::-1].argmax(0)], NEVER)
    block["nonfinite"] = np.where(any_bad, rows[bad.argmax(0), np.arange(len(channels))], 0.0)
    block["zeros_from"], block["zero_tail"] = _trailing_zeros(seen, zero, offsets)
    largest = np.finfo(np.float32).max
    values = np.where(finite, rows, np.nan).astype(np.float64)
    empty = ~finite.any(0)
    block["maximum_at"] = np.where(empty, NEVER, offsets[np.where(finite, np.abs(rows), -1.0).argmax(0)])
    block["minimum"] = np.where(empty, np.nan, np.clip(np.where(finite, rows, np.inf).min(0), -largest, largest))
    block["maximum"] = np.where(empty, np.nan, np.clip(np.where(finite, rows, -np.inf).max(0), -largest, largest))
    with np.errstate(invalid="ignore", divide="ignore"):
        block["mean"] = np.clip(np.where(finite, values, 0.0).sum(0) / finite.sum(0), -largest, largest)
        logs = np.log10(np.abs(values))
    logs[~finite | zero] = np.nan
    block["log_median"] = _median_ignoring_nan(logs)
    columns = np.arange(len(channels))
    first, last = seen.argmax(0), len(steps) - 1 - seen[::-1].argmax(0)
    block["first_at"] = np.where(seen.any(0), offsets[first], NEVER)
    block["last_at"] = np.where(seen.any(0), offsets[last], NEVER)
    with np.errstate(over="ignore"):
        block["first"] = np.where(seen.any(0), rows[first, columns], np.nan)
        block["last"] = np.where(seen.any(0), rows[last, columns], np.nan)
    return Block(stream, start, stop, channels, block)


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


def _median_ignoring_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over axis 0 of `(R, C)`, NaN where a column has no number; without NumPy's warning for that case."""
    ordered = np.sort(values, axis=0)  # NaN sorts to the end
    count = np.count_nonzero(~np.isnan(values), axis=0)
    columns = np.arange(values.shape[1])
    low = ordered[np.maximum((count - 1) // 2, 0), columns]
    high = ordered[np.minimum(count // 2, len(ordered) - 1), columns]
    return np.where(count > 0, (low + high) / 2, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Digest:
    """Everything rules may look at.

    Attributes:
        segments: Where the run began and was resumed, with the facts known at that time; at least one.
        audit: What the first loss call looked like, where it was observed.
        origins: Where non-finite numbers arose, as far as that was searched for.
        step: The last step seen; -1 before the first.
        channels: All columns of all streams `(C,)`, in the order in which they were first seen.
        state: Structured array `(C,)` of dtype `STATE`.
        index: Position of each channel.
    """

    segments: tuple[Segment, ...]
    audit: Audit | None = None
    origins: tuple[Origin, ...] = ()
    step: int = -1
    channels: tuple[Channel, ...] = ()
    state: NDArray[np.void] = field(default_factory=lambda: np.empty(0, STATE))
    index: dict[Channel, int] = field(default_factory=dict[Channel, int])

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters, as the last segment found them."""
        return self.segments[-1].parameters

    def select(self, metric: str, paths: Sequence[str] | None = None) -> tuple[list[str], NDArray[np.void]]:
        """Paths and states `(P,)` of one metric, in the order asked for (or recorded); unobserved ones are left out."""
        if paths is None:
            positions = [position for channel, position in self.index.items() if channel.metric == metric]
        else:
            wanted = (self.index.get(Channel(metric, path)) for path in paths)
            positions = [position for position in wanted if position is not None]
        positions = [position for position in positions if self.state["rows"][position] > 0]
        return [self.channels[position].path for position in positions], self.state[positions]

    def fold(self, *blocks: Block) -> "Digest":
        """This digest with the blocks of the next 64 steps (one per stream) added; neither is changed."""
        channels, index, state = self.channels, self.index, self.state
        new = tuple(channel for block in blocks for channel in block.channels if channel not in index)
        if new:
            channels = (*channels, *dict.fromkeys(new))
            index = {channel: position for position, channel in enumerate(channels)}
        grown = np.zeros(len(channels), STATE)
        grown[len(state) :] = _empty_state()
        grown[: len(state)] = state
        step = self.step
        for block in blocks:
            positions = np.fromiter((index[channel] for channel in block.channels), np.intp, len(block.channels))
            used = block.values["count"] > 0
            grown[positions[used]] = _fold(grown[positions[used]], block.values[used], block.start)
            step = max(step, block.stop - 1)
        return replace(self, step=step, channels=channels, state=grown, index=index)


def _empty_state() -> NDArray[np.void]:
    state = np.zeros(1, STATE)
    for name in ("zeros_from", "nonfinite_at", "nonfinite_last", "first_step", "last_step", "maximum_at"):
        state[name] = -1
    for name in ("first", "last", "minimum", "maximum", "early"):
        state[name] = np.nan
    for name in ("recent", "recent_minimum", "recent_maximum", "recent_mean"):
        state[name] = np.nan
    return state


def _fold(state: NDArray[np.void], block: NDArray[np.void], start: int) -> NDArray[np.void]:
    """States `(K,)` after one more block `(K,)`, every channel of which has at least one value."""
    new = state.copy()
    opening = state["rows"] == 0
    new["rows"] += block["count"]
    new["finite"] += block["finite"]
    new["zeros"] += block["zeros"]
    unbroken = block["zeros"] == block["count"]
    tail = block["zeros_from"] != NEVER
    going_on = unbroken & (state["zeros_from"] >= 0)
    new["zeros_from"] = np.where(
        going_on, state["zeros_from"], np.where(tail, start + block["zeros_from"].astype(int), -1)
    )
    new["zero_rows"] = np.where(going_on, state["zero_rows"], 0) + block["zero_tail"]
    bad = block["nonfinite_at"] != NEVER
    new["nonfinite_at"] = np.where(
        bad & (state["nonfinite_at"] < 0), start + block["nonfinite_at"].astype(int), state["nonfinite_at"]
    )
    new["nonfinite"] = np.where(bad & (state["nonfinite_at"] < 0), block["nonfinite"], state["nonfinite"])
    new["nonfinite_last"] = np.where(bad, start + block["nonfinite_last"].astype(int), state["nonfinite_last"])
    new["first_step"] = np.where(opening, start + block["first_at"].astype(int), state["first_step"])
    new["last_step"] = start + block["last_at"].astype(int)
    new["first"] = np.where(opening, block["first"], state["first"])
    new["last"] = block["last"]
    size = np.fmax(np.abs(block["minimum"]), np.abs(block["maximum"]))
    record = np.fmax(np.abs(state["minimum"]), np.abs(state["maximum"]))
    larger = (size > record) | (np.isnan(record) & ~np.isnan(size))
    new["maximum_at"] = np.where(larger, start + block["maximum_at"].astype(int), state["maximum_at"])
    new["minimum"] = np.fmin(state["minimum"], block["minimum"])
    new["maximum"] = np.fmax(state["maximum"], block["maximum"])
    rows = np.arange(len(new))
    early = np.minimum(state["blocks"], EARLY_BLOCKS - 1)
    new["early"][rows, early] = np.where(state["blocks"] < EARLY_BLOCKS, block["log_median"], new["early"][rows, early])
    new["blocks"] += 1
    for name, source in (
        ("recent", "log_median"),
        ("recent_minimum", "minimum"),
        ("recent_maximum", "maximum"),
        ("recent_mean", "mean"),
    ):
        new[name][:, :-1] = state[name][:, 1:]
        new[name][:, -1] = block[source]
    return new


def digest_run(run: Run) -> tuple[Digest, Digest]:
    """Fold a run read from a store.

    Returns:
        `closed`, the fold of all blocks that were complete when the run stood where it stands now, and `now`, which
        adds the rows since. Of a finished run both are the same: its last block is complete although it is short.
    """
    end = run.last_step + 1
    tip = end if run.finished else block_start(end)
    by_start: dict[int, list[Block]] = {}
    rest: list[Block] = []
    for stream in run.streams:
        for block in _blocks(run, stream, end):
            if block.stop <= tip:
                by_start.setdefault(block.start, []).append(block)
            else:
                rest.append(block)
    closed = Digest(run.segments, run.audit, run.origins)
    for start in sorted(by_start):
        closed = closed.fold(*by_start[start])
    return closed, closed.fold(*rest) if rest else closed


def _blocks(run: Run, stream: Stream, end: int) -> list[Block]:
    """The blocks of one stream in order: stored ones, then the rows that no stored block covers yet."""
    stored = [block for block in run.source.blocks(stream) if block.start + BLOCK_STEPS <= end]
    covered = stored[-1].start + BLOCK_STEPS if stored else 0
    channels = run.source.channels(stream)
    steps, rows = run.source.rows(stream, covered, end)
    bounds = np.flatnonzero(np.diff(steps // BLOCK_STEPS)) + 1
    for part in np.split(np.arange(len(steps)), bounds) if len(steps) else []:
        stop = min(block_start(int(steps[part[0]])) + BLOCK_STEPS, end)
        stored.append(digest_rows(stream, channels, steps[part], np.ascontiguousarray(rows[part]), stop))
    return stored
