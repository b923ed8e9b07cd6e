"""Perone: the mapping of "Listening to the neural network gradient norms during training" (2019), sample for sample.

One tone of 10 ms per layer and step, 200 + 100 * norm Hz, then 20 ms of silence. Knows no loudness and no earcons:
what it adds to the original is a bound at half the sample rate and words for what is not a number.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import SetupError
from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.core.score import Score, SoundEvent, Voice
from auscult.sound.events import alarms, notices
from auscult.sound.frames import Table, follow, open_table, weights
from auscult.sound.request import Request
from auscult.sound.scales import linear_frequency

SAMPLE_RATE = 44_100
TONE_FRAMES = 441  # 10 ms
REST_FRAMES = 882  # 20 ms
AMPLITUDE = 0.1
LONGEST = 600.0  # seconds, unless asked for more


def tones(run: Run, findings: Sequence[Finding], request: Request) -> Score:
    """One tone per layer and step.

    Args:
        run: The run; its parameters with two or more dimensions are the layers.
        findings: Kept as text only.
        request: `seconds` says how long at most, by leaving out steps at the end; None is all of a run of up to ten
            minutes. Nothing else may be asked for.

    Raises:
        SetupError: if another metric or anything else is asked for.
    """
    if request.metric not in (None, "grad_norm"):
        raise SetupError(
            f"Expected `metric` to be grad_norm for the mapping perone2019, but got {request.metric!r}. "
            'Other metrics are heard with mapping="vitals".'
        )
    if replace(request, metric=None, seconds=None) != Request():
        raise SetupError(
            "Expected nothing but `seconds` to be asked of the mapping perone2019, which is the original as it was. "
            'Everything else is heard with mapping="vitals".'
        )
    table = open_table(run, "grad_norm")
    paths = weights(table)
    steps, norms = _norms(table, paths)
    step_frames = len(paths) * TONE_FRAMES + REST_FRAMES
    kept = _fitting(len(steps), step_frames / SAMPLE_RATE, request.seconds)
    steps, norms = steps[:kept], norms[:kept]
    begins = np.arange(kept) * step_frames
    starts = begins[:, None] + np.arange(len(paths)) * TONE_FRAMES
    playable = np.isfinite(norms)
    voice = Voice(
        name="layers",
        times=starts.ravel() / SAMPLE_RATE,
        frequencies=_bounded(linear_frequency(np.where(playable, np.abs(norms), 0.0))).ravel(),
        amplitudes=np.where(playable, AMPLITUDE, 0.0).ravel(),
        durations=np.full(norms.size, TONE_FRAMES / SAMPLE_RATE),
        ramp=0.0,
    )
    return Score(
        title=run.info.name,
        mapping="perone2019",
        duration=kept * step_frames / SAMPLE_RATE,
        voices=(voice,),
        events=_events(table, paths, steps, begins / SAMPLE_RATE, findings),
        step_times=begins / SAMPLE_RATE,
        steps=steps,
        channels=1,
    )


def _norms(table: Table, paths: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps at which any layer was observed `(S,)`, and its norms `(S, L)`; NaN also where not observed."""
    if not paths:
        return np.empty(0, np.int64), np.empty((0, 0))
    values, seen = table.read(paths)
    kept = seen.any(0)
    return table.steps[table.rows[kept]], np.where(seen, values, np.nan).T[kept]


def _fitting(steps: int, step_seconds: float, seconds: float | None) -> int:
    """How many steps are heard."""
    fitting = int((LONGEST if seconds is None else seconds) / step_seconds + 1e-9)
    if seconds is None and fitting < steps:
        warnings.warn(
            f"perone2019 lasts {steps * step_seconds:.0f} s for {steps} steps; only the first {fitting} are heard. "
            "Ask for more with `seconds=`, or hear the whole run with mapping='vitals'.",
            stacklevel=4,
        )
    return min(steps, fitting)


def _bounded(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frequencies below half the sample rate as they are, others just below it."""
    half = SAMPLE_RATE / 2
    beyond = frequencies >= half
    if beyond.any():
        warnings.warn(
            f"{beyond.sum()} of {beyond.size} tones of perone2019 would be too high for 44,100 Hz (the highest at "
            f"{frequencies.max():.3g}); they are held just below {half:,.0f} Hz. mapping='vitals' has no such limit.",
            stacklevel=4,
        )
    return np.where(beyond, 0.999 * half, frequencies)


def _events(
    table: Table,
    paths: tuple[str, ...],
    steps: NDArray[np.int64],
    times: NDArray[np.float64],
    findings: Sequence[Finding],
) -> tuple[SoundEvent, ...]:
    """What is not finite and the findings of note, in words, among the steps that are heard."""
    if not len(steps):
        return ()
    track = follow(table, paths, np.array([0, len(table.steps)]))
    begins = np.interp(table.steps, steps, times)
    heard = [
        *(alarm for alarm in alarms("grad_norm", [track], table.steps, begins) if alarm.step <= steps[-1]),
        *(notice for notice in notices(findings, steps, times) if notice.step <= steps[-1]),
    ]
    return tuple(sorted(heard, key=lambda event: event.time))
