"""Clip: Audio as a PCM WAV file in memory, small enough to be embedded in a page."""

import numpy as np
from numpy.typing import NDArray

from auscult.core.audio import Audio
from auscult.core.wav import wav_file

MAX_BYTES = 8_000_000
SMALL_RATE = 22_050
BYTES_PER_SAMPLE = 2


def wav_bytes(audio: Audio, limit: int = MAX_BYTES) -> bytes:
    """A WAV file of 16-bit integers, at 22,050 Hz where it would be larger than `limit` at the sound's own rate.

    Args:
        audio: The sound; samples beyond [-1, 1] are clipped.
        limit: Bytes of sound data above which the rate is lowered.
    """
    samples, rate = audio.samples, audio.sample_rate
    if samples.size * BYTES_PER_SAMPLE > limit and rate > SMALL_RATE:
        samples, rate = _resample(samples, rate, SMALL_RATE), SMALL_RATE
    return wav_file(samples, rate, 8 * BYTES_PER_SAMPLE)


def _resample(samples: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    """Band-limited resampling `(frames, channels)` by cutting the spectrum at the new Nyquist frequency."""
    frames = max(1, round(len(samples) * target / rate))
    channels = [
        np.fft.irfft(np.fft.rfft(column)[: frames // 2 + 1], frames) * (frames / len(samples)) for column in samples.T
    ]
    return np.stack(channels, axis=1).astype(np.float32)
