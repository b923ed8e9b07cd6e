import numpy as np
import pytest

from auscult.sound.loudness import integrated_loudness, k_weighting, true_peak


def sine(frequency, decibels, seconds=5.0, sample_rate=48_000, channels=1, phase=0.0):
    angle = 2 * np.pi * frequency * np.arange(round(seconds * sample_rate)) / sample_rate + phase
    return np.repeat((10 ** (decibels / 20) * np.sin(angle))[:, None], channels, 1)


def test_filters_are_those_printed_in_the_recommendation():
    shelf, high_pass = k_weighting(48_000)
    np.testing.assert_allclose(
        shelf,
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585],
        rtol=1e-10,
    )
    np.testing.assert_allclose(high_pass, [1, -2, 1, 1, -1.99004745483398, 0.99007225036621], rtol=1e-10)


@pytest.mark.parametrize("sample_rate", [44_100, 48_000, 96_000])
@pytest.mark.parametrize(
    ("decibels", "channels", "lufs"), [(0, 1, -3.01), (-20, 1, -23.01), (-20, 2, -20.0), (-23, 2, -23)]
)
def test_a_sine_of_997_hz(decibels, channels, lufs, sample_rate):
    samples = sine(997, decibels, sample_rate=sample_rate, channels=channels)
    assert integrated_loudness(samples, sample_rate) == pytest.approx(lufs, abs=0.05)


def test_gates_of_ebu_tech_3341():
    parts = [sine(1000, level, seconds, channels=2) for level, seconds in ((-36, 10), (-23, 60), (-36, 10))]
    assert integrated_loudness(np.concatenate(parts), 48_000) == pytest.approx(-23.0, abs=0.1)  # case 3
    parts = [
        sine(1000, level, seconds, channels=2)
        for level, seconds in ((-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10))
    ]
    assert integrated_loudness(np.concatenate(parts), 48_000) == pytest.approx(-23.0, abs=0.1)  # case 4


def test_silence_and_nothing():
    assert integrated_loudness(np.zeros((48_000, 2)), 48_000) == -np.inf
    assert integrated_loudness(np.zeros((0, 2)), 48_000) == -np.inf
    assert true_peak(np.zeros((0, 2))) == 0


def test_short_sounds_count_as_one_block():
    assert integrated_loudness(sine(997, -20, seconds=0.15), 48_000) == pytest.approx(-23.0, abs=0.3)
    assert np.isfinite(integrated_loudness(sine(997, -20, seconds=0.01), 48_000))


def test_true_peak_between_samples():
    samples = sine(12_000, 0, seconds=0.1, phase=np.pi / 4)  # every sample is at 0.707 of the peak
    assert np.abs(samples).max() == pytest.approx(np.sqrt(0.5))
    middle = samples[1000:-1000] * np.hanning(len(samples) - 2000)[:, None]
    assert 20 * np.log10(true_peak(middle)) == pytest.approx(0.0, abs=0.1)
    assert 20 * np.log10(true_peak(sine(997, -6))) == pytest.approx(-6, abs=0.05)
