"""Rounds: every variant trains block by block, in an order that changes, so that what disturbs one disturbs all."""

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import torch
from scripts.bench.loops import (
    CPU,
    Bare,
    Histograms,
    Practitioner,
    Tracked,
    Watched,
    WatchedFromOutside,
)
from scripts.bench.workloads import Workload

BARE = "bare"
OUTSIDE = "auscult, default, timed from outside"
Make = Callable[[Workload, Path, torch.device], Bare]

OURS: dict[str, Make] = {
    BARE: Bare,
    "bare again (control)": Bare,
    "auscult, default": Watched,
    "auscult, `every=1`: norms at every step": partial(Watched, every=1),
    "auscult, `every=(1, 1)`: everything at every step": partial(Watched, every=(1, 1)),
    "the practitioner's loop": Practitioner,
    OUTSIDE: WatchedFromOutside,
}
TRACKERS: dict[str, tuple[str, Make]] = {
    '`wandb.watch(log="all", log_freq=1)`, offline': ("wandb", Tracked),
    "TensorBoard, histograms of the gradients": ("tensorboard", Histograms),
}
"""What other packages offer, with the name of the package."""


@dataclass(slots=True)
class Timing:
    """What the measured blocks of one variant took.

    Attributes:
        blocks: Seconds of each block; on a GPU between two events of its own.
        collecting: Seconds of all blocks that the garbage collector took.
        beside: CPU seconds of all blocks spent on other threads than the training's.
    """

    blocks: list[float] = field(default_factory=list[float])
    collecting: float = 0.0
    beside: float = 0.0


Results = dict[str, tuple[Bare, Timing]]


def installed() -> dict[str, Make]:
    """The trackers whose package is there."""
    return {name: make for name, (package, make) in TRACKERS.items() if find_spec(package) is not None}


def measure(
    workload: Workload,
    variants: Mapping[str, Make],
    directory: Path,
    blocks: int,
    done: Callable[[int], object],
    device: torch.device = CPU,
) -> Results:
    """Train every variant: first until it has settled, then block by block.

    Args:
        workload: What is trained.
        variants: What is compared, by name.
        directory: Where the runs go.
        blocks: How many blocks are measured.
        done: Called with the number of steps made since the last call.
        device: Where it is trained.
    """
    directory.mkdir()
    own = OwnTime()
    with (
        patch("auscult.monitor.allowance.perf_counter", own.now),
        patch("auscult.monitor.backlog.perf_counter", own.now),
    ):
        made: Results = {}
        for number, (name, make) in enumerate(variants.items()):
            with own.of(name):
                made[name] = make(workload, directory / str(number), device), Timing()
        for name, (variant, _) in made.items():
            steps = preparation(workload, variant)
            with own.of(name):
                for _ in range(steps):
                    variant.step()
                variant.begin()
            done(steps)
        collector = Collector()
        gc.callbacks.append(collector)
        order = list(made.items())
        dice = random.Random(0)
        for _ in range(blocks):
            dice.shuffle(order)
            for name, (variant, timing) in order:
                with own.of(name):
                    _run_block(variant, workload.steps, timing, collector, device)
                done(workload.steps)
        gc.callbacks.remove(collector)
        for name, (variant, _) in made.items():
            with own.of(name):
                variant.end()
    return made


def preparation(workload: Workload, variant: Bare) -> int:
    """Steps that a variant makes before it is measured."""
    return workload.settle if variant.governed else workload.warm_up


class OwnTime:
    """A clock for each variant, which stands still while the others train.

    Without it a variant would see all of them as its own time between two steps, of which it may judge a share, and
    after which it writes what waits.
    """

    def __init__(self) -> None:
        self._passed: dict[str, float] = {}
        self._from = 0.0

    def now(self) -> float:
        """Seconds of the variant that trains."""
        return time.perf_counter() - self._from

    @contextmanager
    def of(self, variant: str) -> Iterator[None]:
        """While this variant trains."""
        self._from = time.perf_counter() - self._passed.get(variant, 0.0)
        try:
            yield
        finally:
            self._passed[variant] = self.now()


class Collector:
    """Counts the seconds that Python's garbage collector takes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._begin = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Take what `gc.callbacks` tells."""
        if phase == "start":
            self._begin = time.perf_counter()
        else:
            self.seconds += time.perf_counter() - self._begin


def _run_block(variant: Bare, steps: int, timing: Timing, collector: Collector, device: torch.device) -> None:
    collecting, beside = collector.seconds, time.process_time() - time.thread_time()
    clock = _EventClock() if device.type == "cuda" else _HostClock()
    for _ in range(steps):
        variant.step()
    timing.blocks.append(clock.seconds())
    timing.beside += time.process_time() - time.thread_time() - beside
    timing.collecting += collector.seconds - collecting


class _HostClock:
    def __init__(self) -> None:
        self._begin = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._begin


class _EventClock:
    def __init__(self) -> None:
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        self._begin.record()

    def seconds(self) -> float:
        self._end.record()
        self._end.synchronize()
        return self._begin.elapsed_time(self._end) / 1e3
