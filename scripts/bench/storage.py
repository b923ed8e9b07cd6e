"""Storage: what a row costs to write, and what a long run costs to read back."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scripts.bench.deep import write_deep_run
from scripts.bench.reading import REPORT, TASKS

from auscult.core.digest import BLOCK_STEPS, Block, digest_rows
from auscult.core.metric import Stream
from auscult.core.run import Parameter, Segment
from auscult.core.sink import Channel, Record, Values, row_dtype
from auscult.metrics.environment import run_info, versions
from auscult.rules.live import LiveDiagnosis
from auscult.store.writer import StoreWriter

STREAMS: dict[Stream, tuple[Channel, ...]] = {
    "steps": tuple(Channel(name, "") for name in ("lr", "step_time", "overhead_time")),
    "norms": tuple(
        Channel(metric, f"layers.{number // 2}.{('weight', 'bias')[number % 2]}")
        for metric in ("grad_norm", "param_norm", "update_norm")
        for number in range(332)
    ),
    "user": (Channel("loss", ""),),
}
"""1,000 channels."""


@dataclass(frozen=True, slots=True)
class Writing:
    """CPU seconds of all threads per step of 1,000 numbers.

    Attributes:
        store: auscult's store.
        rules: auscult's live rules, which also make the digests.
        tensorboard: TensorBoard, `add_scalar` number by number; None where it is not installed.
    """

    store: float
    rules: float
    tensorboard: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one task took, in a process of its own.

    Attributes:
        task: In words.
        seconds: Wall-clock time, imports left out.
        processor: CPU seconds, likewise.
        memory: Largest resident memory of the process in MB, Python and NumPy included; None where it cannot be seen.
    """

    task: str
    seconds: float
    processor: float
    memory: float | None


def write_rows(directory: Path, steps: int) -> Writing:
    """Write the same healthy numbers to both stores; the rules judge them once more by themselves."""
    directory.mkdir()
    segment = _segment()
    writer = StoreWriter.create(directory / "rows", run_info("rows", None))
    writer.begin_segment(segment)
    records = list(_records(0, steps))

    def store() -> None:
        for record in records:
            writer.write(record)
        writer.close()

    def rules() -> None:
        live = LiveDiagnosis((segment,))
        for step in range(steps):
            live.add(step, records[len(STREAMS) * step : len(STREAMS) * (step + 1)])

    few = min(steps, 32)
    return Writing(
        store=_cpu_seconds(store) / steps,
        rules=_cpu_seconds(rules) / steps,
        tensorboard=_tensorboard(directory / "events", records[: len(STREAMS) * few]) / few
        if find_spec("tensorboard")
        else None,
    )


def read_long_run(directory: Path, steps: int, done: Callable[[int], object]) -> list[Reading]:
    """Write a run of 1,000 channels and see what it takes to read.

    Args:
        directory: Where it goes; about 5 KB a step.
        steps: Its length, a multiple of 64.
        done: Called with the number of steps written since the last call.
    """
    writer = StoreWriter.create(directory, run_info("long", None))
    writer.begin_segment(_segment())
    for start in range(0, steps, BLOCK_STEPS):
        records = list(_records(start, BLOCK_STEPS))
        for record in records:
            writer.write(record)
        for stream in STREAMS:
            writer.write_block(_block(stream, [record for record in records if record.stream == stream]))
        done(BLOCK_STEPS)
    writer.write_event("end", steps - 1, reason="closed")
    writer.close()
    return [_read(task, directory) for task in TASKS]


def read_deep_run(directory: Path, steps: int, done: Callable[[int], object]) -> Reading:
    """Write a run of 200 modules and see what its report takes; arguments as for `read_long_run`."""
    write_deep_run(directory, steps, done)
    return replace(_read(REPORT, directory), task="report of 200 modules, 4,800 channels")


def _read(task: str, directory: Path) -> Reading:
    command = [sys.executable, "-m", "scripts.bench.reading", task, str(directory)]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return Reading(task, answer["seconds"], answer["processor"], answer["memory"])


def _records(start: int, steps: int) -> list[Record]:
    """Rows of a healthy run: every channel varies by 10 % about a level of its own."""
    dice = np.random.default_rng(start)
    levels = {"grad_norm": 0.1, "param_norm": 10.0, "update_norm": 0.01, "lr": 1e-3, "step_time": 0.1}
    rows: dict[Stream, Values] = {}
    for stream, channels in STREAMS.items():
        level = np.array([levels.get(channel.metric, 0.001) for channel in channels])
        noise = np.exp(0.1 * dice.standard_normal((steps, len(channels)), np.float32))
        rows[stream] = (level * noise).astype(row_dtype(stream))
    return [
        Record(stream, start + step, channels, rows[stream][step])
        for step in range(steps)
        for stream, channels in STREAMS.items()
    ]


def _block(stream: Stream, records: list[Record]) -> Block:
    steps = np.array([record.step for record in records])
    values = np.stack([record.values for record in records])
    return digest_rows(stream, STREAMS[stream], steps, values, int(steps[-1]) + 1)


def _segment() -> Segment:
    paths = [channel.path for channel in STREAMS["norms"] if channel.metric == "grad_norm"]
    parameters = tuple(Parameter(path, (64, 64), "float32", trainable=True, group="") for path in paths)
    return Segment(0, time.time(), parameters, (), versions())


def _tensorboard(directory: Path, records: list[Record]) -> float:
    writer = import_module("torch.utils.tensorboard").SummaryWriter(directory)

    def write() -> None:
        for record in records:
            for channel, value in record.items():
                writer.add_scalar(f"{channel.metric}/{channel.path}", value, record.step)
        writer.close()

    return _cpu_seconds(write)


def _cpu_seconds(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin
