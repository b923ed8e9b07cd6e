"""Synthetic runs, held in memory: a Source of arrays instead of files."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from auscult.core.audio import Audio
from auscult.core.detail import Detail, TensorDetail, TensorKind
from auscult.core.digest import Block
from auscult.core.errors import StoreError
from auscult.core.finding import Evidence, Finding
from auscult.core.histogram import PREFIXES, Histogram
from auscult.core.metric import Stream
from auscult.core.run import Module, Parameter, Run, RunInfo, Segment
from auscult.core.score import Score, SoundEvent, Voice
from auscult.core.sink import NOT_OBSERVED_32, NOT_OBSERVED_64, Channel, Values, row_dtype

PIECE = 256  # rows handed out at once, as tiles are


@dataclass(frozen=True)
class MemorySource:
    """Streams as arrays: channels `(C,)`, steps `(R,)`, rows `(R, C)`; details by step, None where damaged."""

    tables: Mapping[Stream, tuple[tuple[Channel, ...], NDArray[np.int64], Values]]
    recorded: Mapping[int, Detail | None]

    def streams(self) -> tuple[Stream, ...]:
        return tuple(self.tables)

    def channels(self, stream: Stream) -> tuple[Channel, ...]:
        return self.tables[stream][0]

    def rows(self, stream: Stream, start: int, stop: int) -> tuple[NDArray[np.int64], Values]:
        _, steps, rows = self.tables[stream]
        inside = (steps >= start) & (steps < stop)
        return steps[inside], rows[inside]

    def columns(
        self, stream: Stream, positions: list[int], stop: int, start: int = 0
    ) -> Iterator[tuple[NDArray[np.int64], Values]]:
        _, steps, rows = self.tables[stream]
        begin, end = np.searchsorted(steps, (start, stop)).tolist()
        for first in range(begin, end, PIECE):
            piece = slice(first, min(first + PIECE, end))
            yield steps[piece], rows[piece][:, positions].T

    def blocks(self, stream: Stream) -> list[Block]:
        return []

    def details(self) -> tuple[int, ...]:
        return tuple(self.recorded)

    def detail(self, step: int) -> Detail:
        found = self.recorded[step]
        if found is None:
            raise StoreError(f"Expected <whole> details, but those of step {step} are damaged.")
        return found


@dataclass
class RunMaker:
    """Collects channels and makes a Run of them."""

    name: str = "mnist"
    steps: int = 201
    finished: bool = True

    def __post_init__(self) -> None:
        self.dense: dict[Stream, list[tuple[Channel, NDArray[np.int64], NDArray[np.float64]]]] = {}
        self.parameters: tuple[Parameter, ...] = ()
        self.modules: tuple[Module, ...] = ()
        self.events: list[dict[str, Any]] = []
        self.details: dict[int, Detail | None] = {}
        self.config: dict[str, Any] = {"lr": 1e-3, "model": {"width": 64, "depth": 4}, "name": "baseline"}

    def add(self, stream: Stream, metric: str, path: str, values: Any, steps: Any = None) -> None:
        at = np.arange(self.steps) if steps is None else np.asarray(steps)
        self.dense.setdefault(stream, []).append((Channel(metric, path), at, np.asarray(values, np.float64)))

    def make(self) -> Run:
        tables = {stream: _table(stream, columns) for stream, columns in self.dense.items()}
        end = [{"kind": "end", "step": self.steps - 1}] if self.finished else []
        return Run(
            info=RunInfo(
                id="0b1c2d",
                name=self.name,
                created=1_790_000_000.0,
                format_version=1,
                config=self.config,
                command=("train.py", "--lr", "0.001"),
                seed=7,
                git_commit="8363b45",
                versions={"auscult": "0.1", "torch": "2.9", "numpy": np.__version__},
                host="lab",
                devices=("cpu",),
            ),
            segments=(Segment(0, 1_790_000_000.0, self.parameters, self.modules),),
            source=MemorySource(tables, self.details),
            events=({"kind": "segment", "step": 0}, *self.events, *end),
        )


def make_tensor(kind: TensorKind, path: str, values: Any) -> TensorDetail:
    """A tensor in full detail, measured by NumPy alone."""
    flat = np.asarray(values, np.float32).ravel()
    with np.errstate(invalid="ignore", over="ignore"):
        mean, low, high = (float(each) for each in (flat.astype(float).mean(), flat.min(), flat.max()))
        std = float(flat.astype(float).std(ddof=1)) if len(flat) > 1 else float("nan")
    counts = np.bincount((flat + np.float32(0)).view(np.uint32) >> 21, minlength=PREFIXES)
    return TensorDetail(kind, path, mean, std, low, high, Histogram.from_prefixes(counts, int((flat == 0).sum())))


def _table(
    stream: Stream, columns: list[tuple[Channel, NDArray[np.int64], NDArray[np.float64]]]
) -> tuple[tuple[Channel, ...], NDArray[np.int64], Values]:
    steps = np.unique(np.concatenate([at for _, at, _ in columns])).astype(np.int64)
    dtype = row_dtype(stream)
    hole = NOT_OBSERVED_64 if dtype == np.float64 else NOT_OBSERVED_32
    rows = np.full((len(steps), len(columns)), hole).view(dtype)
    for position, (_, at, values) in enumerate(columns):
        rows[np.searchsorted(steps, at), position] = values
    return tuple(channel for channel, _, _ in columns), steps, rows


def make_run(
    name: str = "mnist",
    steps: int = 201,
    parameters: int = 8,
    finished: bool = True,
    change: Callable[[str, NDArray[np.float64]], NDArray[np.float64]] | None = None,
    paths: tuple[str, ...] | None = None,
) -> Run:
    """A healthy run, or what `change(channel name, values)` makes of it."""
    random = np.random.default_rng(0)
    maker = RunMaker(name, steps, finished)
    change = change or (lambda _, values: values)
    if paths is None:
        paths = tuple(f"layers.{i // 2}.{'weight' if i % 2 == 0 else 'bias'}" for i in range(parameters))
    modules = tuple(dict.fromkeys(path.rpartition(".")[0] for path in paths))
    maker.parameters = tuple(Parameter(path, (64, 64), "float32", True, "0") for path in paths)
    maker.modules = (Module("", "Net", False), *(Module(path, "Linear", True) for path in modules))
    if steps:
        _add_channels(maker, paths, modules, random, change)
    return maker.make()


def _add_channels(
    maker: RunMaker, paths: tuple[str, ...], modules: tuple[str, ...], random: np.random.Generator, change: Any
) -> None:
    t = np.arange(maker.steps)
    decay = 0.2 + 0.8 * np.exp(-t / max(1, maker.steps / 4))

    def add(stream: Stream, metric: str, path: str, values: Any, steps: Any = None) -> None:
        maker.add(stream, metric, path, change(f"{metric}/{path}", np.asarray(values, float)), steps)

    def noise(size: int = len(t), spread: float = 0.1) -> NDArray[np.float64]:
        return np.exp(spread * random.standard_normal(size))

    add("user", "train/loss", "", 2.3 * decay * noise())
    add("user", "accuracy", "", 1 - 0.9 * decay * noise(spread=0.02))
    for category in ("cats", "dogs", "ships"):
        add("user", "category_loss", category, 2.3 * decay * noise())
    rare = t[:: max(1, maker.steps // 10)]
    add("evaluation", "val/loss", "", 2.4 * decay[rare] * noise(len(rare)), rare)
    add("steps", "lr", "0", 1e-3 * np.minimum(1, (t + 1) / 20))
    add("steps", "clip_ratio", "", 0.7 * decay * noise())
    add("steps", "clip_coefficient", "", np.ones(len(t)))
    add("steps", "finite", "", np.ones(len(t)))
    add("steps", "step_time", "", 0.02 * noise())
    add("steps", "overhead_time", "", 0.0003 * noise())
    add("steps", "throughput", "", 3200 * noise())
    for index, path in enumerate(paths):
        scale = 0.1 * 1.5 ** (index % 8)
        add("norms", "grad_norm", path, scale * decay * noise(spread=0.3))
        add("norms", "param_norm", path, 4.0 + 0.3 * np.log1p(t))
        add("norms", "update_norm", path, 4e-3 * decay * noise(spread=0.2) * scale)
    some = t[::8]
    for path in paths[:64]:
        add("sampled", "param_std", path, np.full(len(some), 0.05), some)
        add("sampled", "update_std", path, 5e-5 * noise(len(some)), some)
    for path in modules[:64]:
        add("sampled", "activation_std", path, 0.9 * noise(len(some)), some)
        add("sampled", "dead_fraction", path, np.clip(0.02 * noise(len(some)), 0, 1), some)
    add("sampled", "memory", "", np.full(len(some), 3e9), some)


def explode(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradients and loss grow tenfold every 12 steps from step 120 on, later layers first."""
    t = np.arange(len(values))
    if name.startswith(("grad_norm", "train/loss", "clip_ratio", "update_norm")) and len(values) > 150:
        start = 120 + (8 * (7 - int(name.split(".")[1])) if "layers" in name else 0)
        return values * 10 ** (np.maximum(0, t - start) / 12)
    return values


def poison(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN from step 40 on; one layer's gradient is exactly zero in steps 10 to 25."""
    if len(values) > 150 and name.startswith(("grad_norm", "train/loss", "param_norm", "update_norm", "clip_ratio")):
        values = values.copy()
        if name == "grad_norm/layers.1.weight":
            values[10:26] = 0
        values[40 if "layers.2" in name or "layers" not in name else 41 :] = np.nan
        return values
    if name.startswith("finite"):
        values = values.copy()
        values[40:] = 0
    return values


HOSTILE = (
    "</script><script>alert(1)</script>",
    "a\"b'c.weight",
    "<img src=x onerror=alert(1)>.bias",
    "слой.вес.层.🎧",
    "line\nbreak\u2028sep\u2029.x",
    "\x1b[31mred\x00\u202egnp.weight",
    "x" * 300,
    "]]>&amp;<!--.weight",
)


def make_finding(**changes: Any) -> Finding:
    fields: dict[str, Any] = {
        "code": "G001",
        "name": "exploding-gradient",
        "severity": "critical",
        "path": "layers.2.weight",
        "step": 120,
        "summary": "The gradient norm of layers.2.weight grew 4,000-fold from step 120 to 164 and still grows.",
        "evidence": (
            Evidence("grad_norm", "layers.2.weight", 164, 2310.0, 6.2),
            Evidence("grad_norm", "", 164, 9411.0, None),
            Evidence("lr", "0", 120, 1e-3),
        ),
        "advice": (
            "Lower the learning rate to 3e-4, or warm it up over 1,000 steps.",
            "Clip at 1.0: monitor.clip_grad_norm_(1.0).",
        ),
        "ruled_out": ("Bad batch: the loss stayed high for 44 steps, a single batch lasts one.",),
        "phase": "backward",
        "confidence": 0.9,
    }
    return Finding(**{**fields, **changes})


def make_score(steps: int = 201, seconds: float = 4.0) -> Score:
    times = np.linspace(0, seconds, steps)
    voice = Voice("early layers", times, np.full(steps, 523.25), np.full(steps, 0.5))
    return Score(
        title="mnist",
        mapping="vitals",
        duration=seconds,
        voices=(voice,),
        events=(
            SoundEvent(1.0, "excursion", "a quarter of the run", 50),
            SoundEvent(2.4, "finding", "exploding-gradient in layers.2.weight", 120, "critical"),
        ),
        step_times=times,
        steps=np.arange(steps),
    )


def make_audio(seconds: float = 4.0, rate: int = 44_100, channels: int = 2) -> Audio:
    t = np.arange(int(seconds * rate)) / rate
    tone = (0.3 * np.sin(2 * np.pi * 523.25 * t)).astype(np.float32)
    return Audio(np.repeat(tone[:, None], channels, axis=1), rate)


@pytest.fixture(scope="session")
def healthy() -> Run:
    return make_run()


@pytest.fixture(scope="session")
def exploding() -> Run:
    return make_run("mel-scale", change=explode, finished=False)


@pytest.fixture(scope="session")
def poisoned() -> Run:
    return make_run("poisoned", change=poison)


@pytest.fixture(scope="session")
def hostile() -> Run:
    return make_run("</title><script>alert(1)</script>\u202e", paths=HOSTILE)


@pytest.fixture(scope="session")
def run_of() -> Callable[..., Run]:
    """`make_run`, for tests that need a run of their own."""
    return make_run


@pytest.fixture(scope="session")
def maker() -> type[RunMaker]:
    """`RunMaker`, for runs built channel by channel."""
    return RunMaker


@pytest.fixture(scope="session")
def finding() -> Callable[..., Finding]:
    """`make_finding`."""
    return make_finding


@pytest.fixture(scope="session")
def tensor() -> Callable[..., TensorDetail]:
    """`make_tensor`."""
    return make_tensor


@pytest.fixture(scope="session")
def hostile_paths() -> tuple[str, ...]:
    return HOSTILE


@pytest.fixture(scope="session")
def score() -> Score:
    return make_score()


@pytest.fixture(scope="session")
def audio() -> Audio:
    return make_audio()
