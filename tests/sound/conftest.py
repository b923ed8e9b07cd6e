"""Runs without a store: rows in memory."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
from tests.sound.alarm import RATE, matched

from auscult.core.metric import Stream
from auscult.core.run import Parameter, Run, RunInfo, Segment
from auscult.core.score import Score
from auscult.core.sink import NOT_OBSERVED_32, Channel
from auscult.sound.earcons import EARCONS, earcon_voice
from auscult.sound.synth import render


class MemorySource:
    """Rows of float32 per stream; hands columns out in pieces of 64 rows, as a store would."""

    def __init__(self, tables: Mapping[Stream, tuple[tuple[Channel, ...], np.ndarray, np.ndarray]]) -> None:
        self.tables = tables

    def streams(self) -> tuple[Stream, ...]:
        return tuple(self.tables)

    def channels(self, stream: Stream) -> tuple[Channel, ...]:
        return self.tables[stream][0]

    def rows(self, stream: Stream, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        _, steps, values = self.tables[stream]
        inside = (steps >= start) & (steps < stop)
        return steps[inside], values[inside]

    def columns(self, stream: Stream, positions: list[int], stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        _, steps, values = self.tables[stream]
        for first in range(0, len(steps), 64):
            inside = np.flatnonzero(steps[first : first + 64] < stop) + first
            yield steps[inside], values[np.ix_(inside, np.array(positions, int))].T

    def blocks(self, stream: Stream) -> list:
        return []

    def details(self) -> tuple[int, ...]:
        return ()


def unobserved(shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, NOT_OBSERVED_32).view(np.float32)


def make_run(
    series: Mapping[str, np.ndarray] | np.ndarray,
    *,
    metric: str = "grad_norm",
    every: int = 1,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Run:
    """A run whose parameters have these values.

    Args:
        series: Path to values `(N,)`; or an array `(N, P)` whose columns become layer0.weight, layer1.weight, ...
        metric: A recorded metric, or `update_to_data` / `update_ratio`, recorded as a numerator over 1.
        every: Cadence of the values in steps.
        shapes: Shape of a path, where it is not (4, 4).
    """
    if isinstance(series, np.ndarray):
        series = {f"layer{index}.weight": series[:, index] for index in range(series.shape[1])}
    count = len(next(iter(series.values()))) if series else 0
    values = np.array(list(series.values()), np.float32).reshape(len(series), count).T
    stream = "sampled" if metric == "update_to_data" else "norms"
    inputs = {"update_to_data": ("update_std", "param_std"), "update_ratio": ("update_norm", "param_norm")}.get(metric)
    channels = tuple(Channel(metric if inputs is None else inputs[0], path) for path in series)
    if inputs is not None:
        channels += tuple(Channel(inputs[1], path) for path in series)
        values = np.concatenate([values, np.ones_like(values)], axis=1)
    steps = np.arange(count) * every
    total = np.arange(count * every)
    tables = {
        "steps": ((Channel("finite", ""),), total, np.ones((len(total), 1), np.float32)),
        stream: (channels, steps, np.ascontiguousarray(values)),
    }
    parameters = tuple(
        Parameter(path, (shapes or {}).get(path, (4, 4)), "float32", trainable=True, group="0") for path in series
    )
    info = RunInfo("id", "test", 0.0, 1, {}, (), 0, None, {}, "host", ("cpu",))
    return Run(info, (Segment(0, 0.0, parameters),), MemorySource(tables))


def heard(name: str, sample_rate: int) -> np.ndarray:
    """Samples `(frames,)` of one earcon."""
    score = Score("t", "test", EARCONS[name].duration, (earcon_voice(name, [0.0]),), channels=1)
    return render(score, sample_rate).samples[:, 0].astype(np.float64)


def located(samples: np.ndarray) -> tuple[float | None, float]:
    """Seconds at which the alarm begins in sound `(frames, channels)`, or None, and the best score, 0 to 1.

    A matched filter on the mono sum; an alarm scores 0.3 or more.
    """
    place, score = matched(samples, heard("nan", RATE // 2))
    return (place if score >= 0.3 else None), score


def calm(steps: int = 200, layers: int = 6, seed: int = 0) -> np.ndarray:
    """Norms `(steps, layers)` of a healthy run: log-normal noise of a tenth of a decade, layers at different scales."""
    generator = np.random.default_rng(seed)
    return 10 ** (generator.normal(0, 0.1, (steps, layers)) + np.linspace(-2, 1, layers))


@pytest.fixture(name="make_run")
def _make_run() -> Callable[..., Run]:
    return make_run


@pytest.fixture(name="calm")
def _calm() -> Callable[..., np.ndarray]:
    return calm


@pytest.fixture(name="unobserved")
def _unobserved() -> Callable[..., np.ndarray]:
    return unobserved


@pytest.fixture(name="heard")
def _heard() -> Callable[..., np.ndarray]:
    return heard


@pytest.fixture(name="located")
def _located() -> Callable[..., tuple[float | None, float]]:
    return located
