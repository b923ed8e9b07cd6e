"""Glide: a group of layers as a gliding voice, with what becomes of it where it is zero, missing or not finite."""

import numpy as np
from numpy.typing import NDArray

from auscult.core.score import Timbre, Voice
from auscult.sound.earcons import EARCONS
from auscult.sound.intervals import RAMP, Intervals, corners_of, intervals_of, joined, without
from auscult.sound.scales import CENTRE, LOWEST, Scale, equal_loudness, frequency_of, quantized, tremolo_rate
from auscult.sound.scene import Scene

LEVEL = 0.25  # amplitude of a voice at 1 kHz
FADE_IN, FADE_OUT = 0.5, 0.05  # seconds
TREMOLO_DEPTH = 0.6
ZERO_LEVEL = 0.25  # -12 dB
FALL = 0.3  # seconds in which a voice that has become zero falls
SLIDE = 0.03  # seconds in which a voice goes from one note of a scale to another
HEARTBEAT = (174.61, 0.06)  # Hz, amplitude
PULSES = ((0.0, 1.0), (0.28, 0.6))  # a beat: when, how strong
PULSE_RISE, PULSE_FALL = 0.02, 0.12  # seconds

Array = NDArray[np.float64]


def glides(scene: Scene, timbres: tuple[Timbre, ...]) -> tuple[Voice, ...]:
    """The voices of all groups; behind them those of groups that are zero for a while, and the heartbeat."""
    voices: list[Voice] = []
    hums: list[Voice] = []
    broken: Intervals = []
    times, length = scene.times, scene.length
    for group, track, distance, timbre in zip(scene.groups, scene.tracks, scene.distances, timbres):
        stopped = intervals_of(track.broken > 0, times, length)
        zero = without(intervals_of(track.zero, times, length), stopped)
        silent = joined([*stopped, *zero, *intervals_of(track.missing, times, length)])
        grid, frequencies, amplitudes = line(distance, scene.centres, silent, length, scene.request.scale)
        voices.append(Voice(group.name, grid, frequencies, amplitudes, timbre=timbre, pan=group.pan))
        if zero:
            hums.append(fallen(f"{group.name}, zero", zero, voices[-1], length, group.pan))
        broken.extend(stopped)
    return (*voices, *hums, *heartbeat(joined(broken)))


def heartbeat(broken: Intervals) -> tuple[Voice, ...]:
    """A soft double beat every second while something is not finite, after the alarm; nothing if it never beats."""
    times, amplitudes = [0.0], [0.0]
    for start, stop in broken:
        for beat in np.arange(start + EARCONS["nan"].duration + 0.4, stop - 0.5, 1.0).tolist():
            for after, strength in PULSES:
                times += [beat + after, beat + after + PULSE_RISE, beat + after + PULSE_RISE + PULSE_FALL]
                amplitudes += [0.0, strength * HEARTBEAT[1], 0.0]
    if len(times) == 1:
        return ()
    frequencies = np.full(len(times), HEARTBEAT[0])
    return (Voice("not finite", np.array(times), frequencies, np.array(amplitudes), part="alerts"),)


def line(distance: Array, centres: Array, silent: Intervals, length: float, scale: Scale) -> tuple[Array, Array, Array]:
    """Times, frequencies and amplitudes of a gliding voice that is silent here and there."""
    usable = ~np.isnan(distance)
    if not usable.any():
        return np.array([0.0, length]), np.full(2, CENTRE), np.zeros(2)
    known_at, known = centres[usable], distance[usable]
    gate_at, gate = gate_of(silent, length)
    grid, tremble = _tremolo(known_at, known, length)
    pitch_at, pitch = _notes(known_at, quantized(frequency_of(known), scale), scale)
    nodes = np.unique(np.concatenate([pitch_at, gate_at, grid]).clip(0.0, length).round(6))
    frequencies = 2.0 ** np.interp(nodes, pitch_at, np.log2(pitch))
    amplitudes = LEVEL * np.interp(nodes, gate_at, gate) * np.interp(nodes, grid, tremble)
    return nodes, frequencies, amplitudes * equal_loudness(frequencies)


def _notes(times: Array, frequencies: Array, scale: Scale) -> tuple[Array, Array]:
    """Corners of the pitch: the frames themselves, or notes that are held, with a slide of 30 ms between two."""
    if scale == "continuous":
        return times, frequencies
    changes = np.flatnonzero(np.diff(frequencies))
    middle = 0.5 * (times[changes] + times[changes + 1])
    at = np.concatenate([times[:1], np.stack([middle - SLIDE / 2, middle + SLIDE / 2], 1).ravel(), times[-1:]])
    pitch = np.stack([frequencies[changes], frequencies[changes + 1]], 1).ravel()
    at, kept = np.unique(at, return_index=True)
    return at, np.concatenate([frequencies[:1], pitch, frequencies[-1:]])[kept]


def gate_of(silent: Intervals, length: float) -> tuple[Array, Array]:
    """Corners (times, 0 to 1) of the envelope that is 0 in some intervals and fades in and out at the ends."""
    fade = min(FADE_IN, length / 4)
    corners = np.unique([0.0, fade, length - min(FADE_OUT, length / 4), length, *corners_of(silent)]).clip(0.0, length)
    level = np.interp(corners, [0.0, fade, length - min(FADE_OUT, length / 4), length], [0.0, 1.0, 1.0, 0.0])
    for start, stop in silent:
        level[(corners >= start) & (corners <= stop)] = 0.0
    return corners, level


def _tremolo(times: Array, distance: Array, length: float) -> tuple[Array, Array]:
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


def fallen(name: str, zero: Intervals, voice: Voice, length: float, pan: float) -> Voice:
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
    pitch = np.array(frequencies)
    return Voice(name, np.array(times), pitch, np.array(amplitudes) * equal_loudness(pitch), timbre="sine", pan=pan)
