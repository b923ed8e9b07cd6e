import io
import wave

import numpy as np

from auscult.core.audio import Audio
from auscult.pages.clip import wav_bytes


def read(data: bytes) -> tuple[np.ndarray, int]:
    with wave.open(io.BytesIO(data)) as file:
        assert file.getsampwidth() == 2
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return frames.reshape(-1, file.getnchannels()), file.getframerate()


def test_samples_survive_as_integers(audio: Audio) -> None:
    samples, rate = read(wav_bytes(audio))
    assert rate == 44_100 and samples.shape == audio.samples.shape
    np.testing.assert_allclose(samples / 32767, audio.samples, atol=0.51 / 32767)


def test_large_audio_is_halved_and_keeps_its_pitch(audio: Audio) -> None:
    samples, rate = read(wav_bytes(audio, limit=100_000))
    assert rate == 22_050 and len(samples) == round(len(audio.samples) / 2)
    spectrum = np.abs(np.fft.rfft(samples[:, 0] * np.hanning(len(samples))))
    peak = np.fft.rfftfreq(len(samples), 1 / rate)[spectrum.argmax()]
    assert abs(peak - 523.25) < 0.3
    assert abs(np.abs(samples[2000:-2000]).max() / 32767 - 0.3) < 0.002


def test_what_the_lower_rate_cannot_hold_is_removed_not_folded() -> None:
    t = np.arange(44_100) / 44_100
    tone = (0.5 * np.sin(2 * np.pi * 15_000 * t)).astype(np.float32)[:, None]
    samples, _ = read(wav_bytes(Audio(tone, 44_100), limit=1000))
    assert np.abs(samples[500:-500]).max() < 40


def test_samples_beyond_full_scale_are_clipped_not_wrapped() -> None:
    samples, _ = read(wav_bytes(Audio(np.array([[1.5], [-1.5], [0.0]], np.float32), 22_050)))
    assert samples[:, 0].tolist() == [32767, -32767, 0]


def test_an_empty_sound_is_a_valid_file() -> None:
    samples, rate = read(wav_bytes(Audio(np.zeros((0, 2), np.float32), 44_100)))
    assert len(samples) == 0 and rate == 44_100
