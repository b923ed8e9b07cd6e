"""Reading: one task on a stored run, timed in a process of its own that never imports torch.

python -m scripts.bench.reading TASK RUN    prints {"seconds": ..., "processor": ..., "memory": ...}
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import auscult
import auscult.reading as _reading  # so that its import is not timed
from auscult.pages.sweep import MAX_COLUMNS, sweep
from auscult.store.blocks import COARSE_STEPS
from auscult.store.reader import StoreSource


def _series(path: Path) -> None:
    run = auscult.load(path)
    assert len(run.series("grad_norm", run.paths("grad_norm")[-1]).steps) == len(run.steps)


def _heatmap(path: Path) -> None:
    run = auscult.load(path)
    assert sweep(run, "update_norm", run.paths("update_norm"), MAX_COLUMNS) is not None


def _overview(path: Path) -> None:
    run = auscult.load(path)
    assert isinstance(run.source, StoreSource)
    for stream in run.streams:
        assert list(run.source.blocks(stream, COARSE_STEPS))


def _diagnose(path: Path) -> None:
    auscult.diagnose(auscult.load(path))


def _report(path: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        auscult.report(auscult.load(path), Path(directory) / "report.html")


DEEP_STEPS = 100_032  # whole blocks

TASKS: dict[str, Callable[[Path], None]] = {
    "one series": _series,
    "blocks of 1,024 steps, all channels": _overview,
    "heat map of one metric, 332 parameters": _heatmap,
    "diagnose": _diagnose,
    "report, sound included": _report,
}


def peak_memory() -> float | None:
    """Largest resident memory of this process in MB; None on systems without /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def main(task: str, path: str) -> None:
    """Run one task."""
    wall, processor = time.perf_counter(), time.process_time()
    TASKS[task](Path(path))
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    json.dump({"seconds": wall, "processor": processor, "memory": peak_memory()}, sys.stdout)


if __name__ == "__main__":
    assert "torch" not in sys.modules and _reading is not None
    main(*sys.argv[1:])
