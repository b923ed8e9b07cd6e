"""Sound without an end: its beats fit together, and it is as loud and as true as a file."""

import numpy as np
import pytest

from auscult.sound.loudness import integrated_loudness, true_peak
from auscult.sound.stream import Aim, Stream
from auscult.sound.vitals import VOICES

RATE = 44_100
THREE = [(timbre, pan) for _, timbre, pan in VOICES]


def made(stream, beats):
    """The sound of some beats, each the aims and more."""
    return np.concatenate([stream.beat(*each) for each in beats]).astype(np.float64)


def level_of(samples):
    window = np.blackman(len(samples))
    power = np.abs(np.fft.rfft(samples * window))
    return np.fft.rfftfreq(len(samples), 1 / RATE), 20 * np.log10(power / power.max() + 1e-12)


@pytest.mark.parametrize("distance", [-1.7, -0.4, 0.0, 1.3])
def test_a_held_pitch_is_one_tone_over_all_beats(distance):
    sound = made(Stream(THREE), [([Aim(distance)] * 3,)] * 100)[22_016:].sum(1)
    frequencies, level = level_of(sound)
    pitch = 523.25 * 2 ** (2 * np.tanh(distance / 2))
    spurious = np.ones(len(level), bool)
    for half in range(1, 13):
        spurious &= np.abs(frequencies - half * pitch / 2) > 4
    assert level[spurious].max() <= -80
    near = np.abs(frequencies - pitch) < 4
    assert abs(1200 * np.log2(frequencies[near][level[near].argmax()] / pitch)) < 2


def test_beats_meet_without_a_click_whatever_comes():
    generator = np.random.default_rng(1)
    stream = Stream(THREE)
    beats = []
    for number in range(300):
        aims = [
            Aim(float(generator.normal(0, 2)) if generator.random() > 0.2 else None, float(generator.random() > 0.2),
                bool(generator.random() > 0.8))
            for _ in THREE
        ]  # fmt: skip
        earcons = [["nan"], ["critical", "stalled"], []][min(number % 7, 2)]
        beats.append((aims, earcons, number % 5 == 0))
    sound = made(stream, beats)
    assert np.isfinite(sound).all() and sound.shape == (300 * stream.frames, 2)
    assert 20 * np.log10(true_peak(sound.astype(np.float32))) <= -1
    bends = np.abs(np.diff(sound, 2, axis=0)).max(1)
    borders = np.arange(1, 300) * stream.frames
    around = np.concatenate([borders - 2, borders - 1, borders])
    assert bends[around].max() <= np.delete(bends, around).max()


def test_steady_voices_have_minus_23_lufs():
    for voices in (THREE, THREE[1:2]):
        sound = made(Stream(voices), [([Aim(0.0)] * len(voices),)] * 100)
        assert integrated_loudness(sound.astype(np.float32), RATE) == pytest.approx(-23, abs=1)


def test_the_alarm_begins_with_its_beat_and_goes_on_over_the_next(located):
    stream = Stream(THREE)
    beats = [([Aim(0.0)] * 3, ["nan"] if number == 50 else []) for number in range(100)]
    place, score = located(made(stream, beats).astype(np.float32))
    assert place == pytest.approx(50 * stream.frames / RATE, abs=0.001) and score > 0.5


def test_silence_comes_within_5_ms_and_the_hum_in_its_place():
    stream = Stream(THREE[1:2])
    frames = stream.frames
    sound = made(stream, [([Aim(0.0)],)] * 20 + [([Aim(0.0, 0.0)],)] * 5 + [([Aim(0.0, 1.0, True)],)] * 20)
    assert sound[19 * frames : 20 * frames].any() and not sound[20 * frames + 300 : 25 * frames].any()
    frequencies, level = level_of(sound[27 * frames :].sum(1))
    assert frequencies[level.argmax()] == pytest.approx(130.8, abs=0.6)
    assert level[np.abs(frequencies - 130.8) > 5].max() < -60


def test_far_from_the_reference_it_trembles():
    sound = made(Stream(THREE[1:2]), [([Aim(3.0)],)] * 100)[11_008:].sum(1)
    envelope = np.sqrt(np.convolve(sound**2, np.ones(441) / 441, "same"))[:: RATE // 100]
    power = np.abs(np.fft.rfft(envelope - envelope.mean()))
    assert np.fft.rfftfreq(len(envelope), 0.01)[power.argmax()] == pytest.approx(8.0, abs=0.3)
