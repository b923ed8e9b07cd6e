"""Run: everything one training run recorded, read when asked for.

Knows nothing of files: a `Source` hands out rows and blocks, a Run turns them into series.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import prod
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from auscult.core.anatomy import Anatomy
from auscult.core.audit import Audit
from auscult.core.catalogue import METRICS, unit_of
from auscult.core.errors import SetupError, UnknownName
from auscult.core.finding import Finding
from auscult.core.glance import glance, listing
from auscult.core.metric import Metric, Stream
from auscult.core.origin import Origin
from auscult.core.plot import draw_series
from auscult.core.provenance import Provenance
from auscult.core.series import Series
from auscult.core.sink import Channel, Values, observed
from auscult.core.standstill import Standstill

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from auscult.core.detail import Detail
    from auscult.core.digest import Block

MAX_SHOWN = 8
"""Settings, findings and damages that a notebook shows."""

ModuleKind = Literal[
    "affine", "normalisation", "dropout", "activation", "embedding", "recurrent", "attention", "shape", "other"
]
"""What a module does to numbers: `shape` only arranges them (flatten, identity), `other` is anything not known."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A trainable or frozen tensor of the model, once however many names it has.

    Attributes:
        path: Its first qualified name, wrappers' prefixes stripped.
        shape: Its shape.
        dtype: Its dtype, as `float32`.
        trainable: Whether it required a gradient.
        group: Where the optimizer holds it, as in the path of `lr`; None if no optimizer does.
        aliases: Its other names (tied weights).
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool
    group: str | None
    aliases: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the model; `Segment.modules` keeps them in the order of the first forward pass where it was seen.

    Attributes:
        path: Its qualified name; `""` is the model itself.
        type: Name of its class, for people to read.
        leaf: Whether no module is in it.
        kind: What it does to numbers.
        rate: Share of elements that a dropout module drops.
    """

    path: str
    type: str
    leaf: bool
    kind: ModuleKind = "other"
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """One uninterrupted stretch of training: the beginning, or what followed a resume.

    Attributes:
        step: The step it begins with.
        time: When it began, seconds since the epoch.
        parameters: The model's parameters, in definition order.
        modules: The model's modules.
        versions: Versions of auscult, python, torch, numpy that recorded it.
        ignore: Patterns of the findings that the user does not want to be told; see `auscult.rules.ignoring`.
    """

    step: int
    time: float
    parameters: tuple[Parameter, ...] = ()
    modules: tuple[Module, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    ignore: tuple[str, ...] = ()

    def in_forward_order(self, called: Sequence[str]) -> "Segment":
        """This segment with parameters and modules in the order in which the forward pass calls the leaf modules.

        A bare parameter of a container comes right before the container's first called module.
        """
        first: dict[str, tuple[int, int]] = {}
        for number, path in enumerate(called):
            first[path] = (number, 1)
            parts = path.split(".")
            for length in range(len(parts)):
                first.setdefault(".".join(parts[:length]), (number, 0))

        def place(path: str) -> tuple[int, int]:
            parts = path.split(".")
            prefixes = (".".join(parts[:length]) for length in range(len(parts), -1, -1))
            return next((first[prefix] for prefix in prefixes if prefix in first), (len(first), 0))

        parameters = tuple(sorted(self.parameters, key=lambda each: place(each.path)))
        modules = tuple(sorted(self.modules, key=lambda each: place(each.path)))
        return replace(self, parameters=parameters, modules=modules)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a reader needs to know to reproduce the run."""

    id: str
    name: str
    created: float
    format_version: int
    config: Mapping[str, Any]
    command: tuple[str, ...]
    seed: int | None
    git_commit: str | None
    versions: Mapping[str, str]
    host: str
    devices: tuple[str, ...]
    world_size: int = 1


class Source(Protocol):
    """Where a Run reads from. Values that a resumed attempt made obsolete are never handed out."""

    def streams(self) -> tuple[Stream, ...]:
        """The streams that have at least one channel."""
        ...

    def channels(self, stream: Stream) -> tuple[Channel, ...]:
        """The columns of a stream."""
        ...

    def rows(self, stream: Stream, start: int, stop: int) -> tuple[NDArray[np.int64], Values]:
        """Steps `(R,)` and rows `(R, C)` with start <= step < stop; a column younger than a row is unobserved there."""
        ...

    def columns(
        self, stream: Stream, positions: list[int], stop: int, start: int = 0
    ) -> Iterator[tuple[NDArray[np.int64], Values]]:
        """Steps `(R,)` and values `(K, R)` of some columns with start <= step < stop, piece by piece in step order."""
        ...

    def blocks(self, stream: Stream) -> Iterable["Block"]:
        """The stored digests of closed blocks, in order, read one by one where they are many."""
        ...

    def details(self) -> tuple[int, ...]:
        """The steps of which everything was recorded, increasing."""
        ...

    def detail(self, step: int) -> "Detail":
        """What was recorded of one of them."""
        ...


@dataclass(frozen=True, eq=False)
class Run:
    """Everything one training run recorded.

    Attributes:
        info: Identity, configuration and environment.
        segments: The beginning and every resume, in order.
        source: Where rows come from.
        events: What happened at a step, as stored: `segment`, `order`, `audit`, `anatomy`, `standstill`,
            `schedule`, `origin`, `finding`, `failure`, `lost`, `import`, `end`.
        damage: What is missing, as in the copy of a run that went on or after a full disk, and with
            `load(path, skip_damage=True)` what was left out because it is damaged.
        stop: Steps from here on are not part of this run: those after `until`, or after loading one that goes on.
    """

    info: RunInfo
    segments: tuple[Segment, ...]
    source: Source
    events: tuple[Mapping[str, Any], ...] = ()
    damage: tuple[str, ...] = ()
    stop: int = np.iinfo(np.int64).max

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams that recorded something."""
        return self.source.streams()

    @property
    def steps(self) -> NDArray[np.int64]:
        """Every recorded step, int64 `(N,)`, increasing."""
        parts = [steps for steps, _ in self.source.columns("steps", [], self.stop)] if "steps" in self.streams else []
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    @property
    def last_step(self) -> int:
        """The last recorded step; -1 if there is none."""
        steps = self.steps
        return int(steps[-1]) if len(steps) else -1

    @property
    def finished(self) -> bool:
        """Whether the monitor was closed after the last recorded step (also by an exception or at exit)."""
        ends = [event for event in self.events if event["kind"] in ("segment", "end")]
        return bool(ends) and ends[-1]["kind"] == "end" and ends[-1]["step"] < self.stop

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The model's parameters, as the last segment found them."""
        return self.segments[-1].parameters if self.segments else ()

    @property
    def modules(self) -> tuple[Module, ...]:
        """The model's modules, as the last segment found them."""
        return self.segments[-1].modules if self.segments else ()

    @property
    def audit(self) -> Audit | None:
        """What the first loss call looked like, where it was observed."""
        for event in self.events:
            if event["kind"] == "audit" and event["step"] < self.stop:
                return Audit.from_dict(event)
        return None

    @property
    def anatomy(self) -> Anatomy | None:
        """What the first training pass showed of the model, where it was observed."""
        for event in self.events:
            if event["kind"] == "anatomy" and event["step"] < self.stop:
                return Anatomy.from_dict(event["anatomy"])
        return None

    @property
    def standstill(self) -> Standstill | None:
        """The last time that training went on for long without an update."""
        for event in reversed(self.events):
            if event["kind"] == "standstill" and event["step"] <= self.stop:
                return Standstill.from_dict(event)
        return None

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Where non-finite numbers arose, as far as the monitor searched for it, in order."""
        return tuple(
            Origin.from_dict(event["origin"])
            for event in self.events
            if event["kind"] == "origin" and event["step"] < self.stop
        )

    @property
    def provenance(self) -> Provenance | None:
        """Where the run comes from, if auscult did not record it itself."""
        for event in self.events:
            if event["kind"] == "import":
                return Provenance.from_dict(event)
        return None

    @property
    def findings(self) -> list[tuple[int, Finding]]:
        """The findings that the monitor reported while the run went on, with the step at which it did."""
        return [
            (event["step"], Finding.from_dict(event["finding"]))
            for event in self.events
            if event["kind"] == "finding" and event["step"] < self.stop
        ]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of everything that was recorded, and of everything that can be derived from it."""
        recorded = dict.fromkeys(channel.metric for stream in self.streams for channel in self.source.channels(stream))
        derived = (
            each.name
            for each in METRICS.values()
            if each.inputs and all(_recorded(name, recorded) for name in each.inputs)
        )
        return tuple(dict.fromkeys((*recorded, *derived)))

    def paths(self, metric: str) -> tuple[str, ...]:
        """Paths under which a metric was recorded, in the order in which they were first seen.

        Raises:
            UnknownName: if neither the catalogue nor the run knows the metric.
        """
        self._require_metric(metric)
        for name in (metric, *_inputs(metric)):
            paths = tuple(channel.path for _, channel, _ in self._channels(name))
            if paths:
                return paths
        return ()

    def series(self, metric: str, path: str = "") -> Series:
        """One metric of one path.

        What was recorded under this path is returned as it is. For metrics that add up, the path of a module gives the
        root of the sum of squares over its parameters, and `""` that over the whole model. Derived metrics (ratios) are
        computed from these. A metric that was never recorded gives an empty series.

        Args:
            metric: A name of the catalogue, or one the user logged.
            path: Qualified name of a parameter or module, an optimizer group or a category.

        Raises:
            UnknownName: if neither the catalogue nor the run knows the metric, or the run does not know the path.
        """
        self._require_metric(metric)
        entry = METRICS.get(metric)
        found = self._channels(metric)
        for stream, channel, position in found:
            if channel.path == path:
                return self._read(metric, path, stream, [position], combine=False)
        if entry is not None and entry.derive is not None:
            return self._derived(entry, path)
        if entry is not None and entry.adds_up:
            inside = [position for _, channel, position in found if _within(channel.path, path)]
            if inside:
                return self._read(metric, path, found[0][0], inside, combine=True)
        if found or path:
            self._require_path(metric, path, tuple(channel.path for _, channel, _ in found))
        return Series(metric, path, unit=unit_of(metric))

    def plot(self, metric: str, path: str | Sequence[str] | None = None, ax: "Axes | None" = None) -> "Axes":
        """Draw a metric over steps, with matplotlib.

        Args:
            metric: A name of the catalogue, or one the user logged.
            path: One path or several; without it the whole run, or for a metric without a total all of its paths.
            ax: matplotlib axes to draw on; a figure of its own where there is none.

        Returns:
            The axes, to go on with.

        Raises:
            UnknownName: as `series`.
            MissingExtra: if matplotlib is not installed.
        """
        if path is None:
            path = self.paths(metric)
            entry = METRICS.get(metric)
            total = not path or "" in path or (entry is not None and self._has_total(entry))
            path = ("",) if total else path
        paths = (path,) if isinstance(path, str) else tuple(path)
        if not paths:
            raise SetupError("Expected at least one `path`, but got none. Leave `path` out to draw the whole run.")
        return draw_series([self.series(metric, each) for each in paths], ax)

    @property
    def details(self) -> tuple[int, ...]:
        """The steps of which everything was recorded, increasing; `run.detail(step)` reads one."""
        return tuple(step for step in self.source.details() if step < self.stop)

    def detail(self, step: int) -> "Detail":
        """Distributions, units, normalisation and fan-in of every tensor at one step.

        Raises:
            UnknownName: if the step was not recorded in full detail.
        """
        known = self.details
        if step not in known:
            listed = ", ".join(str(each) for each in known) or "none"
            raise UnknownName(
                f"Expected a step that was recorded in full detail, but got {step}. `run.details` has {listed}; "
                "`monitor.examine()` records the step in progress."
            )
        return self.source.detail(step)

    def until(self, step: int) -> "Run":
        """The run as it stood right after this step."""
        begun = tuple(each for each in self.segments if each.step <= step)
        return replace(self, stop=min(self.stop, step + 1), segments=begun or self.segments[:1])

    def _repr_html_(self) -> str:
        steps = self.steps
        span = f" ({steps[0]:,} to {steps[-1]:,})" if len(steps) else ""
        said = [f"{finding.code} {finding.name}: {finding.summary}" for _, finding in self.findings]
        facts = [
            ("state", "finished" if self.finished else "unfinished"),
            ("steps", f"{len(steps):,}{span}"),
            ("parameters", f"{len(self.parameters):,}, {sum(each.size for each in self.parameters):,} elements"),
            ("metrics", f"{len(self.metrics):,}: {', '.join(self.metrics)}"),
            *((name, f"{value}") for name, value in list(self.info.config.items())[:MAX_SHOWN]),
            ("found while it ran", f"{len(said):,}"),
            *(("damage", each) for each in self.damage[:MAX_SHOWN]),
        ]
        return glance(f"Run {self.info.name}", facts, listing(said, MAX_SHOWN))

    def _has_total(self, entry: Metric) -> bool:
        """Whether a metric of parts has a value for the whole run, because it, or what it is derived from, adds up."""
        inputs = [METRICS[name] for name in entry.inputs if name != "clip_coefficient"]
        return all(self._has_total(each) for each in inputs) if inputs else entry.adds_up

    def _derived(self, entry: Metric, path: str) -> Series:
        inputs = [self.series(name, "" if name == "clip_coefficient" else path) for name in entry.inputs]
        steps = inputs[0].steps
        for each in inputs[1:]:
            steps = np.intersect1d(steps, each.steps)
        arrays = [each.values[np.searchsorted(each.steps, steps)] for each in inputs]
        assert entry.derive is not None
        return Series(entry.name, path, steps, entry.derive(*arrays), entry.unit)

    def _read(self, metric: str, path: str, stream: Stream, positions: list[int], combine: bool) -> Series:
        steps: list[NDArray[np.int64]] = []
        values: list[NDArray[np.float64]] = []
        last = np.zeros(len(positions))
        carried = metric in METRICS and METRICS[metric].when_missing == "last"
        for some, columns in self.source.columns(stream, positions, self.stop):
            seen = observed(np.ascontiguousarray(columns))
            whole = bool(seen.all())
            exact = columns.astype(np.float64) if whole else np.where(seen, columns.astype(np.float64), 0.0)
            if combine and carried:
                exact = exact if whole else _carry_forward(exact, seen, last)
                last = exact[:, -1] if len(some) else last
            with np.errstate(over="ignore", invalid="ignore"):
                row = _root_sum_square(exact) if combine else exact[0]
            keep = slice(None) if whole else seen.any(0)
            steps.append(some[keep])
            values.append(row[keep])
        if not steps:
            return Series(metric, path, unit=unit_of(metric))
        return Series(metric, path, np.concatenate(steps), np.concatenate(values), unit_of(metric))

    def _channels(self, metric: str) -> list[tuple[Stream, Channel, int]]:
        return [
            (stream, channel, position)
            for stream in self.streams
            for position, channel in enumerate(self.source.channels(stream))
            if channel.metric == metric
        ]

    def _require_metric(self, metric: str) -> None:
        if metric not in METRICS and not self._channels(metric):
            known = (*METRICS, *self.metrics)
            raise UnknownName(
                f"Expected a metric of the catalogue or one this run logged, but got {metric!r}."
                f"{_did_you_mean(metric, known)} `run.metrics` lists what was recorded."
            )

    def _require_path(self, metric: str, path: str, known: tuple[str, ...]) -> None:
        modules = tuple(module.path for module in self.modules)
        parameters = tuple(name for each in self.parameters for name in (each.path, *each.aliases))
        if path in known or (path in (*modules, *parameters) and path) or (not path and not known):
            return
        if not path:
            raise UnknownName(
                f"Expected `path` for {metric!r}, which is recorded per path and does not add up, but got none. "
                f"`run.paths({metric!r})` lists {len(known)} of them; the first is {known[0]!r}."
            )
        raise UnknownName(
            f"Expected a parameter, module or group of this run, but got {path!r}."
            f"{_did_you_mean(path, (*known, *modules, *parameters))} `run.paths({metric!r})` lists those recorded."
        )


def _inputs(metric: str) -> tuple[str, ...]:
    """The recorded metrics behind a metric, itself if it is recorded."""
    entry = METRICS.get(metric)
    if entry is None or not entry.inputs:
        return (metric,)
    return tuple(name for each in entry.inputs for name in _inputs(each))


def _recorded(metric: str, recorded: Mapping[str, object]) -> bool:
    return all(name in recorded for name in _inputs(metric))


def _within(path: str, module: str) -> bool:
    return not module or path.startswith(module + ".")


def _root_sum_square(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root of the sum of squares over axis 0; float64 has room for the squares of every float32."""
    return np.sqrt((values * values).sum(0))


def _carry_forward(
    values: NDArray[np.float64], seen: NDArray[np.bool_], before: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values `(K, R)` in which what was not observed is what it last was, `before` `(K,)` at first."""
    padded = np.concatenate([before[:, None], values], axis=1)
    rows = np.where(seen, np.arange(1, values.shape[1] + 1), 0)
    latest = np.maximum.accumulate(rows, axis=1) if values.shape[1] else rows
    return np.take_along_axis(padded, latest, axis=1)


def _did_you_mean(name: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(name, [each for each in known if each], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
