"""Deep: a stored run of 200 modules, as long as a night's training, to be put on a page.

python -m scripts.bench.deep RUN [STEPS]    writes it; 100,032 steps by default
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scripts.bench.reading import DEEP_STEPS

from auscult.core.digest import BLOCK_STEPS, digest_rows
from auscult.core.metric import Stream
from auscult.core.run import Module, Parameter, Segment
from auscult.core.sink import Channel, Rows, row_dtype
from auscult.metrics.environment import run_info, versions
from auscult.store.writer import StoreWriter

MODULES = tuple(f"blocks.{number // 8}.layers.{number % 8}" for number in range(200))
PARAMETERS = tuple(f"{path}.{name}" for path in MODULES for name in ("weight", "bias"))
SAMPLED_EVERY = 32
LEVELS = {"grad_norm": 0.1, "param_norm": 10.0, "update_norm": 0.01, "lr": 1e-3, "step_time": 0.1, "memory": 8e9,
          "saturated_fraction": 0.02, "dead_fraction": 0.01, "loss": 0.7, "epoch": 1.0}  # fmt: skip

CHANNELS: dict[Stream, tuple[Channel, ...]] = {
    "steps": tuple(Channel(name, "") for name in ("lr", "step_time", "overhead_time", "throughput", "clip_ratio")),
    "norms": tuple(Channel(name, path) for name in ("grad_norm", "param_norm", "update_norm") for path in PARAMETERS),
    "sampled": (
        *(Channel(f"{of}_{name}", path) for of in ("grad", "param", "update") for name in ("mean", "std")
          for path in PARAMETERS),
        *(Channel(name, path) for name in ("activation_mean", "activation_std", "activation_grad_mean",
          "activation_grad_std", "saturated_fraction", "dead_fraction") for path in MODULES),
        Channel("memory", ""),
    ),
    "user": (Channel("loss", ""), Channel("epoch", ""), *(Channel("category_loss", f"class {i}") for i in range(10))),
    "evaluation": (Channel("val/loss", ""), Channel("val/accuracy", "")),
}  # fmt: skip
EVERY: dict[Stream, int] = {"steps": 1, "norms": 1, "sampled": SAMPLED_EVERY, "user": 1, "evaluation": 1024}


def write_deep_run(directory: Path, steps: int, done: Callable[[int], object]) -> None:
    """Write a healthy run of 200 modules with everything that is recorded of them.

    Args:
        directory: Where it goes; about 5 KB a step.
        steps: Its length, a multiple of 64.
        done: Called with the number of steps written since the last call.
    """
    writer = StoreWriter.create(directory, run_info("deep", {"lr": 1e-3, "layers": len(MODULES)}))
    writer.begin_segment(_segment())
    for start in range(0, steps, BLOCK_STEPS):
        for stream, channels in CHANNELS.items():
            at = np.arange(start, start + BLOCK_STEPS)
            at = at[at % EVERY[stream] == 0]
            if len(at):
                values = _values(stream, at)
                writer.write_rows(Rows(stream, at, channels, values))
                writer.write_block(digest_rows(stream, channels, at, values, start + BLOCK_STEPS))
        done(BLOCK_STEPS)
    writer.write_event("end", steps - 1, reason="closed")
    writer.close()


def _values(stream: Stream, steps: np.ndarray) -> np.ndarray:
    """Every channel varies by 10 % about a level of its own."""
    channels = CHANNELS[stream]
    dice = np.random.default_rng([int(steps[0]), len(channels)])
    level = np.array([LEVELS.get(each.metric, 0.001 if each.metric.endswith("mean") else 0.01) for each in channels])
    values = level * np.exp(0.1 * dice.standard_normal((len(steps), len(channels)), np.float32))
    for column, channel in enumerate(channels):
        if channel.metric == "epoch":
            values[:, column] = steps / 5000
    return values.astype(row_dtype(stream))


def _segment() -> Segment:
    shapes = {"weight": (64, 64), "bias": (64,)}
    parameters = tuple(
        Parameter(path, shapes[path.rpartition(".")[2]], "float32", trainable=True, group="") for path in PARAMETERS
    )
    modules = (Module("", "Net", leaf=False), *(Module(path, "Linear", leaf=True) for path in MODULES))
    return Segment(0, time.time(), parameters, modules, versions())


if __name__ == "__main__":
    write_deep_run(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else DEEP_STEPS, lambda _: None)
