"""State: what a digest holds of each channel, and how blocks are added to it.

Knows nothing of channels' names.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EARLY_BLOCKS = 4
RECENT_BLOCKS = 16
PAST_LEVELS, PAST_BINS, MERGED = 10, 32, 2  # 32 bins of 2 blocks, 32 of 4, ... 32 of 1,024: two million steps
NEVER = np.uint16(0xFFFF)

COUNTS = {"rows": "count", "finite": "finite", "zeros": "zeros"}
"""Fields of a state that add up a field of the blocks; in both they lie side by side, in this order."""

RINGS = {"recent_minimum": "minimum", "recent_maximum": "maximum", "recent_mean": "mean", "recent": "log_median"}
"""Fields of a state that keep a field of the last blocks; likewise."""

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
        ("recent_minimum", "<f8", (RECENT_BLOCKS,)),  # of the last blocks, newest last, NaN-padded in front
        ("recent_maximum", "<f8", (RECENT_BLOCKS,)),
        ("recent_mean", "<f8", (RECENT_BLOCKS,)),
        ("recent", "<f8", (RECENT_BLOCKS,)),  # log_median, likewise
        ("trough", "<f8"),  # the lowest log_median; NaN if there is none
        ("recent_at", "<f8", (RECENT_BLOCKS,)),  # the middle of the rows of that block, as a step
    ]
)
"""What a digest holds per channel, whatever the length of the run, besides its past; see `no_past`."""


def _unseen() -> NDArray[np.void]:
    """What a digest holds of a channel that was never observed, shape `()`."""
    state = np.zeros((), STATE)
    for name in ("zeros_from", "nonfinite_at", "nonfinite_last", "first_step", "last_step", "maximum_at"):
        state[name] = -1
    for name in ("first", "last", "minimum", "maximum", "early", "trough", "recent_at", *RINGS):
        state[name] = np.nan
    return state


UNSEEN = _unseen()
"""The state of a channel that was never observed, shape `()`."""


def no_past(channels: int, blocks: int) -> NDArray[np.float32]:
    """Room for the bins of channels, float32 `(C, L, 2, PAST_BINS)`, NaN where there is none yet.

    Of level l, 0 to L - 1, they are means over 2 ** (l + 1) blocks of log_median and of the middle, newest last. There
    are as many levels as blocks need, of `PAST_LEVELS`: they take most of the room, and a short run needs few.

    Args:
        channels: C.
        blocks: The most that a channel has.
    """
    levels = min(max(blocks, 1).bit_length() - 1, PAST_LEVELS)
    return np.full((channels, levels, 2, PAST_BINS), np.nan, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where some channels are among others: their positions `(K,)`, as a slice as well where they follow each other."""

    positions: NDArray[np.intp]
    together: slice | None

    @classmethod
    def at(cls, positions: NDArray[np.intp]) -> "Places":
        """The places at some positions."""
        follow = len(positions) > 0 and bool((np.diff(positions) == 1).all())
        return cls(positions, slice(int(positions[0]), int(positions[-1]) + 1) if follow else None)

    def some(self, chosen: NDArray[np.bool_]) -> "Places":
        """Those of them that are chosen `(K,)`."""
        return Places(self.positions[chosen], None)


class Trajectory(NamedTuple):
    """How some channels went from their beginning until now, in bins that grow the coarser the longer ago they are.

    Attributes:
        at: The middle of each bin as a step, float64 `(P, M)`, oldest first.
        logs: Mean of the medians of log10|x| of its blocks `(P, M)`.
        weights: How many blocks it stands for `(P, M)`; 0 where there is no bin, and then the others are 0 too.
    """

    at: NDArray[np.float64]
    logs: NDArray[np.float64]
    weights: NDArray[np.float64]


def trajectory_of(blocks: NDArray[np.int64], recent: NDArray[np.void], past: NDArray[np.float32]) -> Trajectory:
    """Put the bins of all levels side by side; where two levels overlap, the finer one counts.

    Args:
        blocks: How many blocks each channel has had, `(P,)`.
        recent: Values and middles of the last of them, `(2, P, RECENT_BLOCKS)`.
        past: The coarser levels, `(P, PAST_LEVELS, 2, PAST_BINS)`.
    """
    bins = [np.moveaxis(past[:, level], 1, 0).astype(np.float64) for level in range(PAST_LEVELS)]
    parts, weights = [], []
    stop = blocks[:, None]  # blocks from here on are shown by a finer level
    for level, line in enumerate((recent, *bins)):
        size = MERGED**level
        begin = (blocks[:, None] // size + np.arange(-line.shape[2], 0)) * size
        shown = (begin >= 0) & (begin + size <= stop) & ~np.isnan(line[0])
        coarser = size * MERGED
        first = np.maximum(begin[:, :1], 0)
        stop = -(-first // coarser) * coarser if level < PAST_LEVELS else first
        shown &= begin >= stop
        parts.append(np.where(shown, line, 0.0))
        weights.append(np.where(shown, float(size), 0.0))
    at = np.concatenate(parts[::-1], axis=2)
    return Trajectory(at[1], at[0], np.concatenate(weights[::-1], axis=1))


def add_blocks(
    state: NDArray[np.void],
    past: NDArray[np.float32],
    places: Places,
    blocks: NDArray[np.void],
    starts: NDArray[np.int64],
) -> None:
    """Add blocks to the states of some channels, in place.

    Args:
        state: Structured array `(C,)` of dtype `STATE`, contiguous.
        past: Their bins, with room for what the blocks add; see `no_past`.
        places: Where in it K channels are.
        blocks: Their blocks, a structured array `(B, K)` of dtype `auscult.core.digest.BLOCK`, in order, contiguous.
        starts: The first step of each block, `(B,)`.
    """
    used = blocks["count"] > 0
    if used.all():
        _add_used(state, past, places, blocks, starts)
    elif len(blocks) == 1:
        idle = places.positions[~used[0]]
        kept, kept_past = state[idle], past[idle]
        _add_used(state, past, places, blocks, starts)
        state[idle], past[idle] = kept, kept_past
    else:
        always: NDArray[np.bool_] = np.logical_and.reduce(used, axis=0)
        if always.any():
            _add_used(state, past, places.some(always), blocks[:, always], starts)
        for number in range(len(blocks)):
            some = used[number] & ~always
            if some.any():
                one = slice(number, number + 1)
                _add_used(state, past, places.some(some), blocks[one, some], starts[one])


def _add_used(
    state: NDArray[np.void],
    past: NDArray[np.float32],
    places: Places,
    blocks: NDArray[np.void],
    starts: NDArray[np.int64],
) -> None:
    """Likewise, where each block has at least one value of each channel."""
    if places.together is not None:
        _advance(state[places.together], past[places.together], blocks, starts)
    else:
        some, some_past = state[places.positions], past[places.positions]
        _advance(some, some_past, blocks, starts)
        state[places.positions], past[places.positions] = some, some_past


def _advance(
    state: NDArray[np.void], past: NDArray[np.float32], blocks: NDArray[np.void], starts: NDArray[np.int64]
) -> None:
    """Change states `(K,)` into what they are after blocks `(B, K)`."""
    last = blocks[-1]
    _advance_zeros(state, blocks, starts)
    _advance_extremes(state, blocks, starts)
    bad = blocks["nonfinite_at"] != NEVER
    if bad.any():
        _advance_nonfinite(state, blocks, starts, bad)
    opening = state["rows"] == 0
    if opening.any():
        state["first_step"] = np.where(opening, starts[0] + blocks["first_at"][0], state["first_step"])
        state["first"] = np.where(opening, blocks["first"][0], state["first"])
    state["last_step"] = starts[-1] + last["last_at"]
    state["last"] = last["last"]
    _adjacent(state, COUNTS)[:] += _adjacent(blocks, COUNTS.values()).sum(0, np.int64)
    before = state["blocks"]
    if before.min(initial=EARLY_BLOCKS) < EARLY_BLOCKS:
        for number, medians in enumerate(blocks["log_median"][:EARLY_BLOCKS]):
            some = np.flatnonzero(before + number < EARLY_BLOCKS)
            state["early"][some, before[some] + number] = medians[some]
    state["trough"] = np.fmin(state["trough"], np.fmin.reduce(blocks["log_median"], axis=0))
    _advance_past(state, past, blocks, starts)
    before += len(blocks)
    rings, kept = _adjacent(state, RINGS), _adjacent(blocks, RINGS.values())[-RECENT_BLOCKS:]
    rings[..., : -len(kept)] = rings[..., len(kept) :]
    rings[..., -len(kept) :] = np.moveaxis(kept, 0, -1)


def _advance_past(
    state: NDArray[np.void], past: NDArray[np.float32], blocks: NDArray[np.void], starts: NDArray[np.int64]
) -> None:
    """The middles of the recent blocks, and the bins that grow the coarser the longer ago they are.

    A bin of one level is made of the last two of the level below as soon as these are there, so the shape of a run of
    any length is kept, finest where it is youngest. Called while the rings still stand as before.
    """
    middles = starts[:, None] + (blocks["first_at"].astype(np.float64) + blocks["last_at"]) / 2
    before = state["blocks"]
    counts = before[:1] if (before == before[:1]).all() else np.unique(before)
    for count in counts.tolist():
        if count // MERGED == (count + len(blocks)) // MERGED:
            continue
        some = slice(None) if len(counts) == 1 else np.flatnonzero(before == count)
        line = np.stack([state["recent"][some], state["recent_at"][some]])  # (2, K, 16)
        new = np.stack([blocks["log_median"][:, some], middles[:, some]])  # (2, B, K)
        for level in range(past.shape[1]):
            new = _merged(np.concatenate([np.moveaxis(line, 2, 1), new], axis=1), line.shape[2], count)
            if not new.shape[1]:
                break
            count //= MERGED
            line = np.moveaxis(past[some, level], 1, 0).copy()
            kept = np.concatenate([line, np.moveaxis(new, 1, 2)], axis=2)[..., -PAST_BINS:]
            past[some, level] = np.moveaxis(kept, 0, 1)
    ring, kept = state["recent_at"], middles[-RECENT_BLOCKS:].T
    ring[:, : -len(kept[0])] = ring[:, len(kept[0]) :]
    ring[:, -len(kept[0]) :] = kept


def _merged(line: NDArray[np.floating[Any]], ring: int, count: int) -> NDArray[np.float32]:
    """The bins `(2, G, K)` that are complete at the end of a line of bins, and were not when it had `count`.

    Args:
        line: Values and middles `(2, R + B, K)`, the ring before and B new ones.
        ring: R.
        count: How many there had been in all before the new ones.
    """
    groups = (count + line.shape[1] - ring) // MERGED - count // MERGED
    begin = ring - count % MERGED
    parts = line[:, begin : begin + groups * MERGED].astype(np.float64)
    parts = parts.reshape(2, groups, MERGED, line.shape[2])
    known = ~np.isnan(parts[0])
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.where(known, parts, 0.0).sum(2) / known.sum(1)).astype(np.float32)


def _adjacent(records: NDArray[np.void], names: Iterable[str]) -> NDArray[Any]:
    """Fields of one type that lie side by side in a contiguous array, as one view whose next axis counts them."""
    several = list(names)
    kind, offset = (records.dtype.fields or {})[several[0]][:2]
    element, inner = kind.base, kind.shape
    strides = (*records.strides, kind.itemsize, *(element.itemsize for _ in inner))
    return np.ndarray((*records.shape, len(several), *inner), element, records, offset, strides)


def _advance_zeros(state: NDArray[np.void], blocks: NDArray[np.void], starts: NDArray[np.int64]) -> None:
    """The streaks of exact zeros that last until now."""
    tails = blocks["zero_tail"]
    if not tails[-1].any():
        state["zeros_from"], state["zero_rows"] = -1, 0
        return
    broken = blocks["zeros"] != blocks["count"]
    order = np.arange(len(blocks))[:, None]
    breaker = np.where(broken, order, -1).max(0)  # the last block with a row that is not 0
    counted = (order >= breaker) & (tails > 0)
    rows = np.where(counted, tails, 0).sum(0, np.int64)
    begin = np.where(counted, starts[:, None] + blocks["zeros_from"], np.iinfo(np.int64).max).min(0)
    going_on = (breaker < 0) & (state["zeros_from"] >= 0)
    zero = tails[-1] > 0
    state["zeros_from"] = np.where(zero, np.where(going_on, state["zeros_from"], begin), -1)
    state["zero_rows"] = np.where(zero, rows + np.where(going_on, state["zero_rows"], 0), 0)


def _advance_extremes(state: NDArray[np.void], blocks: NDArray[np.void], starts: NDArray[np.int64]) -> None:
    """Smallest, largest, and where the largest in size was first reached."""
    sizes = np.fmax(np.abs(blocks["minimum"]), np.abs(blocks["maximum"]))
    sizes = np.where(np.isnan(sizes), np.float32(-1), sizes)
    top = sizes.argmax(0), np.arange(sizes.shape[1])
    record = np.fmax(np.abs(state["minimum"]), np.abs(state["maximum"]))
    larger = sizes[top] > np.where(np.isnan(record), -1.0, record)
    if larger.any():
        state["maximum_at"] = np.where(larger, starts[top[0]] + blocks["maximum_at"][top], state["maximum_at"])
    state["minimum"] = np.fmin(state["minimum"], np.fmin.reduce(blocks["minimum"], axis=0))
    state["maximum"] = np.fmax(state["maximum"], np.fmax.reduce(blocks["maximum"], axis=0))


def _advance_nonfinite(
    state: NDArray[np.void], blocks: NDArray[np.void], starts: NDArray[np.int64], bad: NDArray[np.bool_]
) -> None:
    """The first and the last row that was not finite."""
    columns = np.arange(bad.shape[1])
    first, last = bad.argmax(0), len(bad) - 1 - bad[::-1].argmax(0)
    hit = bad.any(0)
    new = hit & (state["nonfinite_at"] < 0)
    at = starts[first] + blocks["nonfinite_at"][first, columns]
    state["nonfinite_at"] = np.where(new, at, state["nonfinite_at"])
    state["nonfinite"] = np.where(new, blocks["nonfinite"][first, columns], state["nonfinite"])
    at = starts[last] + blocks["nonfinite_last"][last, columns]
    state["nonfinite_last"] = np.where(hit, at, state["nonfinite_last"])
