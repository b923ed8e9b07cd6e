from dataclasses import replace

import numpy as np
import pytest

from auscult.core.errors import SetupError
from auscult.core.score import TIMBRES, Score, SoundEvent, Voice, timbre_weights
from auscult.sound.earcons import earcon_voices
from auscult.sound.level import leveled
from auscult.sound.loudness import integrated_loudness, true_peak
from auscult.sound.synth import render

RATE = 44_100


def constant(frequency, amplitude=0.3, seconds=2.0, start=0.0, **more):
    return Voice("v", np.array([start, seconds]), np.full(2, float(frequency)), np.full(2, amplitude), **more)


def verbatim(*voices, seconds=2.0, channels=1):
    return Score("t", "test", seconds, voices, channels=channels)


def spectrum(samples, rate=RATE):
    """Frequencies and decibels relative to the largest bin, with a window whose side lobes are below -110 dB."""
    n = np.arange(len(samples)) / len(samples)
    window = sum(a * np.cos(2 * np.pi * k * n) for k, a in enumerate((0.35875, -0.48829, 0.14128, -0.01168)))
    magnitude = np.abs(np.fft.rfft(samples * window, 4 * len(samples)))
    return np.fft.rfftfreq(4 * len(samples), 1 / rate), 20 * np.log10(magnitude / magnitude.max() + 1e-12)


def peak_frequency(samples, rate=RATE):
    frequencies, level = spectrum(samples, rate)
    k = int(level.argmax())
    left, centre, right = level[k - 1 : k + 2]
    return frequencies[k] + 0.5 * (left - right) / (left - 2 * centre + right) * frequencies[1]


@pytest.mark.parametrize("timbre", list(TIMBRES))
@pytest.mark.parametrize("frequency", [130.8125, 441.7, 523.25, 2093.0])
def test_peak_within_a_cent_and_nothing_else(timbre, frequency):
    inner = render(verbatim(constant(frequency, timbre=timbre))).samples[4410:-4410, 0]
    foot, weights = TIMBRES[timbre]
    strongest = foot * (1 + weights.index(max(weights)))  # the pitch itself, but for `brilliant`
    assert abs(1200 * np.log2(peak_frequency(inner) / (strongest * frequency))) < 1
    frequencies, level = spectrum(inner)
    spurious = np.ones(len(level), bool)
    for multiple, weight in enumerate(weights, 1):
        if weight:
            spurious &= np.abs(frequencies - multiple * foot * frequency) > 8
    assert level[spurious].max() <= -80


def test_a_sine_has_the_amplitude_and_phase_of_a_sine():
    samples = render(verbatim(constant(441.0, 0.25))).samples[1000:2000, 0]
    expected = 0.25 * np.sin(2 * np.pi * 441 * np.arange(1000, 2000) / RATE)
    np.testing.assert_allclose(samples, expected, atol=2e-6)


def test_a_glide_matches_the_integral_of_its_frequency():
    voice = Voice("v", np.array([0.0, 2.0]), np.array([200.0, 800.0]), np.full(2, 0.5))
    t = np.arange(2 * RATE) / RATE
    rate = np.log(4) / 2  # f = 200 * exp(rate * t); its integral is closed
    expected = 0.5 * np.sin(2 * np.pi * 200 * (np.exp(rate * t) - 1) / rate)
    inner = slice(441, -441)
    np.testing.assert_allclose(render(verbatim(voice)).samples[inner, 0], expected[inner], atol=2e-3)


@pytest.mark.parametrize("sample_rate", [8000, 11_025, 44_100, 48_000])
def test_partials_never_alias(sample_rate):
    inner = render(verbatim(constant(2093.0, timbre="bright")), sample_rate).samples[sample_rate // 10 :, 0]
    frequencies, level = spectrum(inner[: -sample_rate // 10], sample_rate)
    partial = np.abs(frequencies[:, None] / 2093.0 - np.round(frequencies[:, None] / 2093.0))[:, 0] * 2093
    assert level[partial > 8].max() <= -80
    assert np.abs(render(verbatim(constant(sample_rate / 2)), sample_rate).samples).max() < 1e-12


def slope_bound(score):
    """Largest step between samples that sines of these amplitudes and frequencies can make."""
    total = 0.0
    for voice in score.voices:
        foot, weights = timbre_weights(voice.timbre)
        for multiple, weight in enumerate(weights, 1):
            frequency = min(voice.frequencies.max() * foot * multiple, RATE / 2)
            total += voice.amplitudes.max() * weight * 2 * np.sin(np.pi * frequency / RATE)
    return total


def test_no_clicks_on_random_scores():
    generator = np.random.default_rng(3)
    for _ in range(100):
        voices = []
        for _ in range(generator.integers(1, 5)):
            start, stop = np.sort(generator.uniform(0, 1, 2)) * [0.5, 0.5] + [0, 0.45]
            times = np.linspace(start, stop, generator.integers(2, 8))
            voices.append(
                Voice(
                    "v",
                    times,
                    generator.uniform(300, 2093, len(times)),
                    np.full(len(times), generator.uniform(0.05, 0.3)),
                    timbre=generator.choice(list(TIMBRES)),
                )
            )
        score = verbatim(*voices, seconds=1.0)
        assert np.abs(np.diff(render(score).samples[:, 0])).max() <= 1.05 * slope_bound(score)


def test_a_steady_sine_stays_out_of_the_treble():
    samples = render(verbatim(constant(450.0, 0.1, 2.0))).samples[:, 0]
    power = np.abs(np.fft.rfft(samples.astype(float))) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / RATE)
    assert 10 * np.log10(power[frequencies > 5000].sum() / power.sum()) <= -80


def test_tones_restart_and_ramp_where_they_are_told_to():
    times = np.array([0.0, 0.1])
    voice = Voice("v", times, np.array([440.0, 660.0]), np.full(2, 0.1), durations=np.full(2, 0.05), ramp=0.0)
    samples = render(verbatim(voice, seconds=0.2)).samples[:, 0]
    n = np.arange(2205)
    np.testing.assert_allclose(samples[4410 : 4410 + 2205], 0.1 * np.sin(2 * np.pi * 660 * n / RATE), atol=1e-7)
    assert not samples[2205:4410].any()
    soft = render(verbatim(replace(voice, ramp=0.005), seconds=0.2)).samples[:, 0]
    assert np.abs(np.diff(soft)).max() <= 1.05 * 0.1 * 2 * np.sin(np.pi * 660 / RATE)


def test_pan_is_equal_power_and_mono_keeps_everything():
    for pan in (-1.0, -0.6, 0.0, 1.0):
        samples = render(verbatim(constant(440, pan=pan), channels=2)).samples[4410:-4410]
        np.testing.assert_allclose((samples.astype(float) ** 2).mean(0).sum(), 0.3**2 / 2, rtol=1e-3)
        left, right = np.sqrt((samples.astype(float) ** 2).mean(0))
        assert np.sign(np.round(right - left, 6)) == np.sign(pan)


def test_sixty_four_voices_reach_the_target():
    generator = np.random.default_rng(4)
    times = np.linspace(0, 4, 41)
    voices = tuple(
        Voice(f"v{k}", times, np.exp(generator.uniform(5, 7.5, 41)), np.full(41, 0.25), timbre="bright", pan=k / 32 - 1)
        for k in range(64)
    )
    samples = render(leveled(Score("t", "test", 4.0, voices))).samples
    assert integrated_loudness(samples, RATE) == pytest.approx(-23, abs=1)
    assert true_peak(samples) <= 10 ** (-1 / 20)


@pytest.mark.parametrize("kind", ["nan", "stalled", "finding", "excursion"])
def test_events_are_heard_and_cut_at_the_end(kind):
    events = (SoundEvent(1.0, kind, "text", 3, "critical"), SoundEvent(1.99, kind, "t", 4))
    samples = render(Score("t", "test", 2.0, earcon_voices(events), events=events)).samples
    assert samples.shape == (2 * RATE, 2)
    assert not samples[:RATE].any()
    assert samples[RATE : RATE + 800].any()


def test_the_same_score_gives_the_same_samples():
    score = Score("t", "test", 2.0, (constant(523.25), constant(600, timbre="warm", pan=-0.6)))
    assert render(score).samples.tobytes() == render(score).samples.tobytes()


def test_empty_voices_and_scores_are_silent():
    nothing = Voice("v", np.empty(0), np.empty(0), np.empty(0))
    samples = render(Score("t", "test", 0.5, (nothing, constant(440, 0.0)))).samples
    assert samples.shape == (22_050, 2)
    assert not samples.any()
    assert render(Score("t", "test", 0.0, ())).samples.shape == (0, 2)


def test_impossible_requests_are_refused():
    with pytest.raises(SetupError, match="sample_rate"):
        render(Score("t", "test", 1.0, ()), 100)
    with pytest.raises(SetupError, match="channels"):
        render(Score("t", "test", 1.0, (), channels=3))
