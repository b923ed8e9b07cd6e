"""Series: one metric of one path over steps.

Knows nothing of runs, nor of the libraries that take it for an array.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from auscult.core.errors import SetupError
from auscult.core.glance import glance, sparkline

UNITLESS = ("", "1", "as logged")
"""Units that are not written behind a name."""


@dataclass(frozen=True, eq=False, repr=False)
class Series(NDArrayOperatorsMixin, Sequence[float]):
    """One metric of one path over steps; an array to NumPy, a sequence of floats to Python.

    A step at which the number was not observed is not in the series at all; a NaN in `values` was measured as NaN.

    Arithmetic and other ufuncs work step by step and give a Series; two series need equal steps. Comparisons, `==`
    included, give a bool array, so that `series.steps[series > 1]` is what it says. Every other NumPy function takes
    the values, and gives what it gives for them: `np.mean`, `np.where` or `np.concatenate` know nothing of steps.

    Nothing writes into a Series: `steps` and `values` are read-only, `np.asarray(series)` is a copy, `+=` and `out=`
    are refused. It hashes by identity, as a tensor does; `np.array_equal(a, b)` says whether two hold the same values.

    Attributes:
        metric: A name of the catalogue, or one the user logged.
        path: Qualified name of the parameter or module, a group or a category; `""` is the whole run.
        steps: int64 `(N,)`, strictly increasing.
        values: float64 `(N,)`.
        unit: The unit of the values; `"1"` for a pure number, `""` where arithmetic left it open.
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
        for name in ("steps", "values"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

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

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        if not self.observed:
            return f"Series({self.name!r}, not observed)"
        return (
            f"Series({self.name!r}, {len(self)} values, steps {self.steps[0]} to {self.steps[-1]}, "
            f"last {self.values[-1]:.6g})"
        )

    def _repr_html_(self) -> str:
        title = self.name if self.unit in UNITLESS else f"{self.name} ({self.unit})"
        if not self.observed:
            return glance(title, [("values", "not observed")])
        lost = np.flatnonzero(~np.isfinite(self.values))
        finite = np.where(np.isfinite(self.values), self.values, np.nan)
        facts = [
            ("values", f"{len(self):,}, steps {self.steps[0]:,} to {self.steps[-1]:,}"),
            ("last", f"{self.values[-1]:.6g}"),
        ]
        if len(lost) < len(self):
            for name, place in (("smallest", int(np.nanargmin(finite))), ("largest", int(np.nanargmax(finite)))):
                facts.append((name, f"{self.values[place]:.6g} at step {self.steps[place]:,}"))
        if len(lost):
            facts.append(("NaN or inf", f"{len(lost):,}, the first at step {self.steps[lost[0]]:,}"))
        return glance(title, facts, sparkline(self.values, f"{self.name} over steps"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is not False:
            return np.array(self.values, dtype=dtype)
        if dtype is not None and np.dtype(dtype) != self.values.dtype:
            raise ValueError(
                f"Expected `copy` to be None or True where {self.values.dtype} becomes {np.dtype(dtype)}, "
                "but got False. Write np.asarray(series, dtype=...)."
            )
        return _read_only(self.values)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Apply a ufunc to the values; float64 at the steps of the series is a Series again."""
        out = kwargs.get("out", ())
        _refuse_to_change(inputs[:1] if method == "at" else out)
        found: list[Series] = []
        arrays, options = _to_arrays(inputs, found), _to_arrays(kwargs, found)
        if method == "__call__":
            for other in found[1:]:
                _require_equal_steps(found[0], other)
        result = getattr(ufunc, method)(*arrays, **options)
        if method != "__call__" or ufunc.signature is not None or out:
            return result
        return tuple(map(self._again, result)) if isinstance(result, tuple) else self._again(result)

    def __array_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Call a NumPy function with the values of every series among its arguments, lists and tuples included."""
        _refuse_to_change((kwargs.get("out"),))
        found: list[Series] = []
        arrays, options = _to_arrays(args, found), _to_arrays(dict(kwargs), found)
        return func(*arrays, **options) if found else NotImplemented

    def _again(self, result: Any) -> Any:
        alike = type(result) is np.ndarray and result.dtype == np.float64 and result.shape == self.steps.shape
        return Series(self.metric, self.path, self.steps, result, "") if alike else result


def _to_arrays(value: Any, found: list[Series]) -> Any:
    """The same with values in place of series, at any depth of lists, tuples and dicts; `found` gets these series."""
    if isinstance(value, Series):
        found.append(value)
        return _read_only(value.values)
    if isinstance(value, (list, tuple)):
        parts = [_to_arrays(each, found) for each in cast("Iterable[Any]", value)]
        return parts if isinstance(value, list) else tuple(parts)
    if isinstance(value, dict):
        return {key: _to_arrays(each, found) for key, each in cast("dict[Any, Any]", value).items()}
    return value


def _read_only(values: NDArray[np.float64]) -> NDArray[np.float64]:
    view = values.view()
    view.flags.writeable = False
    return view


def _refuse_to_change(targets: Iterable[object]) -> None:
    for each in targets:
        if isinstance(each, Series):
            raise SetupError(
                f"Expected {each.name} to stay as it is, but got it as the place for a result. A Series is frozen; "
                "write series = series * 2, or work on a copy: np.array(series)."
            )


def _require_equal_steps(left: Series, right: Series) -> None:
    if not np.array_equal(left.steps, right.steps):
        raise SetupError(
            f"Expected {left.name} and {right.name} to have equal steps, but got {len(left)} and {len(right)} steps. "
            "They were recorded at different cadences; select the common steps first: "
            "np.intersect1d(a.steps, b.steps)."
        )
