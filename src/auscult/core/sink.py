"""Record and Sink: one row of numbers, and anything it can be written to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from auscult.core.finding import Finding
from auscult.core.metric import Stream

Values = NDArray[np.floating[Any]]
"""float32 or float64, as `row_dtype` says."""

# "Not observed" inside a row of float32 or float64: a quiet NaN with a payload of its own, so that a measured NaN stays
# distinguishable. The same bits are the file format's (docs/file-format.md); they never reach a Series.
NOT_OBSERVED_32 = np.uint32(0x7FC0A05C)
NOT_OBSERVED_64 = np.uint64(0x7FF80000000A05C5)


class Channel(NamedTuple):
    """One column of a stream."""

    metric: str
    path: str


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One row: everything one stream recorded at one step.

    Attributes:
        stream: The stream it belongs to.
        step: The optimizer update it belongs to.
        channels: The columns, `(C,)`. A stream's columns are only ever appended to, so position is identity.
        values: float32 (float64 for `user` and `evaluation`) `(C,)`; see `observed`.
    """

    stream: Stream
    step: int
    channels: tuple[Channel, ...]
    values: Values

    def items(self) -> Iterator[tuple[Channel, float]]:
        """The columns that were observed, with their values."""
        for position in np.flatnonzero(observed(self.values)):
            yield self.channels[position], float(self.values[position])


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of one stream with the same columns, in order.

    Attributes:
        stream: The stream they belong to.
        steps: int64 `(R,)`, increasing.
        channels: The columns, `(C,)`.
        values: `(R, C)`, as in `Record`.
    """

    stream: Stream
    steps: NDArray[np.int64]
    channels: tuple[Channel, ...]
    values: Values

    @classmethod
    def of(cls, record: Record) -> "Rows":
        """One row."""
        return cls(record.stream, np.array([record.step], np.int64), record.channels, record.values[None])

    def records(self) -> Iterator[Record]:
        """One by one."""
        for step, values in zip(self.steps.tolist(), self.values, strict=True):
            yield Record(self.stream, step, self.channels, values)


class Sink(Protocol):
    """Anything records and findings can be written to: the store, a tracker, a live ear."""

    def write(self, record: Record) -> None:
        """Take one row; called once per stream and step, in order."""
        ...

    def write_finding(self, step: int, finding: Finding) -> None:
        """Take one finding, at the step at which it became known."""
        ...

    def close(self) -> None:
        """No more rows will come."""
        ...


def row_dtype(stream: Stream) -> np.dtype[np.floating[Any]]:
    """The dtype of a stream's rows: what users logged keeps float64, norms and moments are float32."""
    return np.dtype("<f8") if stream in ("user", "evaluation") else np.dtype("<f4")


def empty_row(stream: Stream, width: int) -> Values:
    """A row `(width,)` in which nothing was observed yet."""
    if row_dtype(stream) == np.float64:
        return np.full(width, NOT_OBSERVED_64).view(np.float64)
    return np.full(width, NOT_OBSERVED_32).view(np.float32)


def unobserved(*shape: int) -> NDArray[np.float64]:
    """Float64 numbers of this shape, none of which was observed yet."""
    return np.full(shape, NOT_OBSERVED_64).view(np.float64)


def empty_rows(stream: Stream, rows: int, width: int) -> Values:
    """Rows `(rows, width)` in which nothing was observed yet."""
    return empty_row(stream, rows * width).reshape(rows, width)


def observed(values: Values) -> NDArray[np.bool_]:
    """Which entries hold a measured number (NaN included), same shape as `values`, which must be contiguous."""
    if values.dtype == np.float64:
        return values.view(np.uint64) != NOT_OBSERVED_64
    return values.view(np.uint32) != NOT_OBSERVED_32


def to_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round to float32; what is finite stays finite, what is not 0 stays off 0, at the ends of the float32 range."""
    limits = np.finfo(np.float32)
    size = np.abs(values)
    inside = np.where(np.isfinite(values), np.clip(size, limits.smallest_subnormal, limits.max), size)
    return np.where(size == 0, 0.0, np.copysign(inside, values)).astype(np.float32)
