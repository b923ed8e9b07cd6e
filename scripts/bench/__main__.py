"""What monitoring costs on this machine, beside what a user would take instead; writes docs/benchmarks.md.

python -m scripts.bench             everything, under ten minutes on two cores; with a GPU also what it costs there
python -m scripts.bench --quick     a few steps of each, printed and not kept
python -m scripts.bench --profile   where the time inside auscult goes, printed and not kept
"""

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from scripts.bench import cuda, parts
from scripts.bench.page import page
from scripts.bench.rounds import BARE, OURS, OUTSIDE, Make, Results, installed, measure
from scripts.bench.storage import read_deep_run, read_long_run, write_rows
from scripts.bench.workloads import QUICK, WORKLOADS, Workload

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
NO_GPU = "\nOn a GPU: not run, no CUDA machine at hand; where there is one, `make bench` measures on it as well.\n"
LONG_STEPS = 100_032  # whole blocks
ROWS = 2048
GOVERNED = ("auscult, default", OUTSIDE)


def main(
    threads: Annotated[int, typer.Option(help="Threads torch may use.", min=1)] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A few steps only, printed and not kept.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Where the time inside auscult goes, printed.")] = False,
) -> None:
    """Measure what monitoring costs and write docs/benchmarks.md."""
    torch.set_num_threads(threads)
    workloads = QUICK if quick else WORKLOADS
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=Console(stderr=True), auto_refresh=False)  # its thread would disturb
    with tempfile.TemporaryDirectory() as name, progress:
        directory = Path(name)
        if profile:
            sys.stdout.write(parts.table(workloads, directory))
            return
        text, waits = _measure_all(workloads, directory, progress, quick)
    if quick:
        sys.stdout.write(text)
    else:
        PAGE.write_text(text)
    if waits:
        raise typer.Exit(1)


def _measure_all(workloads: tuple[Workload, ...], directory: Path, progress: Progress, quick: bool) -> tuple[str, bool]:
    """The page, and whether a monitored step was seen to wait for a GPU."""
    ours: dict[Workload, Results] = {}
    theirs: dict[Workload, Results] = {}
    trackers: dict[str, Make] = {BARE: OURS[BARE], **installed()}
    for workload in workloads:
        bar = _Bar(progress, f"{workload.name}, auscult", _steps(workload, OURS, workload.blocks))
        ours[workload] = measure(workload, OURS, directory / workload.name, workload.blocks, bar)
    bar = _Bar(progress, "rows of 1,000 numbers", ROWS)
    writing = write_rows(directory / "writing", 64 if quick else ROWS)
    bar(ROWS)
    steps = 4096 if quick else LONG_STEPS
    reading = read_long_run(directory / "long", steps, _Bar(progress, "a long run", steps))
    size = sum(each.stat().st_size for each in (directory / "long").rglob("*") if each.is_file()) / 1e6
    reading.append(read_deep_run(directory / "deep", steps, _Bar(progress, "a deep run", steps)))
    device, waits = NO_GPU, False
    if torch.cuda.is_available():
        device, waits = _measure_on_device(workloads, directory, progress)
    for workload in workloads:  # last, because threads of the trackers outlive their runs
        blocks = max(workload.blocks // 4, 2)
        bar = _Bar(progress, f"{workload.name}, trackers", _steps(workload, trackers, blocks))
        theirs[workload] = measure(workload, trackers, directory / f"{workload.name}-trackers", blocks, bar)
    return page(ours, theirs, writing, reading, (steps, size), device), waits


def _measure_on_device(workloads: tuple[Workload, ...], directory: Path, progress: Progress) -> tuple[str, bool]:
    copy = cuda.copy_bandwidth()
    measured: dict[Workload, cuda.OnDevice] = {}
    for workload in workloads:
        steps = sum(workload.settle if name in GOVERNED else workload.warm_up for name in cuda.VARIANTS)
        bar = _Bar(
            progress, f"{workload.name} on the GPU", steps + len(cuda.VARIANTS) * workload.blocks * workload.steps
        )
        path = directory / f"{workload.name}-device"
        path.mkdir()
        measured[workload] = cuda.measure_on_device(workload, path, bar)
    waits = any(found.waiting.default or found.waiting.everything for found in measured.values())
    return cuda.table(measured, copy), waits


def _steps(workload: Workload, variants: Iterable[str], blocks: int) -> int:
    """Steps that all variants make together."""
    prepared = (workload.settle if name in GOVERNED else workload.warm_up for name in variants)
    return sum(steps + blocks * workload.steps for steps in prepared)


class _Bar:
    """One line of the progress, in steps; drawn only between blocks."""

    def __init__(self, progress: Progress, description: str, steps: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=steps)

    def __call__(self, steps: int) -> None:
        self._progress.update(self._task, advance=steps, refresh=True)


if __name__ == "__main__":
    typer.run(main)
