"""Loops: one training loop bare, and the same loop with what is compared; each trains a copy of its own."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import torch
from scripts.bench.workloads import Workload
from torch import Tensor, nn
from torch.nn import functional

import auscult
from auscult.core.digest import Block
from auscult.core.finding import Finding
from auscult.core.sink import Rows
from auscult.rules.live import LiveDiagnosis

BATCHES = 8
CPU = torch.device("cpu")


class Stopwatch(Protocol):
    """Adds up the time between `open` and `shut`."""

    def open(self, *args: object) -> None:
        """What is timed begins."""

    def shut(self, *args: object) -> None:
        """What is timed is over."""

    def seconds(self) -> float:
        """The sum so far."""
        ...


class HostStopwatch:
    """A Stopwatch of the host's wall clock."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._opened = 0.0

    def open(self, *args: object) -> None:
        """What is timed begins."""
        self._opened = time.perf_counter()

    def shut(self, *args: object) -> None:
        """What is timed is over."""
        self._sum += time.perf_counter() - self._opened

    def seconds(self) -> float:
        """The sum so far."""
        return self._sum


class TimedRules(LiveDiagnosis):
    """Live rules, and the digests they are given, that know what they took.

    Attributes:
        seconds: So far.
    """

    seconds = 0.0

    def extend(
        self, steps: Sequence[int], rows: Sequence[Rows], put_off: bool = False
    ) -> Iterator[tuple[int, list[Block], list[Finding]]]:
        """Take rows."""
        begin = time.perf_counter()
        found = list(super().extend(steps, rows, put_off))
        self.seconds += time.perf_counter() - begin
        return iter(found)

    def settle(self) -> list[Finding]:
        """Judge what was put off."""
        begin = time.perf_counter()
        found = super().settle()
        self.seconds += time.perf_counter() - begin
        return found


class Bare:
    """The loop without anything.

    Attributes:
        governed: Whether it keeps a budget by itself, and needs steps to settle.
        cadence: What a governor came to.
    """

    governed = False

    def __init__(self, workload: Workload, path: Path, device: torch.device = CPU) -> None:
        torch.manual_seed(0)
        self.workload = workload
        self.path = path
        self.model = workload.model().to(device)
        self.optimizer = workload.optimizer(self.model)
        batches = (workload.batch() for _ in range(BATCHES))
        self.batches = [(inputs.to(device), targets.to(device)) for inputs, targets in batches]
        self.cadence = ""
        self.made = 0
        self.measured_from = 0

    def step(self) -> None:
        """One update."""
        loss = self.backward()
        self.before_update(loss)
        self.clip()
        self.optimizer.step()
        self.after_update(loss)
        self.optimizer.zero_grad()
        self.made += 1

    def backward(self) -> Tensor:
        """Forward and backward pass; returns the loss."""
        inputs, targets = self.batches[self.made % BATCHES]
        loss = functional.cross_entropy(self.model(inputs), targets)
        loss.backward()
        return loss

    def before_update(self, loss: Tensor) -> None:
        """Gradients are there."""

    def clip(self) -> None:
        """Clip the gradients, where the workload does."""
        if self.workload.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.workload.clip)

    def after_update(self, loss: Tensor) -> None:
        """The parameters were changed."""

    def begin(self) -> None:
        """What follows is measured."""
        self.measured_from = self.made

    def end(self) -> None:
        """Nothing more is measured."""

    def inside(self) -> float | None:
        """Seconds per step spent on measuring, in the long run; None where nothing tells. Called after `end`."""
        return None


class Timed(Bare):
    """A loop whose extra work is done in calls of its own, between which a stopwatch runs."""

    def __init__(self, workload: Workload, path: Path, device: torch.device = CPU) -> None:
        super().__init__(workload, path, device)
        self.stopwatch = HostStopwatch()
        self._seconds = 0.0
        self._steps = 0

    def begin(self) -> None:
        """What follows is measured."""
        super().begin()
        self._seconds = self.stopwatch.seconds()

    def end(self) -> None:
        """Nothing more is measured."""
        self._seconds = self.stopwatch.seconds() - self._seconds
        self._steps = self.made - self.measured_from

    def inside(self) -> float | None:
        """Seconds per step between `open` and `shut`."""
        return self._seconds / self._steps


class Practitioner(Timed):
    """The loop as practitioners write it: recursive norms by module, clipping twice, a snapshot on the host, `.item()`.

    The numbers and their order are those of "Training run diagnostic metrics" (Drevo, 2026). They are kept in memory;
    what a tracker takes to write them down comes on top.
    """

    def __init__(self, workload: Workload, path: Path, device: torch.device = CPU) -> None:
        super().__init__(workload, path, device)
        self.row: dict[str, float] = {}
        self._old: dict[str, Tensor] = {}

    def before_update(self, loss: Tensor) -> None:
        """The loss and the norm of the gradients below every module."""
        self.stopwatch.open()
        self.row = {"loss": loss.item()}
        for path, module in self.model.named_modules():
            if any(parameter.requires_grad for parameter in module.parameters()):
                self.row[f"grad_norm/{path}"] = _gradient_norm(module.parameters())
        self.stopwatch.shut()

    def clip(self) -> None:
        """Clip, take the norm again, copy the parameters to the host."""
        total = None
        if self.workload.clip is not None:
            total = nn.utils.clip_grad_norm_(self.model.parameters(), self.workload.clip)
        self.stopwatch.open()
        if self.workload.clip is not None and total is not None:
            self.row["grad_clip_ratio"] = total.item() / self.workload.clip
            clipped = nn.utils.clip_grad_norm_(self.model.parameters(), float("inf"))
            self.row["grad_norm_clipped"] = clipped.item()
        self._old = {path: tensor.detach().clone().cpu() for path, tensor in self.model.named_parameters()}
        self.stopwatch.shut()

    def after_update(self, loss: Tensor) -> None:
        """Norms of all updates and of all parameters, from one long vector each."""
        self.stopwatch.open()
        new = {path: tensor.detach().cpu() for path, tensor in self.model.named_parameters()}
        updates = torch.cat([(tensor - self._old[path]).flatten() for path, tensor in new.items()])
        self.row["update_norm"] = updates.norm().item()
        self.row["param_norm"] = torch.cat([tensor.flatten() for tensor in new.values()]).norm().item()
        self.row["update_ratio"] = self.row["update_norm"] / self.row["param_norm"]
        self.row["lr"] = self.optimizer.param_groups[0]["lr"]
        self.stopwatch.shut()


def _gradient_norm(parameters: Iterable[nn.Parameter]) -> float:
    present = (parameter.grad for parameter in parameters)
    return sum(gradient.norm().item() ** 2 for gradient in present if gradient is not None) ** 0.5


class Histograms(Timed):
    """The loop with TensorBoard: the loss and a histogram of every gradient, at every step."""

    def __init__(self, workload: Workload, path: Path, device: torch.device = CPU) -> None:
        super().__init__(workload, path, device)
        self._writer = import_module("torch.utils.tensorboard").SummaryWriter(path)

    def before_update(self, loss: Tensor) -> None:
        """Histograms of the gradients."""
        self.stopwatch.open()
        self._writer.add_scalar("loss", loss.item(), self.made)
        for path, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                self._writer.add_histogram(path, parameter.grad, self.made)
        self.stopwatch.shut()

    def end(self) -> None:
        """Nothing more is measured."""
        super().end()
        self._writer.close()


class Tracked(Timed):
    """The loop with Weights & Biases offline: `watch` of gradients and parameters at every step, and the loss."""

    def __init__(self, workload: Workload, path: Path, device: torch.device = CPU) -> None:
        super().__init__(workload, path, device)
        wandb = import_module("wandb")
        path.mkdir()
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        settings = wandb.Settings(silent=True, console="off")
        self._run = wandb.init(mode="offline", dir=str(path), settings=settings)
        put_on_gradients(self.model, self.stopwatch.open)
        self.model.register_forward_hook(self.stopwatch.open)
        self._run.watch(self.model, log="all", log_freq=1)
        self.model.register_forward_hook(self.stopwatch.shut)
        put_on_gradients(self.model, self.stopwatch.shut)

    def after_update(self, loss: Tensor) -> None:
        """Send the row."""
        self.stopwatch.open()
        self._run.log({"loss": loss.item()})
        self.stopwatch.shut()

    def end(self) -> None:
        """Nothing more is measured."""
        super().end()
        self._run.finish()


def put_on_gradients(model: nn.Module, stamp: Callable[..., None]) -> None:
    """Have something called when the gradient of a parameter is about to be added up."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_hook(stamp)


class Watched(Bare):
    """The loop with auscult, its store and its live rules.

    Args:
        every: As in `auscult.watch`.
    """

    def __init__(
        self, workload: Workload, path: Path, device: torch.device = CPU, *, every: int | tuple[int, int] | None = None
    ) -> None:
        super().__init__(workload, path, device)
        self.governed = every is None
        self.every = every
        self.first = workload.begin if self.governed else 0
        self.monitor = self.watch()

    def watch(self) -> Any:
        """Begin to watch."""
        return auscult.watch(self.model, self.optimizer, self.path, every=self.every, step=self.first)

    def clip(self) -> None:
        """Clip by the monitor, where the workload clips."""
        if self.workload.clip is not None:
            self.monitor.clip_grad_norm_(self.workload.clip)

    def after_update(self, loss: Tensor) -> None:
        """Log the loss."""
        self.monitor.log(loss=loss)

    def end(self) -> None:
        """Close the run."""
        self.monitor.close()
        if self.monitor.failures:
            raise RuntimeError(f"Expected auscult to measure without failing, but got {self.monitor.failures}.")
        changes = [event for event in auscult.load(self.path).events if event["kind"] == "schedule"]
        norms, samples = self._cadence()
        settled = "" if not self.governed or changes or (norms, samples) == (1, 16) else " (not settled)"
        self.cadence = f"norms {norms}, samples {samples}{settled}"

    def inside(self) -> float | None:
        """Seconds per step by `overhead_time`, in the long run at the cadence that the run came to.

        A few steps with norms and few or none with samples fall into the blocks that are measured. So each kind of step
        counts by its mean over the run, without the first two steps and those in full detail, and by how often the
        cadence asks for it.
        """
        run = auscult.load(self.path)
        overhead = run.series("overhead_time")
        norms, samples = (set(run.series(name).steps.tolist()) for name in ("param_norm", "memory"))
        examined = set(run.details)
        costs: dict[tuple[bool, bool], list[float]] = {}
        for step, seconds in islice(zip(overhead.steps.tolist(), overhead.values.tolist()), 2, None):
            if step not in examined:
                costs.setdefault((step in norms, step in samples), []).append(seconds)
        every, sampled = self._cadence()
        shares = {
            (True, True): 1 / sampled,
            (True, False): 1 / every - 1 / sampled,
            (False, False): 1 - 1 / every,
        }
        return sum(share * _mean(costs.get(kind, [])) for kind, share in shares.items() if share)

    def examined(self) -> float:
        """Seconds that a step in full detail takes, the first one left out; NaN where there was no other."""
        run = auscult.load(self.path)
        overhead = run.series("overhead_time")
        return _mean(overhead.values[np.isin(overhead.steps, run.details[1:])].tolist())

    def reported(self) -> float:
        """Seconds per step of the measured ones, as `overhead_time` has them."""
        overhead = auscult.load(self.path).series("overhead_time")
        return float(overhead.values[overhead.steps >= self.first + self.measured_from].mean())

    def _cadence(self) -> tuple[int, int]:
        changes = [event for event in auscult.load(self.path).events if event["kind"] == "schedule"]
        if changes:
            return int(changes[-1]["norms"]), int(changes[-1]["samples"])
        return self.every if isinstance(self.every, tuple) else (self.every or 1, 16 * (self.every or 1))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


class WatchedFromOutside(Watched):
    """The same, with hooks of our own right before and right after each of auscult's, between which a stopwatch runs.

    What lies between them is everything that auscult does on the training thread, torch's calls of its hooks included.
    """

    def __init__(self, workload: Workload, path: Path, device: torch.device = CPU, **options: Any) -> None:
        self.stopwatch = HostStopwatch()
        self._seconds = self._judged = 0.0
        self._steps = 0
        self._rules: list[TimedRules] = []
        super().__init__(workload, path, device, **options)

    def watch(self) -> Any:
        """Begin to watch, between hooks of our own."""
        self._put(self.stopwatch.open, opening=True)
        with patch("auscult.monitor.journal.LiveDiagnosis", self._make_rules):
            monitor = super().watch()
        self._put(self.stopwatch.shut, opening=False)
        return monitor

    def clip(self) -> None:
        """Clip by the monitor, whose time torch's own clipping is no part of."""
        self.stopwatch.open()
        with clipping_apart(self.stopwatch):
            super().clip()
        self.stopwatch.shut()

    def after_update(self, loss: Tensor) -> None:
        """Log the loss."""
        self.stopwatch.open()
        super().after_update(loss)
        self.stopwatch.shut()

    def begin(self) -> None:
        """What follows is measured."""
        super().begin()
        self._seconds = self.stopwatch.seconds()
        self._judged = self._rules[-1].seconds

    def end(self) -> None:
        """Close the run; what our own hooks see without auscult's between them is no part of its cost."""
        self._seconds = self.stopwatch.seconds() - self._seconds
        self._judged = self._rules[-1].seconds - self._judged
        self._steps = self.made - self.measured_from
        super().end()
        begin, steps = self.stopwatch.seconds(), min(self._steps, 64)
        for _ in range(steps):
            self.backward()
            self.stopwatch.open()
            self.stopwatch.shut()
            Bare.clip(self)
            self.optimizer.step()
            self.optimizer.zero_grad()
        self._seconds -= (self.stopwatch.seconds() - begin) * self._steps / steps

    def outside(self) -> float:
        """Seconds per step as seen from outside."""
        return self._seconds / self._steps

    def judged(self) -> float:
        """Seconds per step that digests and live rules took."""
        return self._judged / self._steps

    def _make_rules(self, *segments: Any) -> TimedRules:
        self._rules.append(TimedRules(*segments))
        return self._rules[-1]

    def _put(self, stamp: Callable[..., None], opening: bool) -> None:
        def on_output(module: nn.Module, args: object, output: Tensor) -> None:
            if not opening:
                self.stopwatch.shut()
            if output.requires_grad:
                output.register_hook(stamp)
            if opening:
                self.stopwatch.open()

        self.model.register_forward_pre_hook(stamp)
        for module in self.model.modules():
            if next(module.children(), None) is None:
                module.register_forward_hook(on_output)
        for parameter in self.model.parameters():
            parameter.register_post_accumulate_grad_hook(stamp)
        self.optimizer.register_step_pre_hook(stamp)
        self.optimizer.register_step_post_hook(stamp)


@contextmanager
def clipping_apart(stopwatch: Stopwatch) -> Any:
    """While torch clips, the stopwatch stands still."""
    torchs = nn.utils.clip_grad_norm_

    def clip(*args: Any) -> Tensor:
        stopwatch.shut()
        total = torchs(*args)
        stopwatch.open()
        return total

    with patch.object(nn.utils, "clip_grad_norm_", clip):
        yield
