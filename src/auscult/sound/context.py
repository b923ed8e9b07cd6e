"""Context: loss, learning rate, clipping and epochs as soft sounds behind the layers. Each is heard where asked for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from auscult.core.run import Run
from auscult.core.score import Voice
from auscult.core.sink import Channel
from auscult.sound.frames import REFERENCE_VALUES
from auscult.sound.losses import find_losses
from auscult.sound.request import Context

PAD = (261.63, 0.07)  # Hz, amplitude of the loss
PAD_FRAMES = 10  # a second
LR_TICK = (1046.5, 0.025, 0.04)  # Hz, seconds, amplitude
LR_RATE = 2.0  # ticks a second at the first learning rate
CLICK = (2637.02, 0.015, 0.05)
CLICKS = 10.0  # a second at most
STROKE = (783.99, 0.12, 0.12)
STROKES_APART = 0.5  # seconds

Steps = NDArray[np.int64]
Times = NDArray[np.float64]


def context_voices(run: Run, wanted: Sequence[Context], steps: Steps, times: Times, length: float) -> tuple[Voice, ...]:
    """The voices of what is wanted and was recorded.

    Args:
        run: The run.
        wanted: Some of `loss`, `lr`, `clipping`, `epochs`.
        steps: The steps that are heard, int64 `(N,)`.
        times: Seconds at which each begins, float64 `(N,)`.
        length: Seconds at which the last one ends.
    """
    makers = {"loss": _loss, "lr": _lr, "clipping": _clipping, "epochs": _epochs}
    return tuple(voice for name in wanted if len(steps) for voice in makers[name](run, steps, times, length))


def unrecorded(run: Run, wanted: Sequence[Context]) -> list[str]:
    """Those of what is wanted that the run has nothing of."""
    there = {
        "loss": bool(find_losses(run)[1]),
        "lr": bool(run.paths("lr")),
        "clipping": "clip_ratio" in run.metrics,
        "epochs": "epoch" in run.metrics or "evaluation" in run.streams,
    }
    return [each for each in wanted if not there[each]]


def _loss(run: Run, steps: Steps, times: Times, length: float) -> tuple[Voice, ...]:
    """A soft C4 whose partials 3, 5 and 7 are the stronger the higher the loss is against the run's beginning."""
    parts = [_above_first(run, channel, steps, times) for channel, _ in find_losses(run)[1].values()]
    at, distance = (np.concatenate([np.empty(0), *each]) for each in (zip(*parts) if parts else ((), ())))
    if not len(at):
        return ()
    moments, where = np.unique(at, return_inverse=True)
    mean = np.bincount(where, weights=distance) / np.bincount(where)
    grid = np.linspace(0.0, length, max(2, round(length * PAD_FRAMES) + 1))
    return pad(grid, 0.5 + 0.5 * np.tanh(np.interp(grid, moments, mean)), length)


def _above_first(run: Run, channel: Channel, steps: Steps, times: Times) -> tuple[Times, Times]:
    """Seconds at which a loss is finite and positive, and how many powers of ten above its first values it is then."""
    at, values = _values(run, channel.metric, channel.path, steps, times)
    usable = np.isfinite(values) & (values > 0)
    everything = run.series(channel.metric, channel.path).values
    first = everything[np.isfinite(everything) & (everything > 0)][:REFERENCE_VALUES]
    if not usable.any():
        return np.empty(0), np.empty(0)
    return at[usable], np.log10(values[usable]) - np.log10(np.median(first))


def _lr(run: Run, steps: Steps, times: Times, length: float) -> tuple[Voice, ...]:
    """Ticks, two a second at the first learning rate, at most 8 and at least 0.5; none while it is 0."""
    paths = run.paths("lr")
    if not paths:
        return ()
    at, values = _values(run, "lr", paths[0], steps, times)
    everything = run.series("lr", paths[0]).values
    positive = everything[np.isfinite(everything) & (everything > 0)]
    usable = np.isfinite(values) & (values >= 0)
    if not len(positive) or not usable.any():
        return ()
    grid = np.linspace(0.0, length, max(2, round(length * 100) + 1))
    lr = np.interp(grid, at[usable], values[usable])
    with np.errstate(divide="ignore"):
        rate = np.where(lr > 0, LR_RATE * 2.0 ** (2 * np.tanh(np.log10(lr / positive[0]))), 0.0)
    beats = np.concatenate([[0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(grid))])
    ticks = np.interp(np.arange(1, int(beats[-1]) + 1), beats, grid)
    return clicks("learning rate", ticks, np.ones(len(ticks)), LR_TICK)


def _clipping(run: Run, steps: Steps, times: Times, length: float) -> tuple[Voice, ...]:
    """A click for a clipped step, at most ten a second; where more are clipped, the louder the larger their share."""
    at, values = _values(run, "clip_ratio", "", steps, times)
    if not len(at):
        return ()
    cells = np.minimum((at * CLICKS).astype(np.int64), int(np.ceil(length * CLICKS)) - 1)
    count = np.bincount(cells)
    share = np.bincount(cells, weights=values > 1.0) / np.maximum(count, 1)
    clipped = np.flatnonzero(share > 0)
    return clicks("clipping", clipped / CLICKS, 0.5 + 0.5 * share[clipped], CLICK)


def _epochs(run: Run, steps: Steps, times: Times, length: float) -> tuple[Voice, ...]:
    """A stroke where the logged `epoch` changes, or where there is none, at each evaluation; half a second apart."""
    if "epoch" in run.metrics:
        series = run.series("epoch")
        turns = series.steps[1:][np.diff(series.values) != 0]
    elif "evaluation" in run.streams:
        pieces = [piece for piece, _ in run.source.columns("evaluation", [], run.stop)]
        turns = np.unique(np.concatenate([steps[:0], *pieces]))
    else:
        return ()
    at = _times_of(turns[(turns >= steps[0]) & (turns <= steps[-1])], steps, times)
    kept: list[float] = []
    for time in at.tolist():
        if not kept or time - kept[-1] >= STROKES_APART:
            kept.append(time)
    return clicks("epochs", np.array(kept), np.ones(len(kept)), STROKE)


def clicks(name: str, at: Times, strength: Times, click: tuple[float, float, float]) -> tuple[Voice, ...]:
    """Short soft tones at some times, `click` being Hz, seconds and amplitude; nothing without any."""
    if not len(at):
        return ()
    frequency, seconds, amplitude = click
    return (
        Voice(
            name=name,
            times=at,
            frequencies=np.full(len(at), frequency),
            amplitudes=amplitude * strength,
            durations=np.full(len(at), seconds),
            timbre="sine",
            part="context",
        ),
    )


def pad(grid: Times, share: Times, length: float) -> tuple[Voice, ...]:
    """A steady C4 whose power goes to its upper partials by a share, 0 to 1, at each time."""
    edge = np.minimum(1.0, np.minimum(grid, length - grid) / 0.5)
    pitch = np.full(len(grid), PAD[0])
    return (
        Voice("loss", grid, pitch, PAD[1] * edge * np.sqrt(1 - share), timbre="dull", part="context"),
        Voice("loss, high", grid, pitch, PAD[1] * edge * np.sqrt(share), timbre="brilliant", part="context"),
    )


def _values(run: Run, metric: str, path: str, steps: Steps, times: Times) -> tuple[Times, Times]:
    """Seconds and values of a series within the steps that are heard; nothing where it was not recorded."""
    if metric not in run.metrics:
        return np.empty(0), np.empty(0)
    series = run.series(metric, path)
    inside = (series.steps >= steps[0]) & (series.steps <= steps[-1])
    return _times_of(series.steps[inside], steps, times), series.values[inside]


def _times_of(which: Steps, steps: Steps, times: Times) -> Times:
    return times[np.minimum(np.searchsorted(steps, which), len(steps) - 1)] if len(which) else np.empty(0)
