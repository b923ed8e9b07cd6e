"""Streaks: how long norms have been zero, as far as exact rules look at it."""

import numpy as np
from numpy.typing import NDArray

from auscult.core.sink import Values, observed
from auscult.rules.rule import ZERO_ROWS


class Streaks:
    """Of some columns, counted up to `ZERO_ROWS`: rows, rows with a finite number other than 0, and zeros in a row.

    Args:
        width: Columns, C.
    """

    __slots__ = ("_marks", "_others", "_rows", "_zeros")

    def __init__(self, width: int) -> None:
        self._rows, self._others, self._zeros = np.zeros((3, width), np.int8)
        self._marks: tuple[bytes, bytes] | None = None

    def add(self, row: Values) -> tuple[bool, bool]:
        """Count one row.

        Args:
            row: `(C,)`, contiguous.

        Returns:
            Whether exact rules may find something else than before this row, and whether that is because a column has
            become, or ceased to be, non-finite or unobserved. A zero alone is nothing to them, only `ZERO_ROWS` in a
            row are.
        """
        finite, zero = np.isfinite(row), row == 0
        known = finite if finite.all() else observed(row)
        marks = finite.tobytes(), known.tobytes()
        new, self._marks = marks != self._marks, marks
        crossed = _count(self._rows, known) | _count(self._others, finite & ~zero)
        lasting = self._zeros == ZERO_ROWS
        self._zeros[known & ~zero] = 0
        _count(self._zeros, zero)
        crossed |= bool((lasting != (self._zeros == ZERO_ROWS)).any())
        return crossed or new, new


def _count(counts: NDArray[np.int8], some: NDArray[np.bool_]) -> bool:
    """Count some columns up to `ZERO_ROWS`, in place. Returns whether any was below that."""
    growing = some & (counts < ZERO_ROWS)
    counts += growing
    return bool(growing.any())
