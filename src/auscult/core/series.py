"""Series: one metric of one path over steps."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import ArrayLike, NDArray

from auscult.core.errors import SetupError


@dataclass(frozen=True, eq=False, repr=False)
class Series(NDArrayOperatorsMixin):
    """One metric of one path over steps; an array to NumPy.

    A step at which the number was not observed is not in the series at all; a NaN in `values` was measured as NaN.

    Attributes:
        metric: A name of the catalogue, or one the user logged.
        path: Qualified name of the parameter or module, a group or a category; `""` is the whole run.
        steps: int64 `(N,)`, strictly increasing.
        values: float64 `(N,)`.
        unit: The unit of the values; `"1"` for a pure number.
    """

    metric: str
    path: str
    steps: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0, np.float64))
    unit: str = "1"

    def __post_init__(self) -> None:
        if self.steps.shape != self.values.shape or self.steps.ndim != 1:
            raise SetupError(
                f"Expected `steps` and `values` to be 1-D and equally long, but got {self.steps.shape} "
                f"and {self.values.shape}."
            )

    @property
    def name(self) -> str:
        """`metric/path`, the key under which other tools get it."""
        return f"{self.metric}/{self.path}" if self.path else self.metric

    @property
    def observed(self) -> bool:
        """Whether there is at least one value."""
        return len(self.steps) > 0

    def at(self, step: int) -> float:
        """Value at a step.

        Raises:
            KeyError: if the series has no value there.
        """
        position = int(np.searchsorted(self.steps, step))
        if position == len(self.steps) or self.steps[position] != step:
            raise KeyError(f"{self.name} was not observed at step {step}.")
        return float(self.values[position])

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[float]:
        return iter(self.values.tolist())

    def __getitem__(self, index: Any) -> Any:
        return self.values[index]

    def __repr__(self) -> str:
        if not self.observed:
            return f"Series({self.name!r}, not observed)"
        return (
            f"Series({self.name!r}, {len(self)} values, steps {self.steps[0]} to {self.steps[-1]}, "
            f"last {self.values[-1]:.6g})"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False and dtype not in (None, np.float64):
            raise ValueError("Expected `copy` to be None or True when the dtype changes, but got False.")
        return np.array(self.values, dtype=dtype, copy=True) if copy else np.asarray(self.values, dtype=dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Apply a ufunc to the values; two series must have equal steps."""
        series = [each for each in inputs if isinstance(each, Series)]
        for other in series[1:]:
            _require_equal_steps(series[0], other)
        arrays: list[ArrayLike] = [each.values if isinstance(each, Series) else each for each in inputs]
        result = getattr(ufunc, method)(*arrays, **kwargs)
        if method == "__call__" and isinstance(result, np.ndarray) and result.shape == series[0].steps.shape:
            return Series(series[0].metric, series[0].path, series[0].steps, result.astype(np.float64), "")
        return result


def _require_equal_steps(left: Series, right: Series) -> None:
    if not np.array_equal(left.steps, right.steps):
        raise SetupError(
            f"Expected {left.name} and {right.name} to have equal steps, but got {len(left)} and {len(right)} steps. "
            "They were recorded at different cadences; select the common steps first: "
            "np.intersect1d(a.steps, b.steps)."
        )
