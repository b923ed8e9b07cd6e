"""Rate: a share with its interval, and whether chance alone would set scores as far apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf, nan, sqrt

Z95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of units, each of which counts from 0 to 1, with its 95 % interval.

    A case that was run with five seeds is one unit: what counts of it is the mean over its seeds. So `count` is an
    effective count and need not be whole; Wilson's formula asks for the share and the number of units alone.

    Attributes:
        count: Sum over the units of what each counts.
        units: Their number.
    """

    count: float
    units: int

    @classmethod
    def over(cls, units: Sequence[float]) -> "Rate":
        """The rate of units, each from 0 to 1."""
        return cls(float(sum(units)), len(units))

    @property
    def value(self) -> float:
        """The share; NaN of no units."""
        return self.count / self.units if self.units else nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval (Wilson, 1927); from 0 to 1 for no units."""
        if not self.units:
            return 0.0, 1.0
        share, n, square = self.value, self.units, Z95**2
        middle = (share + square / (2 * n)) / (1 + square / n)
        half = Z95 * sqrt(max(share * (1 - share), 0.0) / n + square / (4 * n * n)) / (1 + square / n)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        """The share, its interval and the number of units, as `0.93 [0.86, 0.97; 80]`."""
        if not self.units:
            return "-"
        low, high = self.interval
        return f"{self.value:.2f} [{low:.2f}, {high:.2f}; {self.units}]"


def lower_by_chance(low: Sequence[float], high: Sequence[float]) -> float:
    """How often chance alone would set `low` as far below `high` as it is: a one-sided permutation test, exact.

    Args:
        low: Scores said to be the lower ones.
        high: The others.

    Returns:
        Share of all divisions of the scores into two sets of these sizes whose means lie as far apart, the one at hand
        among them; 1.0 where a set is empty.
    """
    if not low or not high:
        return 1.0
    scores = (*low, *high)
    observed = _gap(low, high)
    as_far = divisions = 0
    for chosen in combinations(range(len(scores)), len(low)):
        inside = set(chosen)
        first = [scores[index] for index in chosen]
        rest = [score for index, score in enumerate(scores) if index not in inside]
        as_far += _gap(first, rest) >= observed - 1e-12
        divisions += 1
    return as_far / divisions


def bounded(score: float) -> float:
    """A score within [-1, 1], so that one R2 of -1e9 does not decide a mean; NaN, which is no score, counts as -1."""
    return -1.0 if score != score or score == -inf else max(-1.0, min(1.0, score))


def mean(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return sum(values) / len(values) if values else nan


def _gap(low: Sequence[float], high: Sequence[float]) -> float:
    return mean(high) - mean(low)
