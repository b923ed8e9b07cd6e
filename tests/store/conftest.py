"""Small runs whose every bit is known from plain NumPy arrays."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from auscult.core.digest import BLOCK_STEPS, digest_rows
from auscult.core.run import Module, Parameter, Run, RunInfo, Segment
from auscult.core.sink import Channel, Record, empty_row, row_dtype
from auscult.store.writer import StoreWriter

METRICS = {"steps": "loss", "norms": "grad_norm", "user": "noise"}


@dataclass
class Truth:
    """Rows as they must be read back: by stream, then by step, the bits of every value."""

    channels: dict = field(default_factory=dict)
    rows: dict = field(default_factory=dict)

    def forget(self, step):
        for stream in self.rows:
            self.rows[stream] = {at: row for at, row in self.rows[stream].items() if at < step}

    def table(self, stream):
        """Steps `(R,)` and values `(R, C)`."""
        width = len(self.channels[stream])
        values = np.tile(empty_row(stream, width), (len(self.rows[stream]), 1))
        for into, row in zip(values, self.rows[stream].values()):
            into[: len(row)] = row
        return np.array(list(self.rows[stream]), np.int64), values

    def blocks(self, stream):
        steps, values = self.table(stream)
        for start in np.unique(steps // BLOCK_STEPS * BLOCK_STEPS).tolist():
            inside = (steps >= start) & (steps < start + BLOCK_STEPS)
            channels = tuple(self.channels[stream])
            yield digest_rows(stream, channels, steps[inside], values[inside].copy(), start + BLOCK_STEPS)


class Recorder:
    """Writes rows of random numbers and remembers them."""

    def __init__(self, writer, truth=None, seed=0):
        self.writer = writer
        self.truth = truth or Truth()
        self.random = np.random.default_rng(seed)

    def row(self, stream, step, width):
        """One row; among its values are NaN, infinities, zeros and values that were not observed."""
        channels = self.truth.channels.setdefault(stream, [])
        channels += [Channel(METRICS[stream], f"p{n}") for n in range(len(channels), width)]
        values = self.random.standard_normal(width).astype(row_dtype(stream))
        kinds = self.random.integers(0, 12, width)
        for kind, special in enumerate((np.nan, np.inf, -np.inf, 0.0)):
            values[kinds == kind] = special
        values[kinds == 4] = empty_row(stream, 1)[0]
        self.writer.write(Record(stream, step, tuple(channels[:width]), values))
        self.truth.rows.setdefault(stream, {})[step] = values

    def block(self, stream, start, channels=None):
        """The block of 64 steps that begins at a step, as a monitor would make it."""
        steps, values = self.truth.table(stream)
        inside = (steps >= start) & (steps < start + BLOCK_STEPS)
        if inside.any():
            names = tuple(self.truth.channels[stream])
            self.writer.write_block(
                digest_rows(stream, names, steps[inside], values[inside].copy(), start + BLOCK_STEPS)
            )


@pytest.fixture
def info() -> Callable[..., RunInfo]:
    def build(name="run", **changes):
        info = RunInfo(
            f"id-{name}",
            name,
            1.5,
            1,
            {"lr": 0.1},
            ("train.py", "--x"),
            3,
            None,
            {"auscult": "0.1.0"},
            "here",
            ("cpu",),
        )
        return replace(info, **changes)

    return build


@pytest.fixture
def segment() -> Callable[..., Segment]:
    def build(step=0):
        parameters = (Parameter("a.weight", (2, 3), "float32", True, "0", ("b.weight",)),)
        return Segment(step, 2.5, parameters, (Module("a", "Linear", True),), {"torch": "2.13"})

    return build


@pytest.fixture
def record(tmp_path, info, segment) -> Callable[..., tuple[Path, Truth]]:
    """Write a run with two streams, channels added midway, sealed tiles, a tail, blocks, and a resume."""

    def build(name="run", steps=700, resume_at=None, again=200):
        path = tmp_path / name
        writer = StoreWriter.create(path, info(name))
        writer.begin_segment(segment())
        recorder = Recorder(writer)
        train(recorder, 0, steps)
        writer.write_event("end", steps - 1)
        writer.close()
        if resume_at is not None:
            writer = StoreWriter.create(path, info("other"), "resume")
            writer.begin_segment(segment(resume_at))
            recorder = Recorder(writer, recorder.truth, seed=1)
            recorder.truth.forget(resume_at)
            train(recorder, resume_at, resume_at + again)
            writer.close()
        return path, recorder.truth

    return build


def train(recorder, start, stop):
    for step in range(start, stop):
        recorder.row("steps", step, 1)
        recorder.row("norms", step, 3 if step < 300 else 5)
        if step % 4 == 0:
            recorder.row("user", step, 2)
        if (step + 1) % BLOCK_STEPS == 0:
            for stream in ("steps", "norms", "user"):
                recorder.block(stream, step + 1 - BLOCK_STEPS)


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture
def check() -> Callable[[Run, Truth], None]:
    """Every row of the truth and no other, bit for bit."""

    def check(run, truth):
        for stream in truth.rows:
            steps, values = truth.table(stream)
            assert run.source.channels(stream) == tuple(truth.channels[stream])
            read_steps, read = run.source.rows(stream, 0, 1 << 60)
            np.testing.assert_array_equal(read_steps, steps)
            np.testing.assert_array_equal(bits(read), bits(values))
            for position in range(values.shape[1]):
                parts = list(run.source.columns(stream, [position], 1 << 60))
                np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), steps)
                column = np.concatenate([part[0] for _, part in parts])
                np.testing.assert_array_equal(bits(column), bits(values[:, position]))

    return check


def bits(values):
    values = np.ascontiguousarray(values)
    return values.view(np.uint64 if values.dtype == np.float64 else np.uint32)
