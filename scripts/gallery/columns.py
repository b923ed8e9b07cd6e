"""Columns: the steps of a run in bins of equal width, no more of them than a picture can show."""

import numpy as np
from numpy.typing import NDArray

from auscult.core.series import Series

COLUMNS = 400  # at most; longer runs are summed up in as many bins of steps

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]


def edges_of(steps: Steps) -> Steps:
    """First steps of the columns, and the end of the last one."""
    first, stop = int(steps[0]), int(steps[-1]) + 1
    count = min(COLUMNS, stop - first)
    return first + np.arange(count + 1, dtype=np.int64) * (stop - first) // count


def split(series: Series, edges: Steps) -> list[Floats]:
    """The values of each column; empty where none was observed."""
    return np.split(series.values, np.searchsorted(series.steps, edges[1:-1]))


def line(series: Series, edges: Steps, zeros: bool) -> tuple[Floats, Floats]:
    """Middle of each column that has a finite value, and the median of these; zeros count where `zeros` says so."""
    middles, medians = [], []
    for start, stop, values in zip(edges[:-1], edges[1:], split(series, edges)):
        usable = values[np.isfinite(values) & ((values > 0) | zeros)]
        if len(usable):
            middles.append((start + stop - 1) / 2)
            medians.append(np.median(usable))
    return np.array(middles), np.array(medians)
