"""Synth: a Score in, Audio out, by adding up partials.

Knows nothing of runs. A gliding voice keeps its phase: over hops of 64 samples the frequency runs linearly, the phase
therefore quadratically, and each hop begins with the exact phase at which the last one ended. Partials fade out before
half the sample rate, so nothing aliases.
"""

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from auscult.core.audio import Audio
from auscult.core.errors import SetupError
from auscult.core.score import Score, Timbre, Voice
from auscult.sound.earcons import RAMP, earcon_of, ramped, synthesize
from auscult.sound.loudness import normalize

HOP = 64  # samples between control points
PIECE = 512  # hops synthesized at a time, so that they stay in the processor's cache
FADE_FROM = 0.95  # of half the sample rate, where a partial begins to fade

PARTIALS: MappingProxyType[Timbre, tuple[float, tuple[float, ...]]] = MappingProxyType(
    {
        "sine": (1.0, (1.0,)),
        "warm": (0.5, (0.5, 1.0, 0.0, 0.3)),
        "hollow": (1.0, (1.0, 0.0, 0.4, 0.0, 0.25)),
        "bright": (1.0, (1.0, 0.85, 0.3, 0.5, 0.15, 0.3)),
    }
)
"""Timbre to (lowest partial relative to the pitch, weights of its multiples 1, 2, 3, ...); the pitch is strongest."""

Samples = NDArray[np.float32]
Array = NDArray[np.float64]


def timbre_weights(timbre: Timbre) -> tuple[float, Array]:
    """Lowest partial relative to the pitch, and the weights `(P,)` of its multiples, scaled to the power of a sine."""
    foot, weights = PARTIALS[timbre]
    return foot, np.array(weights) / np.linalg.norm(weights)


def render(score: Score, sample_rate: int = 44_100) -> Audio:
    """Turn a score into sound.

    With a target loudness, events sound as earcons, tones get ramps of 5 ms, and the whole is brought to that loudness
    with its true peak at or below -1 dBTP. A score without one (`loudness=None`) is rendered word for word: its voices
    only, tones without ramps, amplitudes as they stand.

    Args:
        score: The score.
        sample_rate: Frames per second, 8000 or more.

    Returns:
        float32 samples `(round(duration * sample_rate), channels)`, finite.

    Raises:
        SetupError: if the sample rate is below 8000, or the score has other than 1 or 2 channels.
    """
    if sample_rate < 8000:
        raise SetupError(f"Expected `sample_rate` to be >= 8000, but got {sample_rate!r}. 44100 is the default.")
    if score.channels not in (1, 2):
        raise SetupError(f"Expected `score.channels` to be 1 or 2, but got {score.channels!r}.")
    mix = np.zeros((score.channels, round(score.duration * sample_rate)), np.float32)
    verbatim = score.loudness is None
    for voice in score.voices:
        if voice.durations is None:
            _add_glide(mix, voice, sample_rate)
        else:
            _add_tones(mix, voice, voice.durations, sample_rate, ramps=not verbatim)
    if score.loudness is None:
        return Audio(mix.T.copy(), sample_rate)
    for event in score.events:
        _add(mix, round(event.time * sample_rate), synthesize(earcon_of(event), sample_rate), 0.0)
    return Audio(normalize(mix.T.copy(), sample_rate, score.loudness), sample_rate)


def _add(mix: Samples, start: int, sound: NDArray[np.floating], pan: float) -> None:
    """Mix a mono sound `(n,)` in from a frame on, by equal power between left and right; what goes beyond is cut."""
    angle = (pan + 1) * np.pi / 4
    gains = (np.cos(angle), np.sin(angle)) if len(mix) == 2 else (1.0,)
    for channel, gain in zip(mix, gains):
        target = channel[start : start + len(sound)]
        target += sound[: len(target)] * np.float32(gain)


def _add_tones(mix: Samples, voice: Voice, durations: Array, sample_rate: int, ramps: bool) -> None:
    """Separate tones; each begins at phase 0."""
    foot, weights = timbre_weights(voice.timbre)
    starts = np.round(voice.times * sample_rate).astype(np.int64).tolist()
    counts = np.round(durations * sample_rate).astype(np.int64).tolist()
    for start, count, frequency, amplitude in zip(starts, counts, voice.frequencies, voice.amplitudes):
        if amplitude == 0:
            continue
        tone = np.zeros(count)
        for multiple, weight in enumerate(weights, 1):
            if weight and multiple * foot * frequency < sample_rate / 2:
                tone += weight * np.sin(2 * np.pi * (multiple * foot * frequency) * np.arange(count) / sample_rate)
        _add(mix, start, amplitude * tone * (ramped(count, sample_rate) if ramps else 1.0), voice.pan)


def _add_glide(mix: Samples, voice: Voice, sample_rate: int) -> None:
    """One gliding voice, silent outside its times."""
    if len(voice.times) < 2:
        return
    first = max(0, int(voice.times[0] * sample_rate) // HOP)
    last = min(-(-mix.shape[1] // HOP), int(voice.times[-1] * sample_rate) // HOP + 1)
    hops = max(last - first, 0)
    base, amplitude, weights = _controls(voice, (first + np.arange(hops + 1)) * HOP / sample_rate, sample_rate)
    phase = np.concatenate([[0.0], np.cumsum(0.5 * HOP * (base[1:] + base[:-1]))]) % 1.0
    for start in range(0, hops, PIECE):
        stop = min(start + PIECE, hops)
        bounds = slice(start, stop + 1)
        if amplitude[bounds].any():
            sound = _piece(phase[start:stop], base[bounds], amplitude[bounds], weights[start:stop])
            _add(mix, (first + start) * HOP, sound, voice.pan)


def _controls(voice: Voice, at: Array, sample_rate: int) -> tuple[Array, Array, Array]:
    """What a voice does at the boundaries of H hops.

    Returns:
        Cycles per sample of the lowest partial `(H + 1,)`, amplitude `(H + 1,)`, and the weight of each partial during
        each hop `(H, P)`.
    """
    foot, weights = timbre_weights(voice.timbre)
    frequency = 2.0 ** np.interp(at, voice.times, np.log2(voice.frequencies))
    edge = np.clip(np.minimum(at - voice.times[0], voice.times[-1] - at) / RAMP, 0.0, 1.0)
    base = frequency * foot / sample_rate
    highest = 2.0 * np.maximum(base[:-1], base[1:])  # 1 at half the sample rate
    audible = (1.0 - highest[:, None] * np.arange(1, len(weights) + 1)) / (1.0 - FADE_FROM)
    amplitude = edge * np.interp(at, voice.times, voice.amplitudes)
    return np.minimum(base, 0.5), amplitude, weights * np.clip(audible, 0.0, 1.0)


def _piece(phase: Array, base: Array, amplitude: Array, weights: Array) -> Samples:
    """Samples `(H * HOP,)` of H hops: a weighted sum of sines of multiples of one phase, by Clenshaw's recurrence.

    Args:
        phase: Cycles at the start of each hop, `(H,)`.
        base: Cycles per sample at the boundaries, `(H + 1,)`.
        amplitude: At the boundaries, `(H + 1,)`.
        weights: Of each partial, `(H, P)`.
    """
    along = np.arange(HOP, dtype=np.float32)
    begin, rate, bend = (each.astype(np.float32)[:, None] for each in (phase, base[:-1], np.diff(base) / (2 * HOP)))
    level, slope = (each.astype(np.float32)[:, None] for each in (amplitude[:-1], np.diff(amplitude) / HOP))
    angle = np.float32(2 * np.pi) * (begin + along * (rate + along * bend))
    envelope = (level + along * slope) * np.sin(angle)
    columns = weights.astype(np.float32)
    if columns.shape[1] == 1:
        return (envelope * columns).ravel()
    twice = 2 * np.cos(angle)
    later, current = np.zeros_like(angle), np.repeat(columns[:, -1:], HOP, axis=1)
    for k in range(columns.shape[1] - 2, -1, -1):
        np.subtract(np.multiply(twice, current, out=angle), later, out=later)
        later += columns[:, k : k + 1]
        later, current = current, later
    return (envelope * current).ravel()
