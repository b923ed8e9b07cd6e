"""Cuda: the same workloads on a GPU: times by device events, memory, bandwidth, whether a step waits for the device."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from scripts.bench.loops import Bare, Watched, clipping_apart
from scripts.bench.rounds import BARE, OURS, OUTSIDE, Make, Results, measure
from scripts.bench.workloads import Workload

VARIANTS: dict[str, Make] = {name: make for name, make in OURS.items() if name != OUTSIDE}
WATCHED_STEPS = 130  # two blocks close, samples are taken nine times
FULL_DETAIL = (64, 128)  # these steps wait: so much is counted that their numbers are read at once


@dataclass(frozen=True, slots=True)
class Waiting:
    """Whether something inside a monitored step, but those in full detail, made the host wait for all of the device.

    Attributes:
        default: What torch said of the default monitor; empty if nothing waited.
        everything: Likewise with everything at every step.
    """

    default: tuple[str, ...]
    everything: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OnDevice:
    """One workload on the GPU.

    Attributes:
        results: What each variant took, by events.
        memory: Peak of the memory allocated while a variant trains, in bytes.
        norms: Device seconds between the begin and the end of what auscult does for the norms of one step.
        bandwidth: Bytes a second in these: at least four times the parameters are read or written (gradient, parameter,
            snapshot twice).
        waiting: What waited for the device.
    """

    results: Results
    memory: dict[str, int]
    norms: float
    bandwidth: float
    waiting: Waiting


def measure_on_device(workload: Workload, directory: Path, done: Callable[[int], object]) -> OnDevice:
    """Everything about one workload."""
    device = torch.device("cuda")
    results = measure(workload, VARIANTS, directory / "rounds", workload.blocks, done, device)
    for variant, _ in results.values():
        del variant.model, variant.optimizer, variant.batches
    memory = {name: _peak(workload, make, directory / f"peak-{n}") for n, (name, make) in enumerate(VARIANTS.items())}
    norms, size = _norms(workload, directory / "norms")
    waiting = Waiting(
        _waits(workload, partial(Watched), directory / "default"),
        _waits(workload, partial(Watched, every=(1, 1)), directory / "everything"),
    )
    return OnDevice(results, memory, norms, 4 * size / norms if norms else float("nan"), waiting)


def copy_bandwidth() -> float:
    """Bytes a second that a copy within the device's memory reads and writes."""
    source = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    stopwatch = EventStopwatch()
    for _ in range(3):
        target.copy_(source)
    for _ in range(20):
        stopwatch.open()
        target.copy_(source)
        stopwatch.shut()
    return 20 * 2 * source.numel() / stopwatch.seconds()


class EventStopwatch:
    """A Stopwatch of the device: the time between two events on its stream, idle time between them included."""

    def __init__(self) -> None:
        self._pairs: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._opened = torch.cuda.Event(enable_timing=True)

    def open(self, *args: object) -> None:
        """What is timed begins."""
        self._opened = torch.cuda.Event(enable_timing=True)
        self._opened.record()

    def shut(self, *args: object) -> None:
        """What is timed is over."""
        end = torch.cuda.Event(enable_timing=True)
        end.record()
        self._pairs.append((self._opened, end))

    def seconds(self) -> float:
        """The sum so far; waits for the device."""
        torch.cuda.synchronize()
        return sum(begin.elapsed_time(end) for begin, end in self._pairs) / 1e3


class NormsOnDevice(Watched):
    """Norms at every step and no samples, with events around clipping and around the optimizer's hooks."""

    def __init__(self, workload: Workload, path: Path, device: torch.device) -> None:
        self.stopwatch = EventStopwatch()
        super().__init__(workload, path, device, every=(1, 1024))

    def watch(self) -> Any:
        """Begin to watch, between hooks of our own."""
        self.optimizer.register_step_pre_hook(self.stopwatch.open)
        self.optimizer.register_step_post_hook(self.stopwatch.open)
        monitor = super().watch()
        self.optimizer.register_step_pre_hook(self.stopwatch.shut)
        self.optimizer.register_step_post_hook(self.stopwatch.shut)
        return monitor

    def clip(self) -> None:
        """Clip by the monitor, whose time torch's own clipping is no part of."""
        self.stopwatch.open()
        with clipping_apart(self.stopwatch):
            super().clip()
        self.stopwatch.shut()


def _norms(workload: Workload, path: Path) -> tuple[float, int]:
    """Device seconds per step for the norms, and the bytes of all parameters."""
    variant = NormsOnDevice(workload, path, torch.device("cuda"))
    for _ in range(4):  # step 0 takes samples
        variant.step()
    before = variant.stopwatch.seconds()
    for _ in range(32):
        variant.step()
    seconds = (variant.stopwatch.seconds() - before) / 32
    variant.monitor.close()
    return seconds, sum(each.numel() * each.element_size() for each in variant.model.parameters())


def _peak(workload: Workload, make: Make, path: Path) -> int:
    """Most memory allocated at once, beside what was allocated before."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    variant = make(workload, path, torch.device("cuda"))
    for _ in range(20):
        variant.step()
    torch.cuda.synchronize()
    variant.end()
    return torch.cuda.max_memory_allocated() - before


def _waits(workload: Workload, make: Callable[..., Watched], path: Path) -> tuple[str, ...]:
    """Every sentence in which torch says that a monitored step waited for the device; the bare step must not."""
    bare = Bare(workload, path, torch.device("cuda"))
    watched = make(workload, path, torch.device("cuda"))
    for _ in range(4):
        bare.step()
        watched.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        bare.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # auscult warns of what fails inside it
            for _ in range(WATCHED_STEPS):
                now = watched.monitor.step
                apart = now in FULL_DETAIL or now - 1 in FULL_DETAIL  # read a step late
                torch.cuda.set_sync_debug_mode("default" if apart else "error")
                watched.step()
    except RuntimeError as error:
        return (f"raised into the loop: {error}",)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = tuple(f"{part}: {message}" for part, message in watched.monitor.failures)
    watched.monitor.close()
    return found


def table(measured: Mapping[Workload, OnDevice], copy: float) -> str:
    """The GPU's part of the page, as Markdown."""
    lines = [
        f"\n## On {torch.cuda.get_device_name()}\n",
        "Times between device events. *Peak* is the most memory allocated at once. *Norms* is the time between the",
        "events around auscult's work for the norms of one step, idle time of the device included; *bandwidth* is four",
        f"times the parameters' bytes over it; a copy reaches {copy / 1e9:.0f} GB/s. *Waits* is what",
        "`torch.cuda.set_sync_debug_mode('error')` said inside the monitored steps, those in full detail left out. It",
        "does not tell that the next forward pass waits, by an event, for the numbers of the step before.\n",
        "| workload | variant | ms per step | pair | peak MB |",
        "|---|---|--:|--:|--:|",
    ]
    for workload, found in measured.items():
        bare = found.results[BARE][1].blocks
        for name, (_, timing) in found.results.items():
            pairs = sorted(mine / other for mine, other in zip(timing.blocks, bare))
            step = 1e3 * sorted(timing.blocks)[len(timing.blocks) // 2] / workload.steps
            peak = f"{found.memory[name] / 1e6:.1f}"
            lines.append(f"| {workload.name} | {name} | {step:.3f} | {pairs[len(pairs) // 2]:.3f} | {peak} |")
    lines += ["", "| workload | norms, ms | bandwidth, GB/s | waits, default | waits, everything |"]
    lines.append("|---|--:|--:|---|---|")
    for workload, found in measured.items():
        waits = " | ".join("; ".join(each) or "no" for each in (found.waiting.default, found.waiting.everything))
        lines.append(f"| {workload.name} | {1e3 * found.norms:.3f} | {found.bandwidth / 1e9:.0f} | {waits} |")
    return "\n".join([*lines, ""])
