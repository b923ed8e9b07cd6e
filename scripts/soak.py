"""A soak: very many cheap steps with the default monitor, watched from outside; exit 1 if a limit breaks.

python scripts/soak.py [--steps 1000000]    trains in a process of its own, reads the run in others meanwhile

Limits: memory grows by at most 5 MB after warm-up; the store can be read at every checkpoint and has every step that
`saved_step` named before; at most 500 files at any time; the finished run is within 20 % of the size that
docs/file-format.md makes of its rows.
"""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import auscult
from auscult.core.digest import BLOCK, BLOCK_STEPS
from auscult.core.sink import row_dtype
from auscult.store.blocks import COARSE_STEPS

CHECKPOINTS = 50
GROWTH_MB = 5.0
FILES = 500
SIZE_ERROR = 0.2
TILE_HEAD = 4 * 128 + 8  # four headers of numpy.save, and the numbers at the end
FRAME_HEAD, ROW_HEAD, BLOCK_HEAD = 12, 16, 24
LINE = 220  # of tiles.jsonl, roughly


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the training process stood.

    Attributes:
        steps: Steps made.
        saved: `monitor.saved_step`.
        seconds: Since training began.
        memory: Resident memory in bytes.
    """

    steps: int
    saved: int
    seconds: float
    memory: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a reader in a process of its own made of the run.

    Attributes:
        steps: Rows of the stream `steps`.
        complete: Whether these are all steps from 0 on, and the loss of each can be read.
        complaints: Warnings, and damage that was listed.
        seconds: What reading took.
    """

    steps: int
    complete: bool
    complaints: list[str]
    seconds: float


def train(path: Path, steps: Annotated[int, typer.Option()]) -> None:
    """Train a tiny model, and print a checkpoint after every fiftieth of the way; the last one after closing."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs, targets = torch.randn(64, 32, 8), torch.randn(64, 32, 1)
    every = steps // CHECKPOINTS
    begin = time.perf_counter()
    with auscult.watch(model, optimizer, path) as monitor:
        for step in range(steps):
            loss = nn.functional.mse_loss(model(inputs[step % 64]), targets[step % 64])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
            if (step + 1) % every == 0:
                _tell(Checkpoint(step + 1, monitor.saved_step, time.perf_counter() - begin, _resident()))
    _tell(Checkpoint(steps, monitor.saved_step, time.perf_counter() - begin, _resident()))
    if monitor.failures:
        raise SystemExit(f"Expected auscult to measure without failing, but got {monitor.failures}.")


def read(path: Path) -> None:
    """Read the run as anybody could who looks at it now, and print what was found."""
    begin = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = auscult.load(path)
        steps, loss = run.series("step_time").steps, run.series("loss")
        expected = np.arange(len(loss.steps))
        complete = np.array_equal(loss.steps, expected) and np.array_equal(steps, expected[1:])
        auscult.diagnose(run)
    complaints = [str(each.message) for each in caught] + [str(each) for each in run.damage]
    found = Found(len(run.steps), complete, complaints, time.perf_counter() - begin)
    sys.stdout.write(json.dumps(asdict(found)))


def expected_size(path: Path) -> int:
    """Bytes that docs/file-format.md makes of the rows of a finished run, and those of the files at its top."""
    run = auscult.load(path)
    total = sum((path / name).stat().st_size for name in ("run.json", "channels.jsonl", "events.jsonl"))
    for stream in run.streams:
        parts = [steps for steps, _ in run.source.columns(stream, [], run.stop)]
        steps = np.concatenate(parts)
        width = len(run.source.channels(stream))
        values = width * row_dtype(stream).itemsize
        sealed, tail = len(steps) // 256 * 256, len(steps) % 256
        total += sealed * (8 + values) + tail * (FRAME_HEAD + ROW_HEAD + values)
        total += _tiles(sealed) * (TILE_HEAD + 4 * width)
        total += sum(sealed // rows for rows in (256, 4096, 65536)) * LINE
        blocks = len(np.unique(steps // BLOCK_STEPS)) + len(np.unique(steps // COARSE_STEPS)) - 1
        total += blocks * (FRAME_HEAD + BLOCK_HEAD + width * BLOCK.itemsize)
    return total


def watch(path: Path, steps: int, broken: list[str]) -> tuple[list[Checkpoint], list[int]]:
    """Train in a process of its own; at every checkpoint count files, and read the run while training goes on.

    Args:
        path: Directory of the run.
        steps: Steps to train.
        broken: Takes a sentence for everything that was not as it must be.

    Returns:
        The checkpoints, the last one after the run was closed, and the number of files at each.
    """
    command = [sys.executable, __file__, "train", str(path), "--steps", str(steps)]
    checkpoints: list[Checkpoint] = []
    files: list[int] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task("soak", total=steps)
        assert process.stdout is not None
        for line in process.stdout:
            checkpoint = Checkpoint(**json.loads(line))
            checkpoints.append(checkpoint)
            files.append(sum(each.is_file() for each in path.rglob("*")))
            broken += complaints(ask(path), checkpoint)
            progress.update(task, completed=checkpoint.steps)
    if process.returncode:
        broken.append(f"Expected the training process to end with 0, but got {process.returncode}.")
    return checkpoints, files


def ask(path: Path) -> Found:
    """Read the run in a process of its own."""
    answer = subprocess.run([sys.executable, __file__, "read", str(path)], stdout=subprocess.PIPE, text=True)
    if answer.returncode:
        return Found(0, False, [f"the reader ended with {answer.returncode}"], 0.0)
    return Found(**json.loads(answer.stdout))


def complaints(found: Found, checkpoint: Checkpoint) -> list[str]:
    """What is wrong with what was read after a checkpoint."""
    sentences = [f"At step {checkpoint.steps} reading said: {each}" for each in found.complaints]
    if not found.complete:
        sentences.append(f"Expected every step up to {checkpoint.steps}, but some cannot be read.")
    if found.steps <= checkpoint.saved:
        sentences.append(f"Expected {checkpoint.saved + 1} steps or more to be read, but got {found.steps}.")
    if checkpoint.saved < checkpoint.steps - 2:  # the rows of the last step are made when the next one begins
        sentences.append(f"Expected step {checkpoint.steps - 2} to be saved, but got {checkpoint.saved}.")
    return sentences


def verdict(checkpoints: Sequence[Checkpoint], files: Sequence[int], size: int, expected: int) -> list[str]:
    """The limits that were broken."""
    broken: list[str] = []
    growth = (checkpoints[-2].memory - _warm(checkpoints).memory) / 1e6
    if growth > GROWTH_MB:
        broken.append(f"Expected memory to grow by {GROWTH_MB} MB at most after warm-up, but got {growth:.1f} MB.")
    if max(files) > FILES:
        broken.append(f"Expected {FILES} files at most, but got {max(files)}.")
    if abs(size / expected - 1) > SIZE_ERROR:
        broken.append(f"Expected about {expected:,} bytes, as the format says, but got {size:,}.")
    return broken


def summary(path: Path, checkpoints: Sequence[Checkpoint], files: Sequence[int], size: int, expected: int) -> str:
    """What was seen, as text."""
    run = auscult.load(path)
    changes = [event for event in run.events if event["kind"] == "schedule"]
    cadence = f"norms {changes[-1]['norms']}, samples {changes[-1]['samples']}" if changes else "as it began"
    last, warm = checkpoints[-1], _warm(checkpoints)
    later = [each for each in checkpoints[:-1] if each.steps >= warm.steps]
    slope = np.polyfit([each.steps for each in later], [each.memory for each in later], 1)[0]
    growth = (later[-1].memory - warm.memory) / 1e6
    return (
        f"steps      {last.steps:,} in {last.seconds:.0f} s, {1e6 * last.seconds / last.steps:.0f} us each\n"
        f"overhead   {1e6 * np.mean(run.series('overhead_time').values):.0f} us a step by auscult's own clock\n"
        f"cadence    {cadence}; {len(changes)} changes\n"
        f"memory     {warm.memory / 1e6:.1f} MB at step {warm.steps:,}, {growth:+.2f} MB until the end, "
        f"{10 * slope:+.1f} kB per 10,000 steps\n"
        f"files      {max(files)} at most, {files[-1]} at the end\n"
        f"size       {size:,} bytes, {size / last.steps:.1f} a step; the format says {expected:,} "
        f"({size / expected - 1:+.1%})\n"
        f"reading    {len(checkpoints)} times, in processes of their own\n"
    )


def _warm(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The checkpoint after a fifth of the way."""
    return checkpoints[len(checkpoints) // 5]


def _tiles(sealed: int) -> int:
    """How many tiles rows end up in, of 65,536, 4,096 and 256 rows."""
    return sealed // 65_536 + sealed % 65_536 // 4_096 + sealed % 4_096 // 256


def _tell(checkpoint: Checkpoint) -> None:
    sys.stdout.write(json.dumps(asdict(checkpoint)) + "\n")
    sys.stdout.flush()


def _resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context, steps: Annotated[int, typer.Option(help="Steps to train.", min=1000)] = 1_000_000
) -> None:
    """Train very many cheap steps and see that nothing grows that must not."""
    if context.invoked_subcommand is not None:
        return
    broken: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "soak"
        checkpoints, files = watch(path, steps, broken)
        size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
        expected = expected_size(path)
        print(summary(path, checkpoints, files, size, expected), end="")
    broken += verdict(checkpoints, files, size, expected)
    for sentence in broken:
        print(f"BROKEN     {sentence}")
    raise typer.Exit(1 if broken else 0)


app.command(hidden=True)(train)
app.command(hidden=True)(read)


if __name__ == "__main__":
    app()
