"""What monitoring costs, measured on this machine: trains small models with and without auscult, prints a table.

Every variant trains its own copy of the model on the same random batches. Blocks of steps are interleaved, so that what
disturbs the machine disturbs all variants. Knows nothing of other tools.
"""

import gc
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn
from torch.nn import functional

import auscult
from auscult.clinic.listening import Network

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BATCHES = 8
SETTLING_STEPS = 512  # two reviews of the governor


# -- the models --------------------------------------------------------------------------------------------------------


class CharacterModel(nn.Module):
    """A character-level multilayer perceptron in the manner of makemore, 46,497 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(27, 10)
        widths = (30, 100, 100, 100, 100, 100)
        hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.Tanh())]
        self.layers = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(100, 27))

    def forward(self, characters: Tensor) -> Tensor:
        """Logits `(N, 27)` after characters `(N, 3)`."""
        return self.layers(self.embedding(characters))


class Block(nn.Module):
    """One pre-norm transformer block with six heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, stream: Tensor) -> Tensor:
        """The residual stream `(N, T, width)` after this block."""
        heads = self.attention(self.attention_norm(stream)).unflatten(-1, (3, 6, -1)).transpose(1, 3)
        query, key, value = heads.unbind(2)  # each (N, 6, T, width / 6)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + self.projection(mixed.transpose(1, 2).flatten(2))
        return stream + self.mlp(self.mlp_norm(stream))


class Transformer(nn.Module):
    """A GPT of six layers and width 384, 10.8 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(65, 384)
        self.positions = nn.Embedding(128, 384)
        self.blocks = nn.Sequential(*(Block(384) for _ in range(6)))
        self.norm = nn.LayerNorm(384)
        self.head = nn.Linear(384, 65, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `(N * T, 65)` of tokens `(N, T)`."""
        stream = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(stream))).flatten(0, 1)


@dataclass(frozen=True, slots=True)
class Workload:
    """What is trained, and how long.

    Attributes:
        name: As in the table.
        about: The same in words.
        model: Makes the model.
        optimizer: Makes its optimizer.
        batch: Makes inputs and targets.
        clip: Bound of the gradient norm; None where nothing is clipped.
        settle: Steps before anything is measured.
        blocks: Blocks measured.
        steps: Steps of a block.
    """

    name: str
    about: str
    model: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    batch: Callable[[], tuple[Tensor, Tensor]]
    clip: float | None
    settle: int
    blocks: int
    steps: int


WORKLOADS = (
    Workload(
        "W1",
        "makemore-like MLP, 46k parameters, batch 32, SGD",
        CharacterModel,
        lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
        lambda: (torch.randint(27, (32, 3)), torch.randint(27, (32,))),
        clip=None,
        settle=576,
        blocks=32,
        steps=64,
    ),
    Workload(
        "W2",
        "MNIST CNN, 431k parameters, batch 64, SGD",
        Network,
        lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
        lambda: (torch.randn(64, 1, 28, 28), torch.randint(10, (64,))),
        clip=None,
        settle=576,
        blocks=8,
        steps=64,
    ),
    Workload(
        "W3",
        "GPT, 10.8M parameters, batch 8 x 128, AdamW, gradients clipped at 1",
        Transformer,
        lambda model: torch.optim.AdamW(model.parameters(), lr=3e-4),
        lambda: (torch.randint(65, (8, 128)), torch.randint(65, (8 * 128,))),
        clip=1.0,
        settle=2,
        blocks=8,
        steps=2,
    ),
)


QUICK = tuple(
    replace(each, settle=settle, blocks=blocks, steps=steps)
    for each, (settle, blocks, steps) in zip(WORKLOADS, ((64, 2, 64), (4, 2, 8), (1, 1, 1)), strict=True)
)


# -- the variants: each trains a copy of its own -----------------------------------------------------------------------


class Bare:
    """The loop without anything.

    Attributes:
        inside: Seconds spent on measuring, as the variant itself can tell; None where it cannot.
        outside: The same timed from outside, where it is.
        cadence: What the governor came to.
    """

    def __init__(self, workload: Workload) -> None:
        torch.manual_seed(0)
        self.workload = workload
        self.model = workload.model()
        self.optimizer = workload.optimizer(self.model)
        self.batches = [workload.batch() for _ in range(BATCHES)]
        self.inside: float | None = None
        self.outside = 0.0
        self.cadence = ""
        self.made = 0

    def step(self) -> None:
        """One update."""
        self.backward()
        if self.workload.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.workload.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def backward(self) -> Tensor:
        """Forward and backward pass; returns the loss."""
        inputs, targets = self.batches[self.made % BATCHES]
        self.made += 1
        loss = functional.cross_entropy(self.model(inputs), targets)
        loss.backward()
        return loss

    def begin(self) -> None:
        """What follows is measured."""

    def end(self) -> None:
        """Nothing more is measured."""


class ByHand(Bare):
    """The loop as one writes it by hand to see norms: each tensor by itself, each number fetched at once."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.history: list[dict[str, dict[str, float]]] = []
        self.begin()

    def begin(self) -> None:
        """Count from here on."""
        self.inside = 0.0

    def step(self) -> None:
        """One update, with norms taken and fetched around it."""
        loss = self.backward()
        begin = time.perf_counter()
        named = dict(self.model.named_parameters())
        row = {"loss": {"": loss.item()}}
        row["grad_norm"] = {
            path: tensor.grad.norm().item() for path, tensor in named.items() if tensor.grad is not None
        }
        before = {path: tensor.detach().clone() for path, tensor in named.items()}
        self._count(begin)
        if self.workload.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.workload.clip)
        self.optimizer.step()
        begin = time.perf_counter()
        row["update_norm"] = {path: (tensor.detach() - before[path]).norm().item() for path, tensor in named.items()}
        row["param_norm"] = {path: tensor.detach().norm().item() for path, tensor in named.items()}
        self.history.append(row)
        self._count(begin)
        self.optimizer.zero_grad()

    def _count(self, begin: float) -> None:
        self.inside = (self.inside or 0.0) + time.perf_counter() - begin


class Watched(Bare):
    """The loop with auscult, its store and its live rules.

    Args:
        workload: What is trained.
        path: Directory of the run.
        every: As in `auscult.watch`.
    """

    def __init__(self, workload: Workload, path: Path, every: int | None = None) -> None:
        super().__init__(workload)
        self.monitor = auscult.watch(self.model, self.optimizer, path, every=every)
        self.first = 0

    def step(self) -> None:
        """One update, watched."""
        loss = self.backward()
        if self.workload.clip is not None:
            self.monitor.clip_grad_norm_(self.workload.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.monitor.log(loss=loss)

    def begin(self) -> None:
        """Count from this step on."""
        self.first = self.made

    def end(self) -> None:
        """Close the run, and read what it says of its own cost."""
        self.monitor.close()
        if self.monitor.failures:
            raise RuntimeError(f"Expected auscult to measure without failing, but got {self.monitor.failures}.")
        run = auscult.load(self.monitor.path)
        series = run.series("overhead_time")
        self.inside = float(series.values[series.steps >= self.first].sum())
        changes = [event for event in run.events if event["kind"] == "schedule"]
        if changes:
            self.cadence = f"norms every {changes[-1]['norms']}, samples every {changes[-1]['samples']}"


class WatchedFromOutside(Watched):
    """The same, with hooks of our own right before and right after each of auscult's, which take the time between.

    What lies between them is everything auscult does on the training thread, torch's calls of its hooks included.
    """

    def __init__(self, workload: Workload, path: Path) -> None:
        Bare.__init__(self, workload)
        self.outside = 0.0
        self._opened = 0.0
        self._put(self._open, opening=True)
        self.monitor = auscult.watch(self.model, self.optimizer, path)
        self._put(self._shut, opening=False)
        self.first = 0

    def step(self) -> None:
        """One update, watched and timed."""
        loss = self.backward()
        if self.workload.clip is not None:
            self._clip(self.workload.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._open()
        self.monitor.log(loss=loss)
        self._shut()

    def begin(self) -> None:
        """Count from here on."""
        super().begin()
        self.outside = 0.0

    def end(self) -> None:
        """Close the run; what the hooks of our own see without auscult's between them is no part of its cost."""
        measured, steps = self.outside, self.made - self.first
        super().end()
        self.outside = 0.0
        for _ in range(min(steps, 64)):
            Bare.step(self)
        self.outside = measured - self.outside * steps / min(steps, 64)

    def _clip(self, bound: float) -> None:
        """Clip by the monitor, whose time torch's own clipping is no part of."""
        torchs = nn.utils.clip_grad_norm_

        def clip(*args: Any) -> Tensor:
            self._shut()
            total = torchs(*args)
            self._open()
            return total

        with patch.object(nn.utils, "clip_grad_norm_", clip):
            self._open()
            self.monitor.clip_grad_norm_(bound)
            self._shut()

    def _put(self, stamp: Callable[..., None], opening: bool) -> None:
        def on_output(module: nn.Module, args: object, output: Tensor) -> None:
            if not opening:
                self._shut()
            if output.requires_grad:
                output.register_hook(stamp)
            if opening:
                self._open()

        self.model.register_forward_pre_hook(stamp)
        for module in self.model.modules():
            if next(module.children(), None) is None:
                module.register_forward_hook(on_output)
        self.optimizer.register_step_pre_hook(stamp)
        self.optimizer.register_step_post_hook(stamp)

    def _open(self, *args: object) -> None:
        self._opened = time.perf_counter()

    def _shut(self, *args: object) -> None:
        self.outside += time.perf_counter() - self._opened


# -- measuring ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Timing:
    """What the measured blocks of one variant took.

    Attributes:
        blocks: Seconds of each block.
        collecting: Seconds of all blocks that the garbage collector took.
        beside: CPU seconds of all blocks spent on other threads than the training's.
    """

    blocks: list[float] = field(default_factory=list[float])
    collecting: float = 0.0
    beside: float = 0.0


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


OUTSIDE = "auscult, default, timed from outside"
VARIANTS: dict[str, Callable[[Workload, Path], Bare]] = {
    "bare": lambda workload, path: Bare(workload),
    "bare again (control)": lambda workload, path: Bare(workload),
    "auscult, default": Watched,
    "auscult, `every=1` (samples every 16)": lambda workload, path: Watched(workload, path, every=1),
    "by hand, `.norm().item()`": lambda workload, path: ByHand(workload),
    OUTSIDE: WatchedFromOutside,
}


def measure(workload: Workload, directory: Path, done: Callable[[float], object]) -> dict[str, tuple[Bare, Timing]]:
    """Train every variant: first until it has settled, then block by block in turn.

    Args:
        workload: What is trained.
        directory: Where the runs go.
        done: Called with the share of all steps that has been made since the last call.
    """
    whole = len(VARIANTS) * (workload.settle + workload.blocks * workload.steps)
    made = {
        name: (make(workload, directory / f"{workload.name}-{number}"), Timing())
        for number, (name, make) in enumerate(VARIANTS.items())
    }
    for variant, _ in made.values():
        for _ in range(workload.settle):
            variant.step()
        variant.begin()
        done(workload.settle / whole)
    collector = Collector()
    gc.callbacks.append(collector)
    for _ in range(workload.blocks):
        for variant, timing in made.values():
            _run_block(variant, workload.steps, timing, collector)
            done(workload.steps / whole)
    gc.callbacks.remove(collector)
    for variant, _ in made.values():
        variant.end()
    return made


def _run_block(variant: Bare, steps: int, timing: Timing, collector: Collector) -> None:
    collecting, beside = collector.seconds, time.process_time() - time.thread_time()
    begin = time.perf_counter()
    for _ in range(steps):
        variant.step()
    timing.blocks.append(time.perf_counter() - begin)
    timing.beside += time.process_time() - time.thread_time() - beside
    timing.collecting += collector.seconds - collecting


# -- the page ---------------------------------------------------------------------------------------------------------

HEAD = """# Benchmarks

Written by `make bench`; run it on your own machine. Random data, no data loading.

{machine}

* **direct**: time spent measuring / time of the bare steps of the same rounds. For auscult that is what the run itself
  recorded as `overhead_time`, with the store, the live rules and the logging of the loss.
* **pair**: median of (block of the variant / bare block of the same round), and its quartiles. It sees indirect effects
  too, and the noise of the machine: read it beside the control, which compares bare with bare.
* **by hand** takes the norms of gradient, parameter and update tensor by tensor, and writes nothing to disk.
"""
AUDIT = """## What `overhead_time` leaves out

The default variant once more, with hooks right before and after each of auscult's that take the time between them: they
see torch's calls of the hooks and what auscult does outside its own clock. What torch takes longer because a module has
hooks at all is in *pair* alone. Garbage collection is counted wherever it strikes, mostly outside of auscult; of other
threads, auscult has the one that seals rows.

| µs per step | `overhead_time` | timed from outside | garbage collection (bare) | other threads, CPU (bare) |
|---|--:|--:|--:|--:|
"""
SETTLED = "after the {settle} in which the governor settled."
UNSETTLED = """after {settle}: too few for the governor, which reviews its budget at every 256th step, and for
the rules, most of which are asked at every 64th. So norms were taken at every step, samples at one in 16."""

Results = dict[str, tuple[Bare, Timing]]


def page(results: dict[Workload, Results], threads: int) -> str:
    """The page as Markdown."""
    machine = (
        f"{cpu_model()}, {os.cpu_count()} cores, {threads} {'thread' if threads == 1 else 'threads'}; "
        f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}, "
        f"auscult {auscult.__version__}; {datetime.now(timezone.utc):%Y-%m-%d}."
    )
    sections = (section(workload, made) for workload, made in results.items())
    audits = (audit_line(workload, made) for workload, made in results.items())
    return "\n".join([HEAD.format(machine=machine), *sections, AUDIT + "\n".join(audits) + "\n"])


def section(workload: Workload, made: Results) -> str:
    """What each variant cost on one workload."""
    bare = made["bare"][1].blocks
    lines = [
        f"## {workload.name}: {workload.about}\n",
        "| variant | ms per step | direct | pair | quartiles | cadence |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for name, (variant, timing) in made.items():
        if name == OUTSIDE:
            continue
        direct = "" if variant.inside is None else f"{variant.inside / sum(bare):.1%}"
        low, middle, high = np.quantile([mine / other for mine, other in zip(timing.blocks, bare)], (0.25, 0.5, 0.75))
        pair = "|" if name == "bare" else f"{middle:.3f} | {low:.3f} to {high:.3f}"
        step = 1e3 * median(timing.blocks) / workload.steps
        lines.append(f"| {name} | {step:.3f} | {direct} | {pair} | {variant.cadence} |")
    after = SETTLED if workload.settle >= SETTLING_STEPS else UNSETTLED
    lines.append(f"\n{workload.blocks} blocks of {workload.steps} steps, {after.format(settle=workload.settle)}\n")
    return "\n".join(lines)


def audit_line(workload: Workload, made: Results) -> str:
    """What `overhead_time` said and what was seen besides, in microseconds per step."""
    variant, timing = made[OUTSIDE]
    bare = made["bare"][1]
    assert variant.inside is not None
    seconds = (variant.inside, variant.outside, timing.collecting, bare.collecting, timing.beside, bare.beside)
    numbers = [f"{1e6 * each / (workload.blocks * workload.steps):.1f}" for each in seconds]
    inside, outside, collecting, bare_collecting, beside, bare_beside = numbers
    return f"| {workload.name} | {inside} | {outside} | {collecting} ({bare_collecting}) | {beside} ({bare_beside}) |"


def cpu_model() -> str:
    """The processor, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(
    threads: Annotated[int, typer.Option(help="Threads torch may use.", min=1)] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A few steps only, printed and not kept.")] = False,
) -> None:
    """Measure what monitoring costs and write docs/benchmarks.md."""
    torch.set_num_threads(threads)
    results: dict[Workload, Results] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=Console(stderr=True), auto_refresh=False)  # its thread would disturb

    with tempfile.TemporaryDirectory() as directory, progress:
        for workload in QUICK if quick else WORKLOADS:
            bar = progress.add_task(workload.about, total=1.0)
            results[workload] = measure(
                workload, Path(directory), lambda share, bar=bar: progress.update(bar, advance=share, refresh=True)
            )
    text = page(results, threads)
    if quick:
        sys.stdout.write(text)
    else:
        PAGE.write_text(text)


if __name__ == "__main__":
    typer.run(main)
