"""What sounds promise of many runs: the first NaN found by ear, no excursion lost, four fates told apart."""

import itertools

import numpy as np
import pytest
from tests.sound.alarm import located

from auscult.sound.mappings import sonify_run
from auscult.sound.request import Request
from auscult.sound.synth import render

pytestmark = pytest.mark.trial

RATE = 44_100
SECONDS = 10.0


def norms_of(generator, steps=150):
    """A healthy run with its own number of layers, scales, noise and trend."""
    layers = int(generator.integers(1, 12))
    noise = generator.uniform(0.02, 0.2)
    trend = np.linspace(0, generator.uniform(-0.5, 0.5), steps)[:, None]
    return 10 ** (generator.normal(0, noise, (steps, layers)) + generator.uniform(-3, 2, layers) + trend)


def test_s7_the_first_nan_is_heard_within_150_ms_in_200_of_200_runs_and_in_none_of_200_clean_ones(make_run):
    generator = np.random.default_rng(7)
    errors = []
    for _ in range(200):
        norms = norms_of(generator)
        clean = render(sonify_run(make_run(norms), (), Request(seconds=SECONDS))).samples
        assert located(clean) is None
        first = int(generator.integers(0, len(norms)))
        norms[first:, int(generator.integers(0, norms.shape[1])) :] = generator.choice([np.nan, np.inf, -np.inf])
        place = located(render(sonify_run(make_run(norms), (), Request(seconds=SECONDS))).samples)
        assert place is not None, first
        errors.append(abs(place - first * SECONDS / len(norms)))
    assert max(errors) <= 0.15


def test_s8_an_excursion_of_a_decade_is_kept_at_1000_places_when_100000_steps_become_a_minute(make_run):
    generator = np.random.default_rng(8)
    steps, places, found = 100_000, 20, 0
    late = 0.0
    for _ in range(50):
        norms = 10 ** generator.normal(0, 0.05, (steps, 3))
        slots = np.arange(places) * (steps // places) + generator.integers(0, 2600)  # at least 1.5 s apart
        at = slots + generator.integers(0, 2400, places)
        layers = generator.integers(0, 3, len(at))
        norms[at, layers] = 10.0 ** (generator.choice([-1.1, 1.1], len(at)) * generator.uniform(1, 5, len(at)))
        score = sonify_run(make_run(norms), (), Request(seconds=60.0), mode="overview")
        told = {event.step: event.time for event in score.events if event.kind == "excursion"}
        for step, layer in zip(at.tolist(), layers.tolist()):
            true = step * 60 / steps
            voice = score.voices[layer]
            near = np.abs(voice.times - true) <= 0.1
            assert np.abs(np.log2(voice.frequencies[near] / 523.25)).max() >= 0.8, step
            late = max(late, abs(told[step] - true))
            found += 1
        assert len(told) == len(at)
    assert found == 1000 and late <= 0.1


def fate_of(samples):
    """Calm, exploding, vanishing or nan, from the sound alone: the alarm, and where the pitch goes."""
    if located(samples) is not None:
        return "nan"
    mono = samples.sum(1).astype(np.float64)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(8820, 1 / RATE), 1.0))
    pitches = []
    for start in np.arange(0.6, SECONDS - 0.4, 0.2):  # the centre of gravity of the spectrum moves with the pitch
        power = np.abs(np.fft.rfft(mono[round(start * RATE) :][:8820] * np.hanning(8820))) ** 2
        pitches.append((octaves * power).sum() / power.sum())
    way = np.median(pitches[-8:]) - np.median(pitches[:8])
    return "exploding" if way > 0.6 else "vanishing" if way < -0.6 else "calm"


def test_s16_four_fates_are_told_apart_from_the_sound_of_400_runs(make_run):
    generator = np.random.default_rng(16)
    for _, fate in itertools.product(range(100), ("calm", "exploding", "vanishing", "nan")):
        steps, layers = 100, int(generator.integers(1, 12))
        norms = 10 ** (
            generator.normal(0, generator.uniform(0.02, 0.12), (steps, layers)) + generator.uniform(-3, 2, layers)
        )
        turn = int(generator.integers(20, 60))
        ramp = 10 ** (np.clip((np.arange(steps) - turn) / (85 - turn), 0, 1) * generator.uniform(1.5, 8))[:, None]
        if fate == "nan":
            norms[turn:] = np.nan
        else:
            norms = {"calm": norms, "exploding": norms * ramp, "vanishing": norms / ramp}[fate]
        samples = render(sonify_run(make_run(norms), (), Request(seconds=SECONDS))).samples
        assert fate_of(samples) == fate
