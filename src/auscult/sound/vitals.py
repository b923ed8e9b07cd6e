"""Vitals: the default mapping. Three voices say how far the early, middle and late layers are from their reference.

Every voice reads the same scale, 131 to 2093 Hz, so layers in good order are in unison. What sets the voices an octave
apart is their timbre, as with the stops of an organ: `warm` has a partial an octave below the pitch, `bright` strong
ones above. Knows nothing of samples.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.core.score import Score, Timbre, Voice
from auscult.sound.earcons import EARCONS
from auscult.sound.events import alarms, end_of, notices, spread, stretches
from auscult.sound.frames import Track, follow, open_table, weights
from auscult.sound.scales import CENTRE, LOWEST, frequency_of, tremolo_rate

ABSOLUTE = {"update_to_data": 1e-3, "update_ratio": 1e-3}
"""References that do not depend on the run: what is usual for the metric."""

GROUPS: tuple[tuple[str, Timbre, float], ...] = (
    ("early layers", "warm", -0.6),
    ("middle layers", "hollow", 0.0),
    ("late layers", "bright", 0.6),
)
LEVEL = 0.25  # amplitude of a voice
FRAMES_PER_SECOND = 10
STEP_SECONDS = 0.1
SHORTEST, LONGEST = 12.0, 60.0  # seconds; runs of less than 12 steps get a second per step
FADE_IN, FADE_OUT = 0.5, 0.05  # seconds
RAMP = 0.005  # seconds in which a voice stops or starts again
BRIEFEST = 0.1  # seconds for which what is not finite, zero or missing is heard at least
TREMOLO_DEPTH = 0.6
ZERO_LEVEL = 0.25  # -12 dB
FALL = 0.3  # seconds in which a voice that has become zero falls
HEARTBEAT = (174.61, 0.06)  # Hz, amplitude
PULSES = ((0.0, 1.0), (0.28, 0.6))  # a beat: when, how strong
PULSE_RISE, PULSE_FALL = 0.02, 0.12  # seconds

Intervals = list[tuple[float, float]]


def mix(run: Run, findings: Sequence[Finding], metric: str | None, seconds: float | None) -> Score:
    """Three voices at once.

    Args:
        run: The run.
        findings: What `diagnose` found; warnings and worse are heard.
        metric: What drives the pitch; None is `grad_norm`.
        seconds: Length of the voices; None chooses 12 to 60 from the number of steps.

    Raises:
        SetupError: if the metric cannot drive a voice.
    """
    table = open_table(run, metric or "grad_norm")
    count = len(table.steps)
    length = _length(count) if seconds is None else seconds
    times = np.arange(count, dtype=np.float64) * (length / max(count, 1))
    frames = min(count, max(1, round(length * FRAMES_PER_SECOND)))
    edges = np.arange(frames + 1) * count // max(frames, 1)
    tracks = [follow(table, paths, edges) for paths in _thirds(weights(table))]
    references = _references(tracks, table.metric)
    events = spread(alarms(table.metric, tracks, table.steps, times), notices(findings, table.steps, times))
    duration = max(length, end_of(events))
    frame_times = np.append(times, length)
    centres = 0.5 * (frame_times[edges[:-1]] + frame_times[edges[1:]]) if frames else np.empty(0)
    return Score(
        title=run.info.name,
        mapping="vitals",
        duration=duration,
        voices=_voices(tracks, references, centres, times, length),
        events=events,
        step_times=times[edges[:-1]],
        steps=table.steps[edges[:-1]],
        references={name: value for (name, _, _), value in zip(GROUPS, references) if value is not None},
    )


def _length(steps: int) -> float:
    """Seconds for a number of steps: ten steps a second between 12 and 60 seconds; 1 second for an empty run."""
    return min(LONGEST, max(STEP_SECONDS * steps, min(SHORTEST, float(max(steps, 1)))))


def _thirds(paths: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Early, middle and late paths; two are early and late, a single one is in the middle."""
    first, second = round(len(paths) / 3), round(2 * len(paths) / 3)
    return [paths[:first], paths[first:second], paths[second:]]


def _references(tracks: Sequence[Track], metric: str) -> list[float | None]:
    return [ABSOLUTE.get(metric, track.reference) if track.paths else None for track in tracks]


def _voices(
    tracks: Sequence[Track],
    references: Sequence[float | None],
    centres: NDArray[np.float64],
    times: NDArray[np.float64],
    length: float,
) -> tuple[Voice, ...]:
    """The three voices; behind them those of groups that are zero for a while, and the heartbeat, where needed."""
    voices: list[Voice] = []
    fallen: list[Voice] = []
    broken: Intervals = []
    for (name, timbre, pan), track, reference in zip(GROUPS, tracks, references):
        stopped = _intervals(track.broken > 0, times, length)
        zero = _without(_intervals(track.zero, times, length), stopped)
        silent = _joined([*stopped, *zero, *_intervals(track.missing, times, length)])
        distance = _distance(track, reference)
        grid, frequencies, amplitudes = _line(distance, centres, silent, length)
        voices.append(Voice(name, grid, frequencies, amplitudes, timbre=timbre, pan=pan))
        if zero:
            fallen.append(_fallen(f"{name}, zero", zero, voices[-1], length, pan))
        broken.extend(stopped)
    heart = _heartbeat(_joined(broken))
    return (*voices, *fallen, *((heart,) if heart else ()))


def _distance(track: Track, reference: float | None) -> NDArray[np.float64]:
    """Decades from the reference per frame, NaN where nothing was observed."""
    return track.level - np.log10(reference) if reference is not None else np.full(len(track.level), np.nan)


def _line(
    distance: NDArray[np.float64], centres: NDArray[np.float64], silent: Intervals, length: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Times, frequencies and amplitudes of a gliding voice that is silent here and there."""
    usable = ~np.isnan(distance)
    if not usable.any():
        return np.array([0.0, length]), np.full(2, CENTRE), np.zeros(2)
    known_at, known = centres[usable], distance[usable]
    gate_at, gate = _gate(silent, length)
    grid, tremble = _tremolo(known_at, known, length)
    nodes = np.unique(np.concatenate([centres, gate_at, grid]))
    log_frequency = np.interp(nodes, known_at, np.log2(frequency_of(known)))
    amplitudes = LEVEL * np.interp(nodes, gate_at, gate) * np.interp(nodes, grid, tremble)
    return nodes, 2.0**log_frequency, amplitudes


def _gate(silent: Intervals, length: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners (times, 0 to 1) of the envelope that is 0 in some intervals and fades in and out at the ends."""
    fade = min(FADE_IN, length / 4)
    corners = np.unique([0.0, fade, length - min(FADE_OUT, length / 4), length, *_corners(silent)]).clip(0.0, length)
    level = np.interp(corners, [0.0, fade, length - min(FADE_OUT, length / 4), length], [0.0, 1.0, 1.0, 0.0])
    for start, stop in silent:
        level[(corners >= start) & (corners <= stop)] = 0.0
    return corners, level


def _corners(intervals: Intervals) -> list[float]:
    return [corner for start, stop in intervals for corner in (start - RAMP, start, stop, stop + RAMP)]


def _tremolo(
    times: NDArray[np.float64], distance: NDArray[np.float64], length: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners (times, factor on the amplitude) of the tremolo: 1 at whole beats, 0.4 half-way between."""
    rate = tremolo_rate(distance)
    grid = np.concatenate([[0.0], times, [length]])
    rates = np.interp(grid, times, rate)
    beats = np.concatenate([[0.0], np.cumsum(np.diff(grid) * 0.5 * (rates[1:] + rates[:-1]))])
    halves = np.arange(1, int(2 * beats[-1]) + 1) / 2
    turns = np.interp(halves, beats, grid)
    corners = np.unique(np.concatenate([grid, turns]))
    phase = np.interp(corners, grid, beats) % 1.0
    depth = TREMOLO_DEPTH * np.interp(corners, times, (rate > 0).astype(np.float64))
    return corners, 1.0 - depth * (1.0 - np.abs(2.0 * phase - 1.0))


def _fallen(name: str, zero: Intervals, voice: Voice, length: float, pan: float) -> Voice:
    """A group while it is exactly zero: from where it was down to 131 Hz, without harmonics, 12 dB softer."""
    times, frequencies, amplitudes = [0.0], [LOWEST], [0.0]
    for start, stop in zero:
        began = float(np.interp(start, voice.times, voice.frequencies)) if voice.amplitudes.any() else LOWEST
        landed = min(start + FALL, 0.5 * (start + stop))
        until = max(stop - RAMP, landed + RAMP)
        for at, hertz, level in ((start, began, 0.0), (start + RAMP, began, 1.0), (landed, LOWEST, 1.0),
                                 (until, LOWEST, 1.0), (until + RAMP, LOWEST, 0.0)):  # fmt: skip
            if at > times[-1]:
                times.append(at)
                frequencies.append(hertz)
                amplitudes.append(level * ZERO_LEVEL * LEVEL)
    return Voice(name, np.array(times), np.array(frequencies), np.array(amplitudes), timbre="sine", pan=pan)


def _heartbeat(broken: Intervals) -> Voice | None:
    """A soft double beat every second while something is not finite, after the alarm; None if it never beats."""
    times, amplitudes = [0.0], [0.0]
    for start, stop in broken:
        for beat in np.arange(start + EARCONS["nan"].duration + 0.4, stop - 0.5, 1.0).tolist():
            for after, strength in PULSES:
                times += [beat + after, beat + after + PULSE_RISE, beat + after + PULSE_RISE + PULSE_FALL]
                amplitudes += [0.0, strength * HEARTBEAT[1], 0.0]
    if len(times) == 1:
        return None
    return Voice("not finite", np.array(times), np.full(len(times), HEARTBEAT[0]), np.array(amplitudes))


def _intervals(mask: NDArray[np.bool_], times: NDArray[np.float64], length: float) -> Intervals:
    """Stretches of steps as intervals of seconds, each long enough to be heard."""
    ends = np.append(times, length)
    spans = [(float(ends[start]), float(ends[stop])) for start, stop in stretches(mask)]
    return _joined([(start, min(max(stop, start + BRIEFEST), length)) for start, stop in spans])


def _joined(intervals: Intervals) -> Intervals:
    """Sorted intervals, those less than four ramps apart made one."""
    joined: Intervals = []
    for start, stop in sorted(intervals):
        if joined and start - joined[-1][1] < 4 * RAMP:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _without(intervals: Intervals, others: Intervals) -> Intervals:
    """What is left of intervals outside of others, both sorted and disjoint, without pieces shorter than two ramps."""
    left: Intervals = []
    for start, stop in intervals:
        for from_, until in others:
            if until <= start or from_ >= stop:
                continue
            left.append((start, from_))
            start = until
        left.append((start, stop))
    return [(start, stop) for start, stop in left if stop - start > 2 * RAMP]
