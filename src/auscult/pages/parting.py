"""Parting: from which step on two runs differ, by how much, and where first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auscult.core.metric import Stream
from auscult.core.run import Run
from auscult.core.sink import Channel, Values, observed
from auscult.pages.sweep import steps_of
from auscult.pages.wording import counted, figure, place, shown

Floats = NDArray[np.float64]

LEVELS: Mapping[str, float] = {
    "at all": 0.0,
    "by more than 1 %": 0.01,
    "by more than 10 %": 0.1,
    "by more than a factor of 2": 0.5,
    "by more than a factor of 10": 0.9,
}
"""Bounds of |a - b| / max(|a|, |b|)."""
STREAMS: tuple[Stream, ...] = ("norms", "user")
PIECE = 1024


@dataclass(frozen=True, slots=True)
class Parting:
    """The first step at which two runs differ by more than a bound.

    Attributes:
        level: The bound in words, as `LEVELS` has it.
        step: The step.
        channel: What differs most there.
        left: Its value in the first run.
        right: Its value in the second.
        count: How many channels differ by more than the bound at that step.
    """

    level: str
    step: int
    channel: Channel
    left: float
    right: float
    count: int


@dataclass(frozen=True, slots=True)
class Partings:
    """Where two runs part.

    Attributes:
        found: The first step for each bound that was passed, weakest bound first.
        steps: Number of steps that both runs recorded and that were compared: all up to the last of `found`, or every
            one where a bound was never passed.
    """

    found: tuple[Parting, ...]
    steps: int


def partings(left: Run, right: Run) -> Partings:
    """Compare the norms of all parameters and what was logged, step by step, until every bound is passed.

    NaN is equal to NaN, and differs from every number by more than any bound, as 0 does from what is not 0.
    """
    found: dict[str, Parting] = {}
    steps: set[int] = set()
    for stream in STREAMS:
        if stream not in left.streams or stream not in right.streams:
            continue
        own: dict[str, Parting] = {}
        for at, channels, first, second in _pieces(left, right, stream):
            steps.update(at.tolist())
            _compare(own, at, channels, first, second)
            if len(own) == len(LEVELS):
                break
        for level, each in own.items():
            if level not in found or each.step < found[level].step:
                found[level] = each
    return Partings(tuple(found[level] for level in LEVELS if level in found), len(steps))


def parting_sentence(compared: Partings, names: Sequence[str]) -> str:
    """Where two runs part, in a sentence or two.

    Args:
        compared: What was found.
        names: What the two runs are called.
    """
    one, other = (shown(each) for each in names)
    if not compared.steps:
        return f"{one} and {other} have no step in common at which both recorded the same."
    if not compared.found:
        return f"{one} and {other} agree in every norm and every logged value, in {counted(compared.steps, 'step')}."
    first, last = compared.found[0], compared.found[-1]
    said = f"{one} and {other} part at step {first.step:,}, first in {_named(first)}"
    if last.step == first.step:
        return f"{said}, {last.level}."
    return f"{said}; {last.level} from step {last.step:,}, in {_named(last)}."


def _named(parting: Parting) -> str:
    values = f"{figure(parting.left)} and {figure(parting.right)}"
    return f"{shown(parting.channel.metric)} of {place(parting.channel.path, parting.channel.metric)} ({values})"


def _pieces(
    left: Run, right: Run, stream: Stream
) -> Iterator[tuple[NDArray[np.int64], Sequence[Channel], Values, Values]]:
    """Steps `(R,)` that both have, the channels `(C,)` that both have, and the values of each run `(R, C)`."""
    places = [{each: at for at, each in enumerate(run.source.channels(stream))} for run in (left, right)]
    channels = [each for each in places[0] if each in places[1]]
    columns = [np.array([known[each] for each in channels], np.intp) for known in places]
    ends = [(int(steps[0]), int(steps[-1])) for run in (left, right) if len(steps := steps_of(run, stream))]
    if not channels or len(ends) < 2:
        return
    begin, end = max(first for first, _ in ends), min(last for _, last in ends) + 1
    for start in range(begin, end, PIECE):
        stop = min(start + PIECE, end)
        (steps, rows), (others, values) = (run.source.rows(stream, start, stop) for run in (left, right))
        common, one, other = np.intersect1d(steps, others, assume_unique=True, return_indices=True)
        if len(common):
            yield common, channels, rows[np.ix_(one, columns[0])], values[np.ix_(other, columns[1])]


def _compare(
    found: dict[str, Parting], steps: NDArray[np.int64], channels: Sequence[Channel], left: Values, right: Values
) -> None:
    """Add the partings that lie in some rows."""
    apart = distance(left, right)
    for level, bound in LEVELS.items():
        passed = apart > bound
        rows = np.flatnonzero(passed.any(1))
        if level in found or not len(rows):
            continue
        row = int(rows[0])
        column = int(apart[row].argmax())
        values = float(left[row, column]), float(right[row, column])
        found[level] = Parting(level, int(steps[row]), channels[column], *values, int(passed[row].sum()))


def distance(left: Values, right: Values) -> Floats:
    """|a - b| / max(|a|, |b|), elementwise; 0 where both are NaN or one was not observed, 1 where one is NaN."""
    seen = observed(np.ascontiguousarray(left)) & observed(np.ascontiguousarray(right))
    a, b = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        apart = np.abs(a - b) / np.maximum(np.abs(a), np.abs(b))
    apart = np.where(np.isfinite(a) & np.isfinite(b), apart, 1.0)
    return np.where(~seen | (a == b) | (np.isnan(a) & np.isnan(b)), 0.0, apart)
