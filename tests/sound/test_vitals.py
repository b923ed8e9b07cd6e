import json

import numpy as np
import pytest

from auscult.core.finding import Evidence, Finding
from auscult.sound.loudness import integrated_loudness, true_peak
from auscult.sound.mappings import sonify_run
from auscult.sound.request import Request
from auscult.sound.scales import equal_loudness
from auscult.sound.synth import render

RATE = 44_100


def at(voice, values, time):
    return np.interp(time, voice.times, values)


def loudest_between(samples, start, stop):
    return np.abs(samples[round(start * RATE) : round(stop * RATE)]).max()


def test_three_voices_in_depth_order_within_bounds(make_run, calm):
    norms = calm(201, 7)
    norms[100:] *= 10 ** np.linspace(0, 30, 101)[:, None]
    score = sonify_run(make_run(norms))
    assert [voice.name for voice in score.voices] == ["early layers", "middle layers", "late layers"]
    assert [voice.pan for voice in score.voices] == [-0.6, 0.0, 0.6]
    assert [voice.timbre for voice in score.voices] == ["warm", "hollow", "bright"]
    for voice in score.voices:
        assert voice.frequencies.min() >= 130.8
        assert voice.frequencies.max() <= 2093.01
        assert (np.diff(voice.times) > 0).all()
        assert voice.amplitudes.min() >= 0
        assert voice.amplitudes.max() <= 1
    assert score.duration == pytest.approx(20.1)
    assert set(score.references) == {"early layers", "middle layers", "late layers"}
    json.dumps(score.to_dict(), allow_nan=False)


def test_pitch_is_the_published_formula(make_run):
    norms = np.concatenate([np.full(100, 0.02), np.full(100, 0.2)])[:, None] * np.array([1.0, 10, 100])
    score = sonify_run(make_run(norms))
    assert list(score.references.values()) == pytest.approx([0.02, 0.2, 2.0])
    for voice in score.voices:
        assert at(voice, voice.frequencies, 5.0) == pytest.approx(523.25, rel=1e-4)
        assert at(voice, voice.frequencies, 15.0) == pytest.approx(993.0, rel=1e-3)


@pytest.mark.parametrize("metric", ["update_to_data", "update_ratio"])
def test_healthy_updates_are_a_unison_on_c5(make_run, metric):
    norms = np.full((120, 6), 1e-3)
    norms[:, 5] = 1e-1  # one layer out of tune
    score = sonify_run(make_run(norms[:, :5], metric=metric), (), Request(metric=metric))
    samples = render(score).samples.sum(1)
    for voice in score.voices:
        np.testing.assert_allclose(voice.frequencies, 523.25, rtol=1e-5)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    peak = np.fft.rfftfreq(len(samples), 1 / RATE)[spectrum.argmax()]
    assert peak == pytest.approx(523.25, abs=0.2)
    mistuned = sonify_run(make_run(norms[:, [0, 1, 5]], metric=metric), (), Request(metric=metric))
    assert at(mistuned.voices[2], mistuned.voices[2].frequencies, 6.0) == pytest.approx(1504, rel=1e-3)


@pytest.mark.parametrize(
    ("steps", "seconds"), [(0, 1), (1, 1), (5, 5), (50, 12), (201, 20.1), (600, 60), (1000, 60), (100_000, 60)]
)
def test_length_follows_the_number_of_steps(make_run, steps, seconds):
    score = sonify_run(make_run(np.ones((steps, 1))))
    assert score.duration == pytest.approx(seconds)
    assert len(score.steps) <= 600
    assert sonify_run(make_run(np.ones((steps, 1))), (), Request(seconds=3.0)).duration == 3.0


@pytest.mark.parametrize("index", [0, 1, 333, 50_000, 99_999])
def test_a_single_step_is_heard_among_100_000(make_run, index):
    norms = np.ones((100_000, 1))
    norms[index] = 1e3
    voice = sonify_run(make_run(norms)).voices[0:3][1]
    peak = voice.times[voice.frequencies.argmax()]
    assert voice.frequencies.max() == pytest.approx(1835, rel=1e-3)
    assert abs(peak - index * 60 / 100_000) <= 0.1


def test_the_first_nan_is_where_it_belongs(make_run, calm, located):
    generator = np.random.default_rng(5)
    for seed in range(20):
        norms = calm(150, 6, seed)
        first, layer = int(generator.integers(0, 150)), generator.integers(0, 6)
        clean_place, clean_score = located(render(sonify_run(make_run(norms), (), Request(seconds=8.0))).samples)
        assert clean_place is None, clean_score
        norms[first:, layer:] = generator.choice([np.nan, np.inf, -np.inf])
        score = sonify_run(make_run(norms), (), Request(seconds=8.0))
        place, _ = located(render(score).samples)
        assert place == pytest.approx(first * 8 / 150, abs=0.15)
        assert [(event.kind, event.step) for event in score.events] == [("nan", first)]


def test_after_a_nan_only_a_heartbeat(make_run, calm):
    norms = calm(200, 6)
    norms[60:140] = np.nan
    score = sonify_run(make_run(norms))
    samples = render(score).samples
    before = loudest_between(samples, 3, 6)
    quiet = [loudest_between(samples, start, start + 0.25) for start in np.arange(7.2, 13.7, 0.05)]
    assert min(quiet) < 1e-4 * before  # silence between the beats
    assert 0.01 * before < max(quiet) < 0.5 * before
    beats = np.diff((np.array(quiet) > 0.01 * before).astype(int)) == 1
    assert 5 <= beats.sum() <= 8  # about one a second
    assert loudest_between(samples, 14.5, 18) > 0.5 * before
    for voice in score.voices[:3]:
        assert at(voice, voice.amplitudes, 5.9) > 0.1
        assert at(voice, voice.amplitudes, 6.0) == 0


def test_only_the_broken_group_stops(make_run, calm):
    norms = calm(200, 3)
    norms[100:, 2] = np.inf
    early, middle, late = sonify_run(make_run(norms)).voices[:3]
    assert at(early, early.amplitudes, 15.0) > 0.1
    assert at(middle, middle.amplitudes, 15.0) > 0.1
    assert at(late, late.amplitudes, 15.0) == 0


def test_zero_falls_to_131_hz_without_harmonics_and_12_phon(make_run):
    norms = np.ones((200, 1))
    norms[100:] = 0
    score = sonify_run(make_run(norms))
    samples = render(score).samples[:, 1].astype(np.float64)
    alive, dead = samples[4 * RATE : 8 * RATE], samples[12 * RATE : 16 * RATE]
    power = np.abs(np.fft.rfft(dead * np.hanning(len(dead)))) ** 2
    frequencies = np.fft.rfftfreq(len(dead), 1 / RATE)
    assert frequencies[power.argmax()] == pytest.approx(130.8125, abs=0.25)
    assert power[np.abs(frequencies - 130.8125) > 10].sum() < 1e-8 * power.sum()
    raised = 20 * np.log10(equal_loudness(130.8125) / equal_loudness(523.25))
    assert 10 * np.log10((dead**2).mean() / (alive**2).mean()) - raised == pytest.approx(-12.04, abs=0.1)
    assert [(event.kind, event.step, event.text) for event in score.events] == [
        ("zero", 100, "grad_norm of middle layers is exactly 0")
    ]


def test_not_observed_is_silence(make_run, calm, unobserved):
    norms = calm(200, 3).astype(np.float32)
    norms[80:140] = unobserved((60, 3))
    score = sonify_run(make_run(norms))
    samples = render(score).samples
    assert not samples[round(8.3 * RATE) : round(13.9 * RATE)].any()
    assert samples[: 8 * RATE].any()
    assert samples[round(14.1 * RATE) :].any()
    assert len(score.voices) == 3
    assert [(event.kind, event.step) for event in score.events] == [("missing", 81)]
    assert "early layers, middle layers, late layers is not observed" in score.transcript()


def finding(step, severity):
    return Finding(
        "T001", "test", severity, "", step, f"Bad since {step}.", (Evidence("loss", "", step, 1.0),), ("Try.",)
    )


def test_findings_are_heard_and_written(make_run, calm):
    findings = [finding(120, "critical"), finding(30, "info"), finding(40, "warning"), finding(199, "warning")]
    run = make_run(calm(200, 3))
    score = sonify_run(run, findings)
    assert [(event.time, event.text) for event in score.events] == [
        (3.0, "Bad since 30."),
        (4.0, "Bad since 40."),
        (12.0, "Bad since 120."),
        (pytest.approx(19.9), "Bad since 199."),
    ]
    assert len(score.transcript().splitlines()) == 4
    assert score.duration > 20.0  # the last earcon is not cut
    with_events, without = render(score).samples, render(sonify_run(run)).samples
    scale = score.gain / sonify_run(run).gain
    added = np.abs(with_events[: len(without)] - scale * without)
    assert added[round(4.0 * RATE) : round(4.2 * RATE)].max() > 0.02
    assert added[round(5.0 * RATE) : round(11.9 * RATE)].max() < 1e-4


def scenarios(calm):
    base = calm(200, 6)
    ramp = 10 ** np.linspace(0, 8, 200)[:, None]
    broken, dead = base.copy(), base.copy()
    broken[100:] = np.nan
    dead[50:] = 0
    return {"calm": base, "exploding": base * ramp, "vanishing": base / ramp, "nan": broken, "dead": dead}


def test_loudness_peak_and_offset(make_run, calm):
    for name, norms in scenarios(calm).items():
        samples = render(sonify_run(make_run(norms))).samples
        assert integrated_loudness(samples, RATE) == pytest.approx(-23, abs=1), name
        assert 20 * np.log10(true_peak(samples)) <= -1, name
        assert 20 * np.log10(np.abs(samples.mean(0, dtype=np.float64)).max()) <= -60, name


def test_the_alarm_is_at_most_10_db_over_the_bed(make_run, calm):
    norms = calm(200, 6)
    norms[100:] = np.nan
    samples = render(sonify_run(make_run(norms))).samples
    bed = integrated_loudness(samples[3 * RATE : 9 * RATE], RATE)
    alarm = integrated_loudness(samples[10 * RATE : round(11.1 * RATE)], RATE)
    assert 3 <= alarm - bed <= 10


@pytest.mark.parametrize(
    "norms",
    [
        np.empty((0, 0)),
        np.empty((0, 3)),
        np.ones((1, 1)),
        np.ones((1, 4)),
        np.ones((2, 2)),
        np.full((20, 2), np.nan),
        np.full((20, 2), np.inf),
        np.zeros((20, 2)),
        np.full((20, 2), -3.0),
        np.full((20, 2), 1e-45),
        np.full((20, 2), 3.4e38),
        np.geomspace(1e-45, 3e38, 200)[:, None],
        np.where(np.arange(40) % 2, 1.0, np.nan)[:, None],
        np.where(np.arange(40) % 2, 1.0, 0.0)[:, None],
        np.where(np.arange(5000) % 2, 1.0, np.nan)[:, None],
        np.ones((3, 10_000)),
    ],
    ids=str,
)
@pytest.mark.parametrize("mapping", ["vitals", "perone2019"])
@pytest.mark.filterwarnings("ignore:.*perone2019:UserWarning")
def test_anything_gives_finite_samples(make_run, norms, mapping):
    score = sonify_run(make_run(norms), [finding(0, "critical")], Request(seconds=2.0), mapping=mapping)
    audio = render(score)
    assert np.isfinite(audio.samples).all()
    assert len(audio.samples) == round(score.duration * RATE)


def test_nothing_recorded_is_silent(make_run):
    audio = render(sonify_run(make_run({})))
    assert audio.samples.shape == (RATE, 2)
    assert not audio.samples.any()


def test_no_step_is_steeper_than_the_voices_allow(make_run, calm, unobserved):
    norms = calm(200, 6).astype(np.float32)
    norms[30:40, :2] = 0
    norms[60:70, 2:4] = unobserved((10, 2))
    norms[100:110] = np.nan
    samples = render(sonify_run(make_run(norms))).samples.astype(np.float64)
    steepest = np.abs(np.diff(samples, axis=0)).max(1)
    alarm = slice(round(9.99 * RATE), round(11.2 * RATE))
    steepest[alarm] = 0
    steady = steepest[round(12 * RATE) : round(19 * RATE)].max()
    for edge in (3.0, 4.0, 6.0, 7.0, 11.0):
        around = steepest[round((edge - 0.02) * RATE) : round((edge + 0.12) * RATE)]
        assert around.max() <= 1.05 * steady


def test_the_same_run_sounds_the_same_cut_or_whole(make_run, calm):
    run = make_run(calm(400, 6))
    whole, part = sonify_run(run), sonify_run(run.until(199))
    assert whole.references == part.references
    for a, b in zip(whole.voices, part.voices):
        for time in np.arange(1.0, 18.0, 0.37):
            assert at(a, a.frequencies, time) == pytest.approx(at(b, b.frequencies, time))
