import numpy as np
import pytest

from auscult.sound.mappings import sonify_run
from auscult.sound.request import Request


def test_an_explosion_that_runs_from_late_to_early_layers_is_heard_as_a_direction(make_run):
    norms = np.ones((240, 6))
    for layer in range(6):
        norms[60 + 20 * (5 - layer) :, layer] = 1e3
    score = sonify_run(make_run(norms), (), Request(seconds=24.0), mode="arpeggio")
    layers = [voice for voice in score.voices if voice.part == "layers"]
    assert [voice.name for voice in layers] == [f"layer{k}.weight" for k in range(6)]
    np.testing.assert_allclose([voice.pan for voice in layers], np.linspace(-0.8, 0.8, 6))
    begins = [voice.times[np.argmax(voice.frequencies > 1000)] for voice in layers]
    assert (np.diff(begins) < -1.0).all()  # the last layer first
    starts = np.stack([voice.times for voice in layers])
    assert (np.diff(starts, axis=0) > 0.06).all()  # within a sweep, early to late
    assert all(voice.durations.min() >= 0.06 and voice.durations.max() <= 0.12 for voice in layers)


def test_many_layers_share_twelve_notes(make_run):
    score = sonify_run(make_run(np.ones((50, 64))), mode="arpeggio")
    assert len(score.voices) == 12 and score.voices[0].name == "layer0.weight to layer4.weight"
    covered = [voice.name.count("weight") for voice in score.voices]
    assert covered == [2] * 12


def test_in_a_sweep_nan_is_silent_zero_is_low_and_missing_is_silent(make_run, unobserved):
    norms = np.ones((200, 4), np.float32)
    norms[100:, 0] = np.nan
    norms[100:, 1] = 0
    norms[100:150, 2] = unobserved((50,))
    score = sonify_run(make_run(norms), (), Request(seconds=20.0), mode="arpeggio")
    voices = {voice.name: voice for voice in score.voices}
    late = voices["layer0.weight"].times > 10.6
    assert not voices["layer0.weight"].amplitudes[late].any()
    assert not voices["layer1.weight"].amplitudes[late].any()
    hum = voices["layer1.weight, zero"]
    assert hum.times.min() >= 9.5 and np.allclose(hum.frequencies, 130.8125)
    gone = (voices["layer2.weight"].times > 11) & (voices["layer2.weight"].times < 14)
    assert not voices["layer2.weight"].amplitudes[gone].any()
    assert voices["layer3.weight"].amplitudes.all()
    assert [event.kind for event in score.events] == ["nan", "zero", "missing"]


def test_each_step_is_a_chord_with_at_least_20_ms_of_silence(make_run):
    norms = np.stack([np.full(20, 1.0), np.linspace(1, 100, 20), np.full(20, 5.0)], 1)
    score = sonify_run(make_run(norms), mode="step")
    assert score.duration == pytest.approx(5.0)
    early, middle, late = score.voices[:3]
    for voice in (early, middle, late):
        np.testing.assert_allclose(voice.times, np.arange(20) * 0.25)
        rest = voice.times[1:] - (voice.times + voice.durations)[:-1]
        assert (rest >= 0.02 - 1e-9).all() and (voice.durations >= 0.06).all()
    assert (np.diff(middle.frequencies) > 0).all()


def test_step_mode_plays_the_steps_asked_for_and_says_what_it_leaves_out(make_run, monkeypatch):
    monkeypatch.setattr("auscult.sound.notes.LONGEST", 20.0)  # in place of ten minutes
    run = make_run(np.ones((3000, 1)))
    assert sonify_run(run, (), Request(steps=(100, 119)), mode="step").steps.tolist() == list(range(100, 120))
    assert len(sonify_run(run, (), Request(seconds=2.0), mode="step").steps) == 8
    with pytest.warns(UserWarning, match="only the first 80"):
        score = sonify_run(run, mode="step")
    assert len(score.steps) == 80


def test_solo_is_one_layer_or_one_module(make_run):
    norms = np.stack([np.ones(100), np.full(100, 7.0), np.geomspace(1, 1e4, 100)], 1)
    run = make_run({"a.weight": norms[:, 0], "a.bias": norms[:, 1], "b.weight": norms[:, 2]})
    score = sonify_run(run, (), Request(path="b.weight"), mode="solo")
    assert [(voice.name, voice.pan) for voice in score.voices] == [("b.weight", 0.0)]
    assert score.voices[0].frequencies[-1] > 1000
    assert sonify_run(run, (), Request(path="a"), mode="solo").references["a"] == pytest.approx(np.sqrt(7.0))


@pytest.mark.parametrize("mode", ["arpeggio", "step"])
def test_where_the_schedule_measures_seldom_a_note_is_held_until_the_next_measurement(make_run, unobserved, mode):
    norms = np.repeat(np.geomspace(1.0, 1e3, 20)[:, None], 3, 1).repeat(16, 0).astype(np.float32)
    norms[np.arange(320) % 16 > 0] = unobserved((300, 3))
    score = sonify_run(make_run(norms), mode=mode)
    for voice in score.voices[:3]:
        assert voice.amplitudes.all() and (np.diff(voice.frequencies) >= 0).all()
    if mode == "step":
        assert len(np.unique(score.voices[0].frequencies.round(6))) == 20
        assert (np.diff(score.voices[0].frequencies.reshape(20, 16), axis=1) == 0).all()
    assert score.events == ()
