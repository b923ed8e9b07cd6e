import numpy as np
import pytest

from auscult.core.run import Run
from auscult.core.sink import Channel
from auscult.sound.context import context_voices
from auscult.sound.mappings import sonify_run
from auscult.sound.request import Request

STEPS = np.arange(200)
TIMES = STEPS / 10


@pytest.fixture
def run_with(make_run, calm):
    """Makes a run of 200 steps with further series, each a metric and its values; `evaluated` are steps."""

    def make(stream="user", evaluated=(), path="", **series) -> Run:
        run = make_run(calm(200, 3))
        if series:
            channels = tuple(Channel(name, path) for name in series)
            values = np.stack(list(series.values()), 1).astype(np.float64)
            if stream in run.source.tables:
                old, _, rows = run.source.tables[stream]
                channels, values = old + channels, np.concatenate([rows, values.astype(np.float32)], 1)
            run.source.tables[stream] = (channels, STEPS, values)
        if len(evaluated):
            rows = np.ones((len(evaluated), 1))
            run.source.tables["evaluation"] = ((Channel("val/loss", ""),), np.array(evaluated), rows)
        return run

    return make


def voices(run, *wanted):
    return context_voices(run, wanted, STEPS, TIMES, 20.0)


def test_a_high_loss_is_bright_and_a_low_one_dull(run_with):
    loss = np.concatenate([np.full(100, 2.0), np.full(100, 0.02)])
    dull, bright = voices(run_with(loss=loss), "loss")
    assert {dull.timbre, bright.timbre} == {"dull", "brilliant"}
    early, late = ([np.interp(at, v.times, v.amplitudes) for v in (dull, bright)] for at in (5.0, 15.0))
    assert early[1] == pytest.approx(early[0])  # as at the beginning: half and half
    assert late[0] > 5 * late[1]
    power = dull.amplitudes**2 + bright.amplitudes**2
    np.testing.assert_allclose(power[20:-20], power[100])


def test_ticks_of_the_learning_rate_are_two_a_second_at_first_and_fewer_as_it_falls(run_with):
    lr = np.concatenate([np.full(100, 0.1), np.full(100, 0.01)])
    (ticks,) = voices(run_with(stream="steps", path="0", lr=lr), "lr")
    gaps = np.diff(ticks.times)
    assert np.median(gaps[ticks.times[1:] < 9]) == pytest.approx(0.5, abs=0.02)
    assert np.median(gaps[ticks.times[1:] > 11.5]) == pytest.approx(0.5 * 2 ** (2 * np.tanh(1)), abs=0.05)
    assert not voices(run_with(stream="steps", path="0", lr=np.zeros(200)), "lr")


def test_clipping_clicks_where_it_acts_at_most_ten_times_a_second(run_with):
    ratio = np.full(200, 0.5)
    ratio[[30, 70]] = 2.0
    ratio[100:150] = 3.0
    (clicks,) = voices(run_with(stream="steps", clip_ratio=ratio), "clipping")
    np.testing.assert_allclose(clicks.times[:2], [3.0, 7.0])
    assert len(clicks.times) == 52 and np.diff(clicks.times).min() >= 0.1 - 1e-9


def test_epochs_are_the_logged_ones_or_the_evaluations(run_with):
    logged = run_with(epoch=np.repeat(np.arange(4.0), 50), evaluated=(10, 20))
    np.testing.assert_allclose(voices(logged, "epochs")[0].times, [5.0, 10.0, 15.0])
    evaluated = run_with(evaluated=(10, 12, 60, 199))
    np.testing.assert_allclose(voices(evaluated, "epochs")[0].times, [1.0, 6.0, 19.9])


def test_nothing_recorded_is_nothing_heard_and_a_score_has_only_what_is_asked_for(run_with):
    assert not voices(run_with(), "loss", "lr", "clipping", "epochs")
    run = run_with(loss=np.ones(200), epoch=np.repeat(np.arange(2.0), 100))
    asked = sonify_run(run, (), Request(context=("epochs",)))
    assert [voice.name for voice in asked.voices if voice.part == "context"] == ["epochs"]
    assert not [voice for voice in sonify_run(run).voices if voice.part == "context"]
    bad = run_with(loss=np.where(STEPS % 2, np.nan, -1.0))
    assert not voices(bad, "loss")
