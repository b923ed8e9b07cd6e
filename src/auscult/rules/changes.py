"""Change: when a channel left its trajectory, to the step, from bins of its past.

Two straight lines in log10, one through the bins before and one through those after, meet at the onset (least squares
for a broken line: Hudson, JASA 1966; the bin with the kink may be left out: Feder, Annals of Statistics 1975). Knows no
bounds of any rule.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from auscult.core.state import Trajectory

Numbers = NDArray[np.float64]

FEWEST = 3  # bins that a line goes through
PIECES = 12  # at most, from the end backwards
GRADUAL = 0.5  # share of the rise that may be made at once; else it was a jump
SURE = 3.0  # standard deviations of a slope that is not 0
STRAIGHT = 2.0  # standard deviations of the mean square residual that a straight line may lie above the noise
SLIGHT = 0.1  # of the steepest slope: a piece that rises less does not belong to the rise
TRIMMED, TRIMMED_SQUARE = 0.1, 0.623  # of the squares; mean of the others where they are those of normal numbers
FLOOR = 1e-3  # decades: below it nothing is noise


class Changes(NamedTuple):
    """When channels left their trajectory, `(P,)` each; NaN where one did not.

    Attributes:
        step: The onset.
        deviation: Its standard deviation in steps, as the noise around the two lines has it.
        rise: Decades from the lowest level to now.
        gradual: Whether it grew, rather than jumped.
    """

    step: Numbers
    deviation: Numbers
    rise: Numbers
    gradual: NDArray[np.bool_]


class Departure(NamedTuple):
    """Which of several channels left their trajectory first.

    Attributes:
        number: Which of them: of those that cannot be told apart in time, the one that rose farthest.
        step: When: the mean over those that cannot be told apart, each by its certainty.
        rise: Decades from its lowest level to now.
        together: How many cannot be told apart.
    """

    number: int
    step: int
    rise: float
    together: int


def first_to_leave(changes: Changes) -> Departure | None:
    """Of some channels the one that rose first; None if none did."""
    known = np.flatnonzero(~np.isnan(changes.step))
    if not len(known):
        return None
    step, deviation, rise = (each[known] for each in changes[:3])
    first = int((step + deviation).argmin())
    slack = SURE * np.hypot(deviation, deviation[first])
    together = np.abs(step - step[first]) <= slack
    weights = together / deviation**2
    number = int(np.where(together, rise, -np.inf).argmax())
    mean = float((weights * step).sum() / weights.sum())
    return Departure(int(known[number]), max(0, round(mean)), float(rise[number]), int(together.sum()))


class Lines(NamedTuple):
    """A straight line per channel: the mean of its bins, its slope, and how well it fits; `(P,)` or `(P, M)` each."""

    weight: Numbers
    at: Numbers
    level: Numbers
    slope: Numbers
    spread: Numbers  # sum of weighted squares of the distances in steps
    residual: Numbers  # sum of weighted squares
    freedom: Numbers  # bins less two


class Sums:
    """Running sums over the bins of a trajectory, of which the line through any stretch of them is made."""

    def __init__(self, at: Numbers, logs: Numbers, weights: Numbers) -> None:
        columns = np.stack(
            [(weights > 0) * 1.0, weights, weights * at, weights * logs, weights * at * at, weights * at * logs,
             weights * logs * logs]
        )  # fmt: skip
        self._sums = np.concatenate([np.zeros((*columns.shape[:2], 1)), np.cumsum(columns, axis=2)], axis=2)

    def line(self, begin: NDArray[np.intp], end: NDArray[np.intp]) -> Lines:
        """The least-squares lines through bins `begin` to before `end`, `(P, J)` each."""
        sums = [np.take_along_axis(each, end, 1) - np.take_along_axis(each, begin, 1) for each in self._sums]
        bins, weight, x, y, xx, xy, yy = sums
        with np.errstate(invalid="ignore", divide="ignore"):
            at, level = x / weight, y / weight
            spread = np.maximum(xx - weight * at * at, 0.0)
            slope = np.where(spread > 1e-12 * xx, (xy - weight * at * level) / spread, 0.0)
            residual = np.maximum(yy - weight * level * level - slope * slope * spread, 0.0)
        return Lines(weight, at, level, slope, spread, residual, bins - 2)


def rises(trajectory: Trajectory, least: float) -> Changes:
    """Where channels that now lie above their lowest level began to rise.

    Args:
        trajectory: Of P channels.
        least: Decades that the last two bins must lie above the lowest level.
    """
    at, logs, weights = _packed(trajectory)
    count = (weights > 0).sum(1)
    size = len(count)
    step, deviation, height = np.full((3, size), np.nan)
    change = Changes(step, deviation, height, np.zeros(size, np.bool_))
    if not logs.shape[1]:
        return change
    low = _lowest(logs, weights)
    with np.errstate(invalid="ignore"):
        rise = _now(logs, count) - low
        some = np.flatnonzero((rise >= least) & (count > FEWEST))
    if len(some):
        found = Kinks(Trajectory(at[some], logs[some], weights[some]), count[some], low[some], rise[some]).changes()
        for whole, part in zip(change, found, strict=True):
            whole[some] = part
    return change


def _packed(trajectory: Trajectory) -> Trajectory:
    """The bins that there are, in front; as many columns as the longest trajectory has."""
    kept = trajectory.weights > 0
    order = np.argsort(~kept, axis=1, kind="stable")[:, : int(kept.sum(1).max(initial=0))]
    return Trajectory(*(np.take_along_axis(each, order, 1) for each in trajectory))


def _now(logs: Numbers, count: NDArray[np.intp]) -> Numbers:
    """The lower of the last two bins."""
    last = np.stack([np.maximum(count - 1, 0), np.maximum(count - 2, 0)], axis=1)
    return np.take_along_axis(logs, last, 1).min(1)


def _lowest(logs: Numbers, weights: Numbers) -> Numbers:
    """The lowest of the medians of three bins side by side."""
    padded = np.where(weights > 0, logs, np.inf)
    if padded.shape[1] < FEWEST:
        return padded.min(1)
    return np.sort(np.stack([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]]), axis=0)[1].min(1)


def _noise(at: Numbers, logs: Numbers, weights: Numbers) -> Numbers:
    """Variance of a bin of one block about the line between its neighbours, but for the tenth that lies farthest."""
    if at.shape[1] < FEWEST:
        return np.full(len(at), FLOOR**2)
    before, middle, after = slice(None, -2), slice(1, -1), slice(2, None)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (at[:, middle] - at[:, before]) / (at[:, after] - at[:, before])
        expected = (1 - share) * logs[:, before] + share * logs[:, after]
        variance = (1 - share) ** 2 / weights[:, before] + share**2 / weights[:, after] + 1 / weights[:, middle]
        squares = (logs[:, middle] - expected) ** 2 / variance
    known = weights[:, after] > 0
    ordered = np.sort(np.where(known, squares, np.inf), axis=1)
    kept = np.maximum(np.ceil((1 - TRIMMED) * known.sum(1)), 1)[:, None]
    sums = np.where(np.arange(ordered.shape[1]) < kept, np.where(np.isfinite(ordered), ordered, 0.0), 0.0).sum(1)
    return np.maximum(sums / kept[:, 0] / TRIMMED_SQUARE, FLOOR**2)


class Kinks:
    """Courses that have risen, and the search for where each began to."""

    def __init__(self, trajectory: Trajectory, count: NDArray[np.intp], low: Numbers, rise: Numbers) -> None:
        at, logs, weights = trajectory
        self._origin = np.take_along_axis(at, (count - 1)[:, None], 1)
        self._at = np.where(weights > 0, at - self._origin, 0.0)
        self._sums = Sums(self._at, logs, weights)
        self._noise = _noise(at, logs, weights)[:, None]
        self._every = np.broadcast_to(np.arange(at.shape[1]), at.shape)
        self._count, self._high, self._rise = count[:, None], (low + GRADUAL * rise)[:, None], rise[:, None]
        self._low = (weights > 0) & (logs < self._high)

    def changes(self) -> Changes:
        """The onset of each."""
        begin, kink, end = self._pieces()
        kink = self._between(begin, end, kink)
        begin, end = self._before(kink), self._after(kink)
        kink = self._between(begin, end, kink)
        before, after = self._sums.line(begin, kink), self._sums.line(np.minimum(kink + 1, end), end)
        met = _crossing(before, after, self._at, kink, self._origin, self._noise, self._rise)
        jump, width = self._jump()
        step, deviation = np.where(met.gradual, (met.step, met.deviation), (jump, width / 4))
        return Changes(step, deviation, met.rise, met.gradual)

    def _jump(self) -> tuple[Numbers, Numbers]:
        """Between which middles each rose past half of its height: where, and how far they lie apart, `(P,)`."""
        last = np.maximum(self._every.shape[1] - 1 - self._low[:, ::-1].argmax(1), 0)
        sides = np.stack([last, np.minimum(last + 1, self._count[:, 0] - 1)], axis=1)
        here, following = np.take_along_axis(self._at, sides, 1).T
        return (here + following) / 2 + self._origin[:, 0], following - here

    def _pieces(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """From the end backwards, straight pieces as long as the noise allows, until one is low and does not rise.

        Returns:
            Where that piece and the next one begin, and where that one ends, `(P, 1)` each.
        """
        kink, end = self._count, self._count
        begin = self._before(kink)
        steepest = np.zeros(kink.shape)
        for _ in range(PIECES):
            line = self._sums.line(begin, kink)
            with np.errstate(invalid="ignore", divide="ignore"):
                rising = line.slope > np.maximum(SURE * np.sqrt(self._noise / line.spread), SLIGHT * steepest)
            last = line.level + line.slope * (np.take_along_axis(self._at, np.maximum(kink - 1, 0), 1) - line.at)
            going_on = (begin > 0) & (rising | (last > self._high))
            if not going_on.any():
                break
            steepest = np.maximum(steepest, line.slope)
            kink, end = np.where(going_on, begin, kink), np.where(going_on, kink, end)
            begin = np.where(going_on, self._before(kink), begin)
        return begin, kink, end

    def _before(self, kink: NDArray[np.intp]) -> NDArray[np.intp]:
        """From which bin on those before a kink lie on a line, `(P, 1)`."""
        line = self._sums.line(np.minimum(self._every, kink), np.broadcast_to(kink, self._every.shape))
        fits = _is_straight(line, self._noise) & (self._every <= kink - FEWEST)
        return np.where(fits.any(1), fits.argmax(1), np.maximum(kink[:, 0] - FEWEST, 0))[:, None]

    def _after(self, kink: NDArray[np.intp]) -> NDArray[np.intp]:
        """Up to before which bin those after a kink lie on a line, `(P, 1)`."""
        first = np.minimum(kink + 1, self._count)
        line = self._sums.line(np.broadcast_to(first, self._every.shape), np.maximum(self._every + 1, first))
        fits = _is_straight(line, self._noise) & (self._every + 1 >= first + FEWEST) & (self._every < self._count)
        last = self._every.shape[1] - fits[:, ::-1].argmax(1)
        return np.where(fits.any(1), last, np.minimum(kink[:, 0] + 1 + FEWEST, self._count[:, 0]))[:, None]

    def _between(self, begin: NDArray[np.intp], end: NDArray[np.intp], kink: NDArray[np.intp]) -> NDArray[np.intp]:
        """The bin between the two lines that fit best within the bins from `begin` to before `end`, `(P, 1)`."""
        inside = np.clip(self._every, begin, np.maximum(end - 1, begin))
        left = self._sums.line(np.broadcast_to(begin, inside.shape), inside)
        right = self._sums.line(inside + 1, np.broadcast_to(np.maximum(end, begin + 1), inside.shape))
        fits = (self._every >= begin + 2) & (self._every < end - 2) & (right.slope > left.slope)
        cost = np.where(fits, left.residual + right.residual, np.inf)
        return np.where(
            np.isfinite(cost.min(1, keepdims=True)), cost.argmin(1)[:, None], np.clip(kink, 1, self._count - 1)
        )


def _is_straight(line: Lines, noise: Numbers) -> NDArray[np.bool_]:
    """Whether bins lie on their line as the noise allows."""
    freedom = np.maximum(line.freedom, 1)
    return line.residual / freedom <= noise * (1 + STRAIGHT * np.sqrt(2 / freedom))


def _crossing(
    before: Lines, after: Lines, at: Numbers, kink: NDArray[np.intp], origin: Numbers, noise: Numbers, rise: Numbers
) -> Changes:
    """Where the two lines of each channel meet; `(P, 1)` each, `at` `(P, M)` counted from `origin`."""
    bend = after.slope - before.slope
    previous, here, following = (np.take_along_axis(at, np.clip(kink + by, 0, at.shape[1] - 1), 1) for by in (-1, 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        x = (before.level - before.slope * before.at - after.level + after.slope * after.at) / bend
        spread = sum(1 / each.weight + (x - each.at) ** 2 / np.maximum(each.spread, 1e-9) for each in (before, after))
        deviation = np.sqrt(noise * spread) / np.abs(bend)
    first, last = (each.level + each.slope * (here - each.at) for each in (after, before))
    gradual = (bend > 0) & (after.slope > 0) & (first - last <= GRADUAL * rise) & _is_straight(after, noise)
    step = np.clip(x, previous, following) + origin
    return Changes(step[:, 0], np.maximum(deviation, 0.5)[:, 0], rise[:, 0], gradual[:, 0])
