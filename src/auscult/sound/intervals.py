"""Intervals: stretches of seconds in which something holds, sorted and apart from each other."""

import numpy as np
from numpy.typing import NDArray

Intervals = list[tuple[float, float]]

RAMP = 0.005  # seconds in which a voice stops or starts again
BRIEFEST = 0.1  # seconds for which what is not finite, zero or missing is heard at least


def stretches(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Maximal runs of True as (start, stop)."""
    changes = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0)).tolist()
    return list(zip(changes[::2], changes[1::2]))


def intervals_of(mask: NDArray[np.bool_], times: NDArray[np.float64], length: float) -> Intervals:
    """Stretches of steps as intervals of seconds, each long enough to be heard."""
    ends = np.append(times, length)
    spans = [(float(ends[start]), float(ends[stop])) for start, stop in stretches(mask)]
    return joined([(start, min(max(stop, start + BRIEFEST), length)) for start, stop in spans])


def joined(intervals: Intervals) -> Intervals:
    """Sorted intervals, those less than four ramps apart made one."""
    together: Intervals = []
    for start, stop in sorted(intervals):
        if together and start - together[-1][1] < 4 * RAMP:
            together[-1] = (together[-1][0], max(stop, together[-1][1]))
        else:
            together.append((start, stop))
    return together


def without(intervals: Intervals, others: Intervals) -> Intervals:
    """What is left of intervals outside of others, both sorted and disjoint, without pieces shorter than two ramps."""
    left: Intervals = []
    for start, stop in intervals:
        for from_, until in others:
            if until <= start or from_ >= stop:
                continue
            left.append((start, from_))
            start = until
        left.append((start, stop))
    return [(start, stop) for start, stop in left if stop - start > 2 * RAMP]


def corners_of(intervals: Intervals) -> list[float]:
    """Where an envelope that is 0 within the intervals has its corners."""
    return [corner for start, stop in intervals for corner in (start - RAMP, start, stop, stop + RAMP)]
