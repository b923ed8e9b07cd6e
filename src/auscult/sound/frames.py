"""Frames: the parameters of a run as a few lines over time, each frame holding many steps.

Knows nothing of pitch or samples. Parameters are read in batches, so that memory grows with the run's length or with
the model's size, never with their product.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from auscult.core.catalogue import METRICS
from auscult.core.errors import SetupError
from auscult.core.metric import Stream
from auscult.core.run import Run
from auscult.core.sink import observed
from auscult.sound.losses import find_losses

SHARES = {"saturated_fraction": 0.05, "dead_fraction": 0.05}
"""Shares of a module's output with what is usual of them; healthy where they are 0, so that 0 is no silence there."""

DRIVERS = ("grad_norm", "param_norm", "update_norm", "update_ratio", "update_to_data", "grad_to_data", *SHARES, "loss")
"""Metrics that can drive a voice: per parameter or module, or the loss; >= 0, from one stream."""

FLOORS = {**dict.fromkeys(SHARES, 1e-3), "loss": 1e-12}
"""What a value counts as at least where 0 is no silence; no logarithm tells how far a loss is below 0."""

WHOLE_MODEL = "whole model"
"""What a path of `""` is called."""

REFERENCE_VALUES = 50
BATCH = 64  # parameters read at a time
NEIGHBOURS = 2  # frames on either side that tell what is usual
EXCURSION = 0.9  # decades; a little under one, so that noise does not hide a whole decade
USUAL = 2.0  # an excursion is at least this many times as far as the parameter strays in most frames


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Where one metric of a run can be read.

    Attributes:
        run: The run.
        metric: One of `DRIVERS`.
        stream: The stream that holds it.
        columns: Path to the positions of the metric's inputs in that stream, in the order of the model; of a loss its
            name or category.
        steps: Steps of the whole run, int64 `(N,)`: the time axis.
        rows: Position of each row of the stream on that axis, int64 `(R,)`.
        cadence: Every how many steps the schedule measured at each step, int64 `(N,)`; 0 where it says nothing.
    """

    run: Run
    metric: str
    stream: Stream
    columns: dict[str, tuple[int, ...]]
    steps: NDArray[np.int64]
    rows: NDArray[np.int64]
    cadence: NDArray[np.int64]

    def read(self, paths: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Values and which of them were observed, both `(K, R)`."""
        positions = [position for group in zip(*(self.columns[path] for path in paths)) for position in group]
        pieces = [piece for _, piece in self.run.source.columns(self.stream, positions, self.run.stop)]
        together = np.ascontiguousarray(np.concatenate(pieces, axis=1))
        shape = (-1, len(paths), together.shape[1])
        seen: NDArray[np.bool_] = np.logical_and.reduce(observed(together).reshape(shape), axis=0)
        inputs = together.astype(np.float64).reshape(shape)
        derive = METRICS[self.metric].derive
        values = inputs[0] if derive is None else derive(*inputs)
        if self.metric in FLOORS:
            values = np.where(np.isneginf(values), values, np.maximum(values, FLOORS[self.metric]))
        return values, seen

    @property
    def single(self) -> str | None:
        """What its one voice is called where it has no layers: a loss, or a total; None where it has some."""
        if self.metric == "loss":
            return "loss"
        return WHOLE_MODEL if list(self.columns) == [""] else None


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A group of parameters as one line.

    Attributes:
        paths: The parameters.
        level: log10 of the typical value per frame, float64 `(F,)`: the median over parameters of their medians over
            the frame's steps, or the furthest excursion of any of them where it is a decade or more; NaN where nothing
            finite and positive was observed.
        reference: Median over the parameters of the median of their first 50 finite positive values; None without any.
            Parameters of which nothing was known when all others had their 50 do not count, so that it stays.
        excursion: Position on the time axis of the furthest excursion within each frame, int64 `(F,)`; -1 without one.
        stray: Which of `paths` makes it, int64 `(F,)`; -1 without one.
        zero: Whether at least half of the observed parameters are exactly 0, per step `(N,)`.
        broken: How many parameters are not finite, per step, int64 `(N,)`.
        culprit: Which of `paths` is the first of them, per step, int64 `(N,)`; -1 if there is none.
        culprit_value: Its value, float64 `(N,)`.
        missing: Whether nothing was observed at this step or shortly before, as the cadence has it `(N,)`.
        settled: Whether more steps would not change the reference: every parameter that counts has its 50.
    """

    paths: tuple[str, ...]
    level: NDArray[np.float64]
    reference: float | None
    excursion: NDArray[np.int64]
    stray: NDArray[np.int64]
    zero: NDArray[np.bool_]
    broken: NDArray[np.int64]
    culprit: NDArray[np.int64]
    culprit_value: NDArray[np.float64]
    missing: NDArray[np.bool_]
    settled: bool = False


def open_table(run: Run, metric: str) -> Table:
    """Find a metric in a run; one that was never recorded gives a table without columns.

    Raises:
        SetupError: if the metric cannot drive a voice.
    """
    if metric not in DRIVERS:
        raise SetupError(f"Expected `metric` to be one of {', '.join(DRIVERS)}, but got {metric!r}.")
    stream, columns = _losses(run) if metric == "loss" else _columns(run, metric)
    own = [steps for steps, _ in run.source.columns(stream, [], run.stop)] if stream in run.streams else []
    rows = np.concatenate(own) if own else np.empty(0, np.int64)
    steps = np.union1d(run.steps, rows)
    cadence = _cadence(run, stream, steps)
    return Table(run, metric, stream, columns if len(rows) else {}, steps, np.searchsorted(steps, rows), cadence)


def _cadence(run: Run, stream: Stream, steps: NDArray[np.int64]) -> NDArray[np.int64]:
    cadence = np.zeros(len(steps), np.int64)
    for event in run.events:
        if event["kind"] == "schedule" and stream in ("norms", "sampled"):
            cadence[np.searchsorted(steps, event["step"]) :] = event["norms" if stream == "norms" else "samples"]
    return cadence


def usual_metric(run: Run) -> str:
    """What drives the pitch where nothing is asked for: gradient norms, or the loss where only that was recorded."""
    return "grad_norm" if _columns(run, "grad_norm")[1] or not _losses(run)[1] else "loss"


def _losses(run: Run) -> tuple[Stream, dict[str, tuple[int, ...]]]:
    stream, found = find_losses(run)
    return stream or "user", {name: (position,) for name, (_, position) in found.items()}


def _columns(run: Run, metric: str) -> tuple[Stream, dict[str, tuple[int, ...]]]:
    """The stream of a metric of parameters or modules, and the positions of its inputs by path."""
    inputs = METRICS[metric].inputs or (metric,)
    stream = METRICS[metric].stream
    for each in run.streams:  # an imported run has them among what the user logged
        if stream not in run.streams and any(channel.metric in inputs for channel in run.source.channels(each)):
            stream = each
    found: dict[str, dict[str, int]] = {name: {} for name in inputs}
    for position, channel in enumerate(run.source.channels(stream) if stream in run.streams else ()):
        if channel.metric in found:
            found[channel.metric][channel.path] = position
    known = run.modules if METRICS[metric].scope == "module" else run.parameters
    order = [each.path for each in known] or list(found[inputs[0]])
    if len(order) > 1:  # layers are heard one by one, not the total besides
        order = [path for path in order if path]
    return stream, {
        path: tuple(found[name][path] for name in inputs)
        for path in order
        if all(path in found[name] for name in inputs)
    }


def weights(table: Table) -> tuple[str, ...]:
    """The recorded parameters with two or more dimensions, in model order; all recorded ones if there are none."""
    wide = {each.path for each in table.run.parameters if len(each.shape) >= 2}
    return tuple(path for path in table.columns if path in wide) or tuple(table.columns)


def follow(table: Table, paths: Sequence[str], edges: NDArray[np.int64]) -> Track:
    """Sum up a group of parameters.

    Args:
        table: Where to read.
        paths: Some of its columns; may be empty.
        edges: Position on the time axis at which each frame begins, and the end of the last, int64 `(F + 1,)`.
    """
    tally = _Tally.empty(len(table.steps))
    strays = _Strays.empty(len(edges) - 1)
    medians, ups, downs = ([np.empty((0, len(edges) - 1))] for _ in range(3))
    begun = [_Begun(*(np.empty(0) for _ in range(3)))]
    bounds = np.searchsorted(table.rows, edges)
    for start in range(0, len(paths), BATCH):
        values, known = table.read(paths[start : start + BATCH])
        tally.count(table.rows, values, known, start)
        logs = _logarithms(values, known)
        begun.append(_Begun.of(logs))
        found = _excursions(logs, bounds)
        strays.note(logs, bounds, found[1], found[2], start)
        for parts, part in zip((medians, ups, downs), found):
            parts.append(part)
    centre = middle(np.concatenate(medians).T)
    reference, settled = _Begun.joined(begun).reference()
    held, missing = _hold(tally.seen > 0, table.cadence)
    zero = (tally.zeros * 2 >= tally.seen) & (tally.seen > 0)
    return Track(
        paths=tuple(paths),
        level=_with_excursions(centre, np.concatenate(ups), np.concatenate(downs)),
        reference=float(10.0**reference) if np.isfinite(reference) else None,
        excursion=np.where(strays.row >= 0, table.rows[strays.row] if len(table.rows) else -1, -1),
        stray=strays.who,
        zero=zero[held] & ~missing,
        broken=np.where(missing, 0, tally.broken[held]),
        culprit=tally.culprit[held],
        culprit_value=tally.culprit_value[held],
        missing=missing,
        settled=settled,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Tally:
    """Counts per step of the time axis while batches of parameters come in; fields as in `Track`."""

    seen: NDArray[np.int64]
    zeros: NDArray[np.int64]
    broken: NDArray[np.int64]
    culprit: NDArray[np.int64]
    culprit_value: NDArray[np.float64]

    @classmethod
    def empty(cls, steps: int) -> "_Tally":
        zeros, broken = np.zeros(steps, np.int64), np.zeros(steps, np.int64)
        return cls(np.zeros(steps, np.int64), zeros, broken, np.full(steps, -1), np.full(steps, np.nan))

    def count(self, rows: NDArray[np.int64], values: NDArray[np.float64], known: NDArray[np.bool_], first: int) -> None:
        """Add parameters `first`, `first + 1`, ... with values `(K, R)` at the positions `rows` of the axis."""
        bad = known & ~np.isfinite(values)
        self.seen[rows] += known.sum(0)
        self.zeros[rows] += (known & (values == 0)).sum(0)
        self.broken[rows] += bad.sum(0)
        new = np.flatnonzero(bad.any(0) & (self.culprit[rows] < 0))
        who = bad[:, new].argmax(0)
        self.culprit[rows[new]] = first + who
        self.culprit_value[rows[new]] = values[who, new]


@dataclass(frozen=True, slots=True, eq=False)
class _Strays:
    """The furthest excursion of each frame while batches of parameters come in: how far, in which row, whose."""

    distance: NDArray[np.float64]
    row: NDArray[np.int64]
    who: NDArray[np.int64]

    @classmethod
    def empty(cls, frames: int) -> "_Strays":
        return cls(np.zeros(frames), np.full(frames, -1), np.full(frames, -1))

    def note(
        self,
        logs: NDArray[np.float64],
        bounds: NDArray[np.int64],
        ups: NDArray[np.float64],
        downs: NDArray[np.float64],
        first: int,
    ) -> None:
        """Add parameters `first`, `first + 1`, ... with logarithms `(K, R)` and excursions `(K, F)`."""
        furthest = np.maximum(ups, downs)
        for frame in np.flatnonzero(furthest.max(0, initial=0.0) > self.distance).tolist():
            who = int(furthest[:, frame].argmax())
            some = logs[who, bounds[frame] : bounds[frame + 1]]
            row = np.nanargmax(some) if ups[who, frame] >= downs[who, frame] else np.nanargmin(some)
            self.distance[frame] = furthest[who, frame]
            self.row[frame] = bounds[frame] + row
            self.who[frame] = first + who


def middle(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median along the last axis, over what is not NaN; NaN where nothing is left."""
    if values.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    ordered = np.sort(values, axis=-1)  # NaN last
    count = (~np.isnan(values)).sum(-1, keepdims=True)
    lower = np.take_along_axis(ordered, (count - 1) // 2, axis=-1)  # index -1, a NaN, where nothing is left
    upper = np.take_along_axis(ordered, np.minimum(count // 2, values.shape[-1] - 1), axis=-1)
    return np.where(count > 0, 0.5 * (lower + upper), np.nan)[..., 0]


def local_middle(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over each frame and its two neighbours on either side, along the last axis."""
    if values.shape[-1] == 0:
        return values
    padding = [(0, 0)] * (values.ndim - 1) + [(NEIGHBOURS, NEIGHBOURS)]
    padded = np.pad(values, padding, constant_values=np.nan)
    return middle(sliding_window_view(padded, 2 * NEIGHBOURS + 1, axis=-1))


def _logarithms(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """log10 of the magnitude where it is finite and not 0, NaN elsewhere."""
    usable = known & np.isfinite(values) & (values != 0)
    return np.log10(np.abs(values), out=np.full(values.shape, np.nan), where=usable)


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """What each parameter begins with, float64 `(K,)`.

    Attributes:
        typical: log10 of the median over its first 50 usable values; NaN without any.
        first: The row of the first of them; infinity without any.
        full: The row of the 50th; infinity where there are fewer.
    """

    typical: NDArray[np.float64]
    first: NDArray[np.float64]
    full: NDArray[np.float64]

    @classmethod
    def of(cls, logs: NDArray[np.float64]) -> "_Begun":
        """Of logarithms `(K, R)`, NaN where unusable."""
        head = logs[:, :REFERENCE_VALUES]
        enough = head.shape[1] == REFERENCE_VALUES
        typical, first = middle(head), np.full(len(logs), 0.0 if head.shape[1] else np.inf)
        full = np.full(len(logs), REFERENCE_VALUES - 1.0 if enough else np.inf)
        for row in np.flatnonzero(np.isnan(head).any(1)):
            usable = np.flatnonzero(~np.isnan(logs[row]))[:REFERENCE_VALUES]
            typical[row] = middle(logs[row][usable])
            first[row] = usable[0] if len(usable) else np.inf
            full[row] = usable[-1] if len(usable) == REFERENCE_VALUES else np.inf
        return cls(typical, first, full)

    @classmethod
    def joined(cls, parts: Sequence["_Begun"]) -> "_Begun":
        """Those of several batches together."""
        return cls(*(np.concatenate([getattr(each, name) for each in parts]) for name in cls.__dataclass_fields__))

    def reference(self) -> tuple[float, bool]:
        """log10 of the group's reference, NaN without any, and whether more rows would not change it.

        It is that of the first row in which all parameters of which anything is known have their 50 values.
        """
        order = np.argsort(self.first)
        first, full = self.first[order], np.maximum.accumulate(self.full[order])
        closed = np.flatnonzero(np.isfinite(full) & (full < np.append(first[1:], np.inf)))
        count = closed[0] + 1 if len(closed) else len(order)
        return float(middle(self.typical[order[:count]])), len(closed) > 0


def _excursions(logs: NDArray[np.float64], edges: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """Median per frame and how far each parameter strays above and below its surroundings, three arrays `(K, F)`."""
    shape = (len(logs), len(edges) - 1)
    median, highest, lowest = (np.full(shape, np.nan) for _ in range(3))
    for frame, (start, stop) in enumerate(itertools.pairwise(edges.tolist())):
        if start < stop:
            some = logs[:, start:stop]
            median[:, frame] = middle(some)
            highest[:, frame] = np.fmax.reduce(some, axis=1)
            lowest[:, frame] = np.fmin.reduce(some, axis=1)
    usual = local_middle(median)
    return median, _unusual(highest - usual), _unusual(usual - lowest)


def _unusual(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep distances of a decade or more that are also unusual for their parameter; 0 elsewhere."""
    far = (distance >= EXCURSION) & (distance >= USUAL * middle(distance)[:, None])
    return np.where(far, distance, 0.0)


def _with_excursions(
    centre: NDArray[np.float64], ups: NDArray[np.float64], downs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The centre `(F,)`, replaced where some parameter makes an excursion; upward ones come first."""
    up, down = ups.max(0, initial=0.0), downs.max(0, initial=0.0)
    usual = local_middle(centre)
    return np.where(up > 0, usual + up, np.where(down > 0, usual - down, centre))


def _hold(seen: NDArray[np.bool_], cadence: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each step the last one observed, and whether that is longer ago than the cadence explains, both `(N,)`."""
    steps = np.arange(len(seen))
    last = np.maximum.accumulate(np.where(seen, steps, -1)) if len(seen) else steps
    gaps = np.diff(np.flatnonzero(seen))
    patience = 2 * float(np.percentile(gaps, 95)) if len(gaps) else 1.0
    return np.maximum(last, 0), (last < 0) | (steps - last >= np.maximum(patience, 2 * cadence))
