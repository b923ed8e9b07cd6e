"""Synth: a Score in, Audio out, by adding up partials.

Knows nothing of runs. The phase of a gliding voice is the closed integral of its frequency, so that any stretch of a
score can be made by itself: over hops of 64 samples the phase runs as the parabola through its exact values. Partials
fade out before half the sample rate, so nothing aliases.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auscult.core.audio import Audio
from auscult.core.errors import SetupError
from auscult.core.score import Score, Voice, timbre_weights

HOP = 64  # samples between control points
PIECE = 2048 * HOP  # samples made at a time
CACHED = 512  # hops made at a time, so that they stay in the processor's cache
POWERS = np.arange(HOP, dtype=np.float32) ** np.arange(3, dtype=np.float32)[:, None]  # of the sample within its hop
FADE_FROM = 0.95  # of half the sample rate, where a partial begins to fade

Samples = NDArray[np.float32]
Array = NDArray[np.float64]


def render(score: Score, sample_rate: int = 44_100) -> Audio:
    """Turn a score into sound: its voices, added up and multiplied by its gain.

    Args:
        score: The score.
        sample_rate: Frames per second, 8000 or more.

    Returns:
        float32 samples `(round(duration * sample_rate), channels)`, finite.

    Raises:
        SetupError: if the sample rate is below 8000, or the score has other than 1 or 2 channels.
    """
    synth = Synth(score, sample_rate)
    samples = np.empty((synth.frames, score.channels), np.float32)
    start = 0
    for block in synth.blocks():
        samples[start : start + len(block)] = block
        start += len(block)
    return Audio(samples, sample_rate, score)


class Synth:
    """A score made ready to be rendered, piece by piece and from anywhere.

    Attributes:
        score: The score.
        sample_rate: Frames per second.
        frames: Length of the whole.
    """

    def __init__(self, score: Score, sample_rate: int = 44_100) -> None:
        if sample_rate < 8000:
            raise SetupError(f"Expected `sample_rate` to be >= 8000, but got {sample_rate!r}. 44100 is the default.")
        if score.channels not in (1, 2):
            raise SetupError(f"Expected `score.channels` to be 1 or 2, but got {score.channels!r}.")
        self.score = score
        self.sample_rate = sample_rate
        self.frames = round(score.duration * sample_rate)
        self._lines = [
            _Tones.of(voice, sample_rate) if voice.durations is not None else _Glide.of(voice, sample_rate)
            for voice in score.voices
            if voice.amplitudes.any()
        ]

    def blocks(self, frames: int = PIECE, start: int = 0) -> Iterator[Samples]:
        """The sound from frame `start` on in blocks of so many frames `(frames, channels)`; the last may be shorter."""
        for first in range(start, self.frames, frames):
            yield self.block(first, min(first + frames, self.frames))

    def block(self, start: int, stop: int) -> Samples:
        """Frames [start, stop) of the sound, float32 `(stop - start, channels)`."""
        channels = self.score.channels
        mix = np.zeros((channels, stop - start), np.float32)
        for line in self._lines:
            sound = line.between(start, stop)
            if sound is None:
                continue
            angle = (line.voice.pan + 1) * np.pi / 4
            gains = (np.cos(angle), np.sin(angle)) if channels == 2 else (1.0,)
            for channel, gain in zip(mix, gains):
                channel += sound * np.float32(gain)
        mix *= np.float32(self.score.gain)
        return np.ascontiguousarray(mix.T)


@dataclass(frozen=True, slots=True, eq=False)
class _Tones:
    """Separate tones; each begins at phase 0. `starts` and `counts` are samples, int64 `(N,)`."""

    voice: Voice
    sample_rate: int
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    longest: int

    @classmethod
    def of(cls, voice: Voice, sample_rate: int) -> "_Tones":
        assert voice.durations is not None
        starts = np.round(voice.times * sample_rate).astype(np.int64)
        counts = np.round(voice.durations * sample_rate).astype(np.int64)
        return cls(voice, sample_rate, starts, counts, int(counts.max(initial=0)))

    def between(self, start: int, stop: int) -> Samples | None:
        """Samples [start, stop), or None for silence."""
        first, last = np.searchsorted(self.starts, (start - self.longest, stop))
        if first == last:
            return None
        mix = np.zeros(stop - start, np.float32)
        for index in range(first, last):
            begin, count = int(self.starts[index]), int(self.counts[index])
            low, high = max(start, begin), min(stop, begin + count)
            if low < high and self.voice.amplitudes[index]:
                mix[low - start : high - start] += self._tone(index, np.arange(low - begin, high - begin))
        return mix

    def _tone(self, index: int, at: NDArray[np.int64]) -> Array:
        """Some samples of a tone, counted from its beginning."""
        voice, half = self.voice, self.sample_rate / 2
        foot, weights = timbre_weights(voice.timbre)
        tone = np.zeros(len(at))
        for multiple, weight in enumerate(weights, 1):
            frequency = multiple * foot * voice.frequencies[index]
            if weight and frequency < half:
                tone += weight * np.sin(2 * np.pi * frequency * at / self.sample_rate)
        count = int(self.counts[index])
        ramp = min(round(voice.ramp * self.sample_rate), count // 2)
        if ramp:
            from_edge = np.minimum(np.minimum(at, count - 1 - at), ramp)
            tone *= 0.5 - 0.5 * np.cos(np.pi * from_edge / ramp)
        return voice.amplitudes[index] * tone


@dataclass(frozen=True, slots=True, eq=False)
class _Glide:
    """A gliding voice, silent outside of its times.

    Attributes:
        voice: The voice.
        sample_rate: Frames per second.
        growth: Of the frequency between a time and the next, per second: d ln f / dt, float64 `(N - 1,)`.
        cycles: Cycles of the pitch from the first time to each, float64 `(N,)`.
    """

    voice: Voice
    sample_rate: int
    growth: Array
    cycles: Array

    @classmethod
    def of(cls, voice: Voice, sample_rate: int) -> "_Glide":
        spans = np.diff(voice.times)
        growth = np.diff(np.log(voice.frequencies)) / spans
        cycles = np.concatenate([[0.0], np.cumsum(voice.frequencies[:-1] * _grown(growth, spans))])
        return cls(voice, sample_rate, growth, cycles)

    def between(self, start: int, stop: int) -> Samples | None:
        """Samples [start, stop), or None for silence."""
        times = self.voice.times
        if len(times) < 2 or stop <= times[0] * self.sample_rate or start >= times[-1] * self.sample_rate:
            return None
        first, last = start // HOP, -(-stop // HOP)
        phase, base, amplitude, weights = self._controls(
            np.arange(first, last + 1, dtype=np.float64) * HOP / self.sample_rate
        )
        if not amplitude.any():
            return None
        return _hops(phase, base, amplitude, weights)[start - first * HOP : stop - first * HOP]

    def _controls(self, at: Array) -> tuple[Array, Array, Array, Array]:
        """What the voice does at the boundaries of H hops.

        Returns:
            Phase in cycles and cycles per sample of the lowest partial, amplitude, each `(H + 1,)`, and the weight of
            each partial `(P,)`, or where one of them fades, during each hop `(H, P)`.
        """
        voice = self.voice
        foot, weights = timbre_weights(voice.timbre)
        inside = np.clip(at, voice.times[0], voice.times[-1])
        node = np.clip(np.searchsorted(voice.times, inside, "right") - 1, 0, len(self.growth) - 1)
        since = inside - voice.times[node]
        frequency = voice.frequencies[node] * np.exp(self.growth[node] * since)
        phase = self.cycles[node] + voice.frequencies[node] * _grown(self.growth[node], since)
        phase += frequency * (at - inside)
        edge = np.minimum(at - voice.times[0], voice.times[-1] - at) / max(voice.ramp, HOP / self.sample_rate)
        base = frequency * foot / self.sample_rate
        amplitude = np.clip(edge, 0.0, 1.0) * np.interp(at, voice.times, voice.amplitudes)
        highest = 2.0 * float(base.max()) * len(weights)  # 1 at half the sample rate
        if highest > FADE_FROM:
            nearest = 2.0 * np.maximum(base[:-1], base[1:])[:, None] * np.arange(1, len(weights) + 1)
            weights = weights * np.clip((1.0 - nearest) / (1.0 - FADE_FROM), 0.0, 1.0)
        return foot * phase, base, amplitude, weights


def _grown(growth: Array, seconds: Array) -> Array:
    """The integral of exp(growth * t) from 0 to some seconds."""
    exponent = growth * seconds
    small = np.abs(exponent) < 1e-6
    return np.where(small, seconds * (1 + 0.5 * exponent), np.expm1(exponent) / np.where(small, 1.0, growth))


def _hops(phase: Array, base: Array, amplitude: Array, weights: Array) -> Samples:
    """Samples `(H * HOP,)` of H hops: a weighted sum of sines of multiples of one phase, by Clenshaw's recurrence.

    Args:
        phase: Cycles at the boundaries, `(H + 1,)`.
        base: Cycles per sample at the boundaries, `(H + 1,)`.
        amplitude: At the boundaries, `(H + 1,)`.
        weights: Of each partial, `(P,)` or `(H, P)`.
    """
    bends = (np.diff(phase) - base[:-1] * HOP) / HOP**2
    angles = (2 * np.pi * np.stack([phase[:-1] % 1.0, base[:-1], bends], 1)).astype(np.float32)
    levels = np.stack([amplitude[:-1], np.diff(amplitude) / HOP], 1).astype(np.float32)
    columns = [np.atleast_1d(column)[:, None] for column in np.moveaxis(weights.astype(np.float32), -1, 0)]
    sound = np.empty((len(angles), HOP), np.float32)
    for first in range(0, len(angles), CACHED):
        some = slice(first, first + CACHED)
        _some_hops(angles[some], levels[some], [each if len(each) == 1 else each[some] for each in columns], sound[some])
    return sound.ravel()


def _some_hops(angles: Samples, levels: Samples, columns: list[Samples], sound: Samples) -> None:
    """Fill `sound` `(H, HOP)` from coefficients of its angle and amplitude, `(H, 3)` and `(H, 2)`, by powers of time."""
    angle = angles @ POWERS
    np.matmul(levels, POWERS[:2], out=sound)
    if len(columns) == 1:
        sound *= np.sin(angle, out=angle)
        sound *= columns[0]
        return
    twice = np.cos(angle)
    twice *= 2
    sound *= np.sin(angle, out=angle)
    later, current, spare = columns[-1], twice * columns[-1], angle
    current += columns[-2]
    for column in columns[-3::-1]:
        np.multiply(twice, current, out=spare)
        spare -= later
        if column.any():
            spare += column
        if later is columns[-1]:
            later = np.empty_like(current)
        later, current, spare = current, spare, later
    sound *= current
