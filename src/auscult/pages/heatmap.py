"""Heatmap: depth x steps, one cell per row and column, coded for the page.

The code of a cell says how far the row is from its own centre, the median of its finite positive values:
1000 * log10(value / centre), of the value of the column that is farthest from it; the other end of the column is coded
alike. Fractions (dead, saturated) are coded on a linear scale, 10000 * value, the largest of the column. Knows nothing
of colours.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from auscult.pages.curve import numbers
from auscult.pages.packed import packed
from auscult.pages.sweep import Sweep
from auscult.pages.wording import shown

Floats = NDArray[np.float64]

NOT_OBSERVED = -32768
NON_FINITE = -32767
ZERO = -32766
LOG_SCALE = 1000
LINEAR_SCALE = 10_000
FARTHEST = 32_000

HEALTHY = {"update_to_data": 1e-3}
"""Centres that the literature gives (Karpathy, 2022); of every other metric a row is compared with itself or with the
other rows."""

FRACTIONS = ("dead_fraction", "saturated_fraction")


@dataclass(frozen=True, slots=True, eq=False)
class Heatmap:
    """One metric of P rows over C columns of steps.

    Attributes:
        metric: The metric.
        rows: Paths `(P,)` in model order.
        starts: First step of each column, int64 `(C,)`.
        stops: One past the last step of each column `(C,)`.
        codes: int16 `(P, C)`; `NOT_OBSERVED`, `NON_FINITE` and `ZERO` are no distances. Where a column holds several
            kinds, non-finite hides zero and zero hides values.
        others: The other end of what each column holds, coded alike `(P, C)`; None where every column is one step.
        centres: The healthy centre of each row, float64 `(P,)`; NaN where it has no positive value.
        scale: `log` (decades from the centre) or `linear` (the value itself, 0 to 1).
        reach: Decades at which the colours end, >= 1; 1 on a linear scale.
        pair: Names of two runs, where the values are those of the second divided by those of the first.
    """

    metric: str
    rows: tuple[str, ...]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    codes: NDArray[np.int16]
    others: NDArray[np.int16] | None
    centres: NDArray[np.float64]
    scale: Literal["log", "linear"]
    reach: int
    pair: tuple[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types; the codes packed."""
        return {
            "metric": self.metric,
            "rows": [shown(each) for each in self.rows],
            "starts": self.starts.tolist(),
            "stops": self.stops.tolist(),
            "codes": packed(self.codes),
            "others": None if self.others is None else packed(self.others),
            "healthy": HEALTHY.get(self.metric),
            "centres": numbers(self.centres),
            "scale": self.scale,
            "reach": self.reach,
            "pair": self.pair,
        }


def heatmap(swept: Sweep) -> Heatmap:
    """Code a sweep for the page."""
    linear = swept.metric in FRACTIONS
    codes, others = _linear(swept) if linear else _log(swept)
    for each in (codes, others):
        each[swept.bad] = NON_FINITE
        each[~swept.seen] = NOT_OBSERVED
    return Heatmap(
        swept.metric,
        swept.paths,
        swept.starts,
        swept.stops,
        codes.astype(np.int16),
        None if np.array_equal(codes, others) else others.astype(np.int16),
        swept.centres,
        "linear" if linear else "log",
        1 if linear else reach_of(codes),
    )


def _log(swept: Sweep) -> tuple[Floats, Floats]:
    with np.errstate(invalid="ignore", divide="ignore"):  # cells without a positive value are overwritten below
        centre = np.log10(swept.centres)[:, None]
        below = np.log10(swept.low) - centre
        above = np.log10(swept.high) - centre
    lower = np.abs(below) > np.abs(above)
    ends = [np.where(lower, below, above), np.where(lower, above, below)]
    finite = [np.nan_to_num(each, posinf=0.0, neginf=0.0) for each in ends]
    codes, others = (np.clip(np.rint(each * LOG_SCALE), -FARTHEST, FARTHEST) for each in finite)
    for each in (codes, others):
        each[swept.zero] = ZERO
    return codes, others


def _linear(swept: Sweep) -> tuple[Floats, Floats]:
    least = np.where(swept.zero, 0.0, np.minimum(swept.low, 1.0))
    codes, others = (np.rint(np.clip(each, 0.0, 1.0) * LINEAR_SCALE) for each in (swept.high, least))
    return codes, others


def reach_of(codes: Floats) -> int:
    """Decades that hold 99.5 % of the cells, between 1 and 4."""
    usual = np.abs(codes[codes > ZERO])
    if not len(usual):
        return 1
    return int(np.clip(np.ceil(np.quantile(usual, 0.995) / LOG_SCALE), 1, 4))
