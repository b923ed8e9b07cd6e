"""Curve: one line of a chart, thinned so that no extreme and no non-finite value is lost.

Knows nothing of how it is drawn.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auscult.core.series import Series

Steps = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MAX_POINTS = 2000
MAX_STRETCHES = 200


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One line of a chart.

    Attributes:
        label: What it is called in the legend.
        series: All of its values.
    """

    label: str
    series: Series

    def to_dict(self, limit: int = MAX_POINTS) -> dict[str, Any]:
        """As plain JSON types: at most `limit` points, and the stretches of steps that have no place on every axis."""
        steps, values = thin(self.series.steps, self.series.values, limit)
        finite = np.isfinite(self.series.values)
        return {
            "label": self.label,
            "steps": steps.tolist(),
            "values": numbers(values),
            "nonfinite": stretches(self.series.steps, ~finite),
            "nonpositive": stretches(self.series.steps, finite & (self.series.values <= 0)),
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a series that a table gives in place of its drawing.

    Attributes:
        count: Values observed.
        first: First value.
        last: Last value.
        minimum: Smallest finite value; None if there is none.
        minimum_at: Its step.
        maximum: Largest finite value; None if there is none.
        maximum_at: Its step.
        nonfinite: Number of NaN and infinite values.
        nonfinite_at: Step of the first of them; None if there is none.
    """

    count: int
    first: float
    last: float
    minimum: float | None
    minimum_at: int | None
    maximum: float | None
    maximum_at: int | None
    nonfinite: int
    nonfinite_at: int | None


def summary(series: Series) -> Summary | None:
    """The figures of a series; None if nothing was observed."""
    if not series.observed:
        return None
    steps, values = series.steps, series.values
    finite = np.isfinite(values)
    low = int(np.where(finite, values, np.inf).argmin()) if finite.any() else None
    high = int(np.where(finite, values, -np.inf).argmax()) if finite.any() else None
    return Summary(
        count=len(values),
        first=float(values[0]),
        last=float(values[-1]),
        minimum=None if low is None else float(values[low]),
        minimum_at=None if low is None else int(steps[low]),
        maximum=None if high is None else float(values[high]),
        maximum_at=None if high is None else int(steps[high]),
        nonfinite=int(np.count_nonzero(~finite)),
        nonfinite_at=None if finite.all() else int(steps[finite.argmin()]),
    )


def thin(steps: Steps, values: Floats, limit: int = MAX_POINTS) -> tuple[Steps, Floats]:
    """At most `limit` points of a line: per bin the smallest, the largest and the first non-finite value.

    Args:
        steps: int64 `(N,)`, increasing.
        values: float64 `(N,)`.
        limit: Points to keep at most, >= 5.

    Returns:
        Steps and values of the points kept, the first and the last point among them, in order.
    """
    if len(steps) <= limit:
        return steps, values
    bins = (limit - 2) // (2 if np.isfinite(values).all() else 3)
    width = -(-len(values) // bins)
    table = np.zeros((-(-len(values) // width), width))
    table.flat[: len(values)] = values
    real = np.zeros(table.shape, bool)
    real.flat[: len(values)] = True
    finite = real & np.isfinite(table)
    bad = real & ~finite
    offsets = np.arange(len(table)) * width
    some, broken = finite.any(1), bad.any(1)
    kept = np.concatenate(
        (
            (offsets + np.where(finite, table, np.inf).argmin(1))[some],
            (offsets + np.where(finite, table, -np.inf).argmax(1))[some],
            (offsets + bad.argmax(1))[broken],
            [0, len(values) - 1],
        )
    )
    kept = np.unique(kept)
    return steps[kept], values[kept]


def evenly(count: int, limit: int) -> list[int]:
    """At most `limit` of the indices of `count` things, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).astype(int)).tolist() if count else []


def stretches(steps: Steps, mask: Mask, limit: int = MAX_STRETCHES) -> list[list[int]]:
    """First and last step of every run of True, in order; neighbours are joined where there are more than `limit`.

    Args:
        steps: int64 `(N,)`, increasing.
        mask: bool `(N,)`.
        limit: Stretches to return at most.
    """
    bounds = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    begins, ends = bounds[::2], bounds[1::2] - 1
    if len(begins) > limit:
        group = begins * limit // len(mask)
        opening = np.flatnonzero(np.diff(group, prepend=-1))
        begins, ends = begins[opening], np.maximum.reduceat(ends, opening)
    return np.stack((steps[begins], steps[ends]), axis=1).tolist()


def numbers(values: Floats) -> list[float | None]:
    """Floats in six significant digits as strict JSON has them; None where not finite."""
    return [float(f"{each:.6g}") if np.isfinite(each) else None for each in values.tolist()]
