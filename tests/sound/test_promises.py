"""What docs/sound.md promises of every sound, in figures; the numbers S1 to S20 are those of the tracker."""

from dataclasses import replace

import numpy as np
import pytest

from auscult.core.finding import Evidence, Finding
from auscult.core.score import Score, Voice, timbre_weights
from auscult.sound.glide import LEVEL
from auscult.sound.level import leveled
from auscult.sound.loudness import integrated_loudness, true_peak
from auscult.sound.mappings import MAPPINGS, sonify_report, sonify_run
from auscult.sound.request import Request
from auscult.sound.scales import CENTRE, LOWEST, equal_loudness
from auscult.sound.synth import Synth, render

RATE = 44_100
MODES = [mode for mode in MAPPINGS["vitals"] if mode != "solo"]


def finding(step, severity):
    return Finding(
        "T001", "test", severity, "", step, f"Bad since {step}.", (Evidence("loss", "", step, 1.0),), ("Try.",)
    )


def cents(low, high):
    return 1200 * np.log2(high / low)


@pytest.mark.parametrize("mode", MODES)
def test_s1_every_pitch_lies_between_131_and_2093_hz(make_run, mode):
    values = np.concatenate([[0.0], np.logspace(-38, 38, 77), [1e-45, 3.4e38]])
    score = sonify_run(make_run(np.stack([values, values[::-1]], 1)), (), Request(), mode=mode)
    for voice in score.voices:
        if voice.part == "layers":
            assert voice.frequencies.min() >= 130.8 and voice.frequencies.max() <= 2093.01


def test_s4_no_step_is_steeper_than_its_sines_in_any_mode(make_run, calm, unobserved):
    norms = calm(120, 6).astype(np.float32)
    norms[20:30, :2] = 0
    norms[40:50, 2:4] = unobserved((10, 2))
    norms[70:80] = np.nan
    norms[90] *= 1e6
    run = make_run(norms)
    for mode in MODES:
        for scale in ("continuous", "pentatonic"):
            score = replace(sonify_run(run, [finding(5, "critical")], Request(scale=scale), mode=mode), channels=1)
            samples = render(score).samples[:, 0].astype(np.float64)
            bound = np.zeros(len(samples))
            for voice in score.voices:
                steepest = 0.0
                foot, weights = timbre_weights(voice.timbre)
                top = voice.frequencies[voice.amplitudes > 0].max(initial=LOWEST)
                for multiple, weight in enumerate(weights, 1):
                    steepest += weight * 2 * np.sin(np.pi * min(top * foot * multiple, RATE / 2) / RATE)
                bound += score.gain * voice.amplitudes.max(initial=0.0) * steepest
            assert np.abs(np.diff(samples)).max() <= 1.05 * bound[0], (mode, scale)


def scenarios(calm):
    base = calm(100, 6)
    ramp = 10 ** np.linspace(0, 8, 100)[:, None]
    broken, dead = base.copy(), base.copy()
    broken[50:] = np.nan
    dead[25:] = 0
    return {"calm": base, "exploding": base * ramp, "vanishing": base / ramp, "nan": broken, "dead": dead}


@pytest.mark.parametrize("mode", MODES)
def test_s6_level_peak_and_offset_in_every_mode(make_run, calm, mode):
    for name, norms in scenarios(calm).items():
        samples = render(sonify_run(make_run(norms), [finding(30, "critical")], mode=mode)).samples
        assert integrated_loudness(samples, RATE) == pytest.approx(-23, abs=1), name
        assert 20 * np.log10(true_peak(samples)) <= -1, name
        assert 20 * np.log10(np.abs(samples.mean(0, dtype=np.float64)).max()) <= -60, name


def test_s6_a_sound_with_high_peaks_stays_below_the_ceiling():
    at = np.arange(20) * 3.0
    clicks = Voice("v", at, np.full(20, 3000.0), np.full(20, 1.0), np.full(20, 0.002), ramp=0.0005)
    score = leveled(Score("t", "test", 60.0, (clicks,)))
    for rate in (22_050, 44_100, 48_000):
        assert 20 * np.log10(true_peak(render(score, rate).samples)) <= -1


def steady_and_tones(calm, make_run, seconds=0.4):
    norms = calm(60, 6)
    norms[40:] = np.nan
    return sonify_run(make_run(norms), [finding(3, "warning")], Request(seconds=seconds))


@pytest.mark.parametrize("frames", [64, 441, 1024, 4097, 10**9])
def test_s9_blocks_of_any_length_are_the_whole(make_run, calm, frames):
    score = steady_and_tones(calm, make_run)
    whole = render(score).samples
    parts = np.concatenate(list(Synth(score, RATE).blocks(frames)))
    assert parts.shape == whole.shape
    assert np.abs(parts - whole).max() <= 1e-5


def test_s9_single_frames_and_a_start_anywhere_are_the_whole(make_run, calm):
    score = steady_and_tones(calm, make_run, seconds=0.2)
    whole, synth = render(score).samples, Synth(score, RATE)
    singles = np.concatenate([synth.block(at, at + 1) for at in range(3000, 4200)])
    assert np.abs(singles - whole[3000:4200]).max() <= 1e-5
    later = np.concatenate(list(synth.blocks(1000, start=5555)))
    assert np.abs(later - whole[5555:]).max() <= 1e-5


@pytest.mark.parametrize("mode", [*MODES, "solo"])
def test_s10_stored_references_and_steps_make_the_rest_of_a_run_sound_as_in_the_whole(make_run, calm, mode):
    norms = calm(400, 6)
    norms[200:] *= 30.0
    run = make_run(norms)
    path = "layer2.weight" if mode == "solo" else None
    whole = sonify_run(run, (), Request(seconds=100.0, path=path), mode=mode)
    rest = sonify_run(
        run, (), Request(path=path, steps=(200, 399), references=whole.references, seconds=50.0), mode=mode
    )
    assert rest.references == whole.references and rest.steps[0] == 200
    for a, b in zip(whole.voices, rest.voices):
        if a.part == "layers" and mode != "arpeggio":
            times = np.arange(1.1, 38.0, 0.41)
            offset = whole.step_times[np.searchsorted(whole.steps, 200)]
            heard = [np.interp(times + shift, v.times, v.frequencies) for shift, v in ((offset, a), (0, b))]
            np.testing.assert_allclose(heard[0], heard[1], rtol=1e-3)


def test_s10_equal_runs_give_equal_scores_whatever_was_read_before(make_run, calm):
    norms = calm(300, 4)
    first, again = (sonify_run(make_run(norms)) for _ in range(2))
    assert first.to_dict() == again.to_dict()


@pytest.mark.parametrize("mode", MODES)
def test_s18_in_mono_every_alarm_is_where_it_was(make_run, calm, located, mode):
    seconds = 25.0 if mode == "step" else 12.0
    for seed in range(2):
        norms = calm(100, 6, seed)
        first = 20 + 37 * seed
        norms[first:, seed:] = np.inf
        score = sonify_run(make_run(norms), (), Request(seconds=seconds), mode=mode)
        for channels in (1, 2):
            place, _ = located(render(replace(score, channels=channels)).samples)
            assert place == pytest.approx(first * seconds / 100, abs=0.15)


def test_s18_three_voices_differ_in_their_partials():
    signatures = []
    for timbre in ("warm", "hollow", "bright"):
        foot, weights = timbre_weights(timbre)
        row = np.zeros(20)
        for k, weight in enumerate(weights, 1):
            row[round(2 * foot * k)] = weight
        signatures.append(row)
    for first in range(3):
        for second in range(first):
            assert signatures[first] @ signatures[second] < 0.9


def test_s19_a_line_and_a_caption_for_every_event_in_order(make_run, calm):
    norms = calm(200, 6)
    norms[50:60] = np.nan
    norms[100:110] = 0
    score = sonify_run(make_run(norms), [finding(3, "critical"), finding(150, "info")], mode="overview")
    lines = score.transcript().splitlines()
    assert len(lines) == len(score.events) == 4
    for line, event in zip(lines, score.events):
        assert line.endswith(f"step {event.step}: {event.text}") and float(line.split()[0]) == round(event.time, 2)
    earcons = sorted(time for v in score.voices if v.part == "alerts" and v.durations is not None for time in v.times)
    spoken = [event.time for event in score.events if event.kind in ("nan", "finding")]
    assert all(np.abs(np.array(earcons) - time).min() < 1e-9 for time in spoken)
    assert score.captions().count("-->") == len(score.events)


def test_polarity_turns_the_pitch_around(make_run):
    norms = np.concatenate([np.ones(100), np.full(100, 10.0)])[:, None]
    up, down = (sonify_run(make_run(norms), (), Request(polarity=each)).voices[1] for each in ("up", "down"))
    at = [np.interp(15.0, voice.times, voice.frequencies) for voice in (up, down)]
    np.testing.assert_allclose(at, [993.0, CENTRE**2 / 993.0], rtol=1e-3)


def test_a_pentatonic_voice_holds_its_notes_and_slides_within_30_ms(make_run):
    norms = 10 ** np.linspace(-1, 1, 200)[:, None]
    voice = sonify_run(make_run(norms), (), Request(scale="pentatonic")).voices[1]
    grid = np.arange(0.6, 19.9, 0.002)
    semitones = 12 * np.log2(np.exp(np.interp(grid, voice.times, np.log(voice.frequencies))) / CENTRE)
    held = np.abs(np.diff(semitones)) < 1e-6
    notes = semitones[1:][held]
    np.testing.assert_allclose(notes, np.round(notes), atol=1e-3)
    assert set(np.round(notes).astype(int) % 12) == {0, 2, 4, 7, 9}
    slides = np.flatnonzero(np.diff(held.astype(int)))
    lengths = np.diff(grid[slides])[::2]
    assert len(lengths) >= 8 and lengths.max() <= 0.034


def test_a_value_between_two_notes_does_not_chatter(make_run):
    middle = 0.5 * np.log2(2 ** (1 / 12)) * 2  # decades are octaves near the reference: half a semitone up
    generator = np.random.default_rng(0)
    norms = np.concatenate([np.ones(60), 10 ** (middle / 2 + generator.normal(0, 0.005, 140))])[:, None]
    heard = {}
    for scale in ("continuous", "chromatic"):
        voice = sonify_run(make_run(norms), (), Request(scale=scale)).voices[1]
        heard[scale] = np.interp(np.arange(8.05, 19.5, 0.1), voice.times, voice.frequencies)
    assert len(np.unique(heard["continuous"].round(3))) > 50
    assert (np.diff(heard["chromatic"]) != 0).sum() <= 2


def test_a_low_voice_is_raised_as_iso_226_says_and_no_more_than_12_db(make_run):
    for frequency, decibels in ((250, 7.4), (500, 2.1), (1000, 0.0), (2000, 0.0)):
        assert 20 * np.log10(equal_loudness(frequency)) == pytest.approx(decibels, abs=0.2)
    assert 20 * np.log10(equal_loudness([130.8, 20.0])) == pytest.approx(12.0)
    norms = np.concatenate([np.ones(60), np.full(140, 0.02)])[:, None]
    voice = sonify_run(make_run(norms)).voices[1]
    at = [np.interp(time, voice.times, voice.amplitudes) / LEVEL for time in (3.0, 18.0)]
    pitch = [np.interp(time, voice.times, voice.frequencies) for time in (3.0, 18.0)]
    np.testing.assert_allclose(at, equal_loudness(pitch), rtol=1e-3)


def test_what_a_report_offers_is_what_each_mode_gives_by_itself(make_run, calm):
    norms = calm(300, 6).astype(np.float32)
    norms[90] *= 1e6
    run, found = make_run(norms), [finding(5, "critical")]
    several = sonify_report(run, found)
    assert [each.mode for each in several] == ["mix", "overview", "arpeggio"]
    for score in several:
        alone = sonify_run(run, found, mode=score.mode)
        np.testing.assert_equal(score.to_dict(), alone.to_dict())
