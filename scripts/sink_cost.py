"""What a sink costs on the training thread, per step: the table of docs/integrations/README.md.

python -m scripts.sink_cost [STEPS]    needs the dependency group `integrations`; nothing leaves the machine

The direct time is the training thread's own CPU time in the sink's calls for the rows of a step: mean and
99th percentile over the steps after a warm-up. The rows are those of a run with so many channels. Between steps the
thread sleeps, so that the tracker does its work beside it and caches are as cold as after a training step. The last
line is a tracker whose first call does not return.
"""

import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(WANDB_SILENT="true", TRACKIO_DIR=tempfile.mkdtemp(), COMET_LOGGING_CONSOLE="critical")

from auscult.core.sink import Channel, Record
from auscult.integrations.selection import Selection
from auscult.integrations.tracker import Tracker
from auscult.metrics.environment import run_info
from auscult.store.writer import StoreWriter

WARM_UP = 20
STEP_SECONDS = 0.003
"""A step of the smallest trainings that anybody tracks."""


def rows_of(channels: int) -> Callable[[int], list[Record]]:
    """The rows of a step of a run with about so many channels: three norms of every parameter."""
    parameters = max(1, (channels - 6) // 3)
    norms = tuple(
        Channel(metric, f"layer{each}.weight")
        for metric in ("grad_norm", "param_norm", "update_norm")
        for each in range(parameters)
    )
    steps = tuple(Channel(name, "") for name in ("finite", "step_time", "overhead_time", "clip_coefficient"))
    steps = (*steps, Channel("lr", "0"))
    values = np.random.default_rng(0).random(len(norms)).astype(np.float32)

    def rows(step: int) -> list[Record]:
        return [
            Record("steps", step, steps, np.full(len(steps), 0.5, np.float32)),
            Record("norms", step, norms, values),
            Record("user", step, (Channel("loss", ""),), np.array([1.0 / (step + 1)])),
        ]

    return rows


def measure(sink: Any, channels: int, steps: int, folder: Path) -> tuple[float, float]:
    """Microseconds a step inside the sink's calls on this thread: the mean and the 99th percentile."""
    writer = StoreWriter.create(folder / "run", run_info("run", None), "new")
    writer.close()
    sink.begin(writer.path, 0)
    rows = rows_of(channels)
    spent = np.empty(steps)
    for step in range(steps):
        some = rows(step)
        begin = time.thread_time()
        for record in some:
            sink.write(record)
        spent[step] = time.thread_time() - begin
        time.sleep(STEP_SECONDS)
    trouble = sink.trouble()
    sink.close()
    if trouble is not None and not isinstance(sink, Blocking):
        raise trouble
    return 1e6 * float(spent[WARM_UP:].mean()), 1e6 * float(np.quantile(spent[WARM_UP:], 0.99))


class Blocking(Tracker):
    """A tracker whose first call does not return while the training goes on."""

    title, package = "blocked", "json"
    released = Event()

    def _open(self, *_: object) -> None:
        self.released.wait(30)

    _send = _send_histograms = _send_finding = _send_files = _finish = _open


def sinks(folder: Path) -> dict[str, Callable[[Selection], Any]]:
    """By name, what makes the sink into a folder."""
    from auscult.integrations.comet import CometSink
    from auscult.integrations.mlflow import MlflowSink
    from auscult.integrations.tensorboard import TensorBoardSink
    from auscult.integrations.trackio import TrackioSink
    from auscult.integrations.wandb import WandbSink

    more: dict[str, Any] = {"files": False, "seconds": 300.0}
    return {
        "TensorBoard": lambda chosen: TensorBoardSink(None, chosen, **more),
        "W&B, offline": lambda chosen: WandbSink(chosen, mode="offline", project="cost", dir=str(folder), **more),
        "MLflow, SQLite": lambda chosen: MlflowSink("cost", f"sqlite:///{folder}/mlflow.db", chosen, **more),
        "Trackio": lambda chosen: TrackioSink("cost", chosen, **more),
        "Comet, offline": lambda chosen: CometSink(chosen, online=False, offline_directory=folder, **more),
        "one that blocks": lambda chosen: Blocking(chosen, files=False, seconds=0.0),
    }


def main(steps: int) -> None:
    """Measure and print the table."""
    logging.disable(logging.ERROR)
    usual, everything = Selection(), Selection(every=1, paths_every=1, include=("*",), limit=10_000)
    print(f"{date.today()}, {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| | 10 channels, usual | 5,000 channels, usual | 10 channels, all | 5,000 channels, all |")
    print("|---|---|---|---|---|")
    for name in sinks(Path()):
        cells: list[str] = []
        for selection in (usual, everything):
            for channels in (10, 5_000):
                with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                    sink = sinks(Path(folder))[name](selection)
                    few = steps if selection is usual or channels == 10 else steps // 3
                    mean, high = measure(sink, channels, few, Path(folder))
                cells.append(f"{mean:.1f} ({high:.0f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    Blocking.released.set()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 600)
