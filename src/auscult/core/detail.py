"""Detail: everything about every tensor of one step: distributions, units, normalisation, fan-in.

Measured rarely (the first step, the last, on demand) and on all elements. Knows nothing of files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import UnknownName
from auscult.core.histogram import Histogram

TensorKind = Literal["activation", "activation_grad", "param", "grad", "update"]
UnitKind = Literal["saturated", "zero"]


@dataclass(frozen=True, slots=True, eq=False)
class TensorDetail:
    """One tensor, all of its elements.

    Attributes:
        kind: `activation` and `activation_grad` belong to a module, `param`, `grad` and `update` to a parameter.
        path: Qualified name of the module or parameter.
        mean: Mean over all elements; NaN if one of them is.
        std: Standard deviation, Bessel-corrected; NaN for a single element.
        minimum: Smallest element; NaN if one of them is.
        maximum: Largest element, likewise.
        histogram: Their distribution.
    """

    kind: TensorKind
    path: str
    mean: float
    std: float
    minimum: float
    maximum: float
    histogram: Histogram

    @property
    def count(self) -> int:
        """Number of elements."""
        return self.histogram.total + self.histogram.nonfinite

    @property
    def mean_square(self) -> float:
        """Mean of the squared elements."""
        return self.mean**2 + (self.std**2 * (self.count - 1) / self.count if self.count > 1 else 0.0)

    def __add__(self, other: "TensorDetail") -> "TensorDetail":
        """Both sets of elements together, as when a module is called twice; moments combine exactly (Chan, 1979)."""
        left, right = self.count, other.count
        total = left + right
        apart = other.mean - self.mean
        squares = sum(each.std**2 * (n - 1) if n > 1 else 0.0 for each, n in ((self, left), (other, right)))
        squares += apart**2 * left * right / total
        return replace(
            self,
            mean=self.mean + apart * right / total,
            std=(squares / (total - 1)) ** 0.5,
            minimum=float(np.minimum(self.minimum, other.minimum)),
            maximum=float(np.maximum(self.maximum, other.maximum)),
            histogram=self.histogram + other.histogram,
        )


@dataclass(frozen=True, slots=True, eq=False)
class UnitMap:
    """The units of one module (channels of a convolution, features otherwise) against samples of the batch.

    Attributes:
        kind: `saturated`, |output| > 0.97, for outputs within [-1, 1]; `zero`, output exactly 0, for outputs that are
            never negative.
        path: Qualified name of the module.
        fractions: float32 `(U,)`, for each unit the share of the batch (all samples, all positions) where it is so.
        shown: int32 `(V,)`, the units that the map shows: all, or some spread evenly over them.
        map: float32 `(V, S)`, for each of these units and some samples the share of positions where it is so; 0 or 1
            where a sample has a single position.
    """

    kind: UnitKind
    path: str
    fractions: NDArray[np.float32]
    shown: NDArray[np.int32]
    map: NDArray[np.float32]

    @property
    def stuck(self) -> float:
        """Share of units where it is so for the whole batch: saturated or dead units."""
        return float((self.fractions == 1).mean()) if len(self.fractions) else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class BatchStatistics:
    """What a BatchNorm normalises by in training against what it will use in evaluation.

    Attributes:
        path: Qualified name of the module.
        batch_mean: float32 `(C,)`, mean of its input over the batch.
        batch_var: float32 `(C,)`, variance of its input over the batch, not Bessel-corrected, as it normalises by.
        running_mean: float32 `(C,)`, its running estimate after this pass.
        running_var: float32 `(C,)`, likewise.
    """

    path: str
    batch_mean: NDArray[np.float32]
    batch_var: NDArray[np.float32]
    running_mean: NDArray[np.float32]
    running_var: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Detail:
    """Everything about every tensor of one step.

    Attributes:
        step: The step.
        tensors: By kind, in the order of definition; what was not observed is not there.
        units: Maps of units that saturate or are zero.
        batch_statistics: One entry per BatchNorm that was called with running statistics.
        fan_ins: Number of inputs that each output of a layer sums over, by path of the weight.
        doubts: Where the step was over when it was examined, and its last training pass made again for it: why that
            pass may differ from the one in the run, as clauses; empty where nothing speaks against it. None where the
            step was measured while it was made.
    """

    step: int
    tensors: tuple[TensorDetail, ...] = ()
    units: tuple[UnitMap, ...] = ()
    batch_statistics: tuple[BatchStatistics, ...] = ()
    fan_ins: Mapping[str, int] = field(default_factory=dict[str, int])
    doubts: tuple[str, ...] | None = None

    def of(self, kind: TensorKind) -> tuple[TensorDetail, ...]:
        """All tensors of a kind."""
        return tuple(each for each in self.tensors if each.kind == kind)

    def tensor(self, kind: TensorKind, path: str) -> TensorDetail:
        """One tensor.

        Raises:
            UnknownName: if it was not observed at this step.
        """
        for each in self.tensors:
            if each.kind == kind and each.path == path:
                return each
        known = ", ".join(repr(each.path) for each in self.of(kind)) or "nothing"
        raise UnknownName(
            f"Expected a path observed as {kind!r} at step {self.step}, but got {path!r}. It has {known}."
        )

    @property
    def gains(self) -> dict[str, float]:
        """By path of a weight, root-mean-square of its elements * sqrt(fan_in).

        A layer of independent weights multiplies the scale of its input by it: 1 keeps the scale; usual are sqrt(2)
        before ReLU (He et al., 2015) and 5/3 before tanh (`torch.nn.init.calculate_gain`).
        """
        weights = {each.path: each for each in self.of("param")}
        return {path: (fan_in * weights[path].mean_square) ** 0.5 for path, fan_in in self.fan_ins.items()
                if path in weights}  # fmt: skip
