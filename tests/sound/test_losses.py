"""The loss is heard whatever it is called: behind the layers where asked for, and as the pitch where there are none."""

import numpy as np
import pytest

from auscult.core.errors import SetupError
from auscult.core.run import Run, RunInfo, Segment
from auscult.core.sink import NOT_OBSERVED_64, Channel
from auscult.sound.losses import find_losses
from auscult.sound.mappings import MAPPINGS, sonify_run
from auscult.sound.request import Request
from auscult.sound.scales import frequency_of
from auscult.sound.synth import render

STEPS = 100
FALLING = np.geomspace(2.0, 0.02, STEPS)


@pytest.fixture
def logged(make_run):
    """Makes a run without layers: a stream to its channels and their values; `every` is its cadence in steps."""

    def make(channels: dict[Channel, np.ndarray], stream: str = "user", every: int = 1) -> Run:
        source = make_run(np.ones((STEPS * every, 1))).source
        steps = np.arange(STEPS) * every
        values = np.stack(list(channels.values()), 1).astype(np.float64)
        source.tables = {"steps": source.tables["steps"], stream: (tuple(channels), steps, values)}
        return Run(RunInfo("id", "test", 0.0, 1, {}, (), 0, None, {}, "h", ()), (Segment(0, 0.0),), source)

    return make


@pytest.mark.parametrize(
    "name", ["loss", "train/loss", "train_loss", "Training_Loss", "loss/train", "g_loss", "loss.kl", "val/loss"]
)
def test_a_run_with_only_a_loss_is_heard_by_it(logged, name):
    score = sonify_run(logged({Channel("accuracy", ""): np.ones(STEPS), Channel(name, ""): FALLING}))
    assert score.metric == "loss" and score.references == {"loss": pytest.approx(np.sqrt(FALLING[24] * FALLING[25]))}
    (voice,) = score.voices
    assert (voice.name, voice.pan, voice.timbre) == ("loss", 0.0, "hollow")
    heard = np.interp([2.05, 10.05], voice.times, voice.frequencies)
    expected = frequency_of(np.log10(FALLING[[17, 83]] / np.median(FALLING[:50])))
    np.testing.assert_allclose(heard, expected, rtol=0.01)
    assert render(score).samples.any()
    assert score.events[0].text == "no grad_norm was recorded: the pitch is that of the loss"


def test_the_training_loss_comes_before_the_others(logged):
    run = logged({Channel(name, ""): FALLING for name in ("val/loss", "d_loss", "train/loss", "loss")})
    assert list(find_losses(run)[1]) == ["loss"]
    run = logged({Channel(name, ""): FALLING for name in ("val/loss", "d_loss", "g_loss")})
    assert list(find_losses(run)[1]) == ["d_loss", "g_loss"]
    assert find_losses(logged({Channel("glossary", ""): FALLING}))[1] == {}


def test_categories_are_one_voice_and_each_counts_from_its_own_beginning(logged):
    gaps = np.full(STEPS, NOT_OBSERVED_64).view(np.float64)
    cats, dogs = gaps.copy(), gaps.copy()
    cats[::2], dogs[1::2] = 100.0, 0.1
    run = logged({Channel("category_loss", "cats"): cats, Channel("category_loss", "dogs"): dogs})
    assert list(find_losses(run)[1]) == ["cats", "dogs"]
    dull, bright = (v for v in sonify_run(run, (), Request(context=("loss",))).voices if v.part == "context")
    np.testing.assert_allclose(dull.amplitudes[20:-20], bright.amplitudes[20:-20])  # as at the beginning
    broken = cats.copy()
    broken[60] = np.inf
    run = logged({Channel("category_loss", "cats"): broken, Channel("category_loss", "dogs"): dogs})
    (alarm,) = (each for each in sonify_run(run).events if each.kind == "nan")
    assert (alarm.step, alarm.text) == (60, "loss of cats is not finite (inf)")


def test_a_loss_below_zero_is_low_and_no_silence(logged):
    values = FALLING.copy()
    values[60:] = -3.0
    score = sonify_run(logged({Channel("loss", ""): values}))
    (voice,) = score.voices
    assert np.interp(9.0, voice.times, voice.frequencies) == pytest.approx(130.8, abs=0.1)
    assert render(score).samples[round(9.0 * 44_100) :][:4410].any()


def test_a_sparse_loss_is_held_until_the_next(logged):
    score = sonify_run(logged({Channel("loss", ""): FALLING}, every=50))
    assert [each.kind for each in score.events] == ["missing"] and "the pitch" in score.events[0].text
    loud = score.voices[0].amplitudes[(score.voices[0].times > 1) & (score.voices[0].times < score.duration - 1)]
    assert loud.min() > 0


def test_the_loss_may_be_asked_for_although_there_are_layers(make_run, calm):
    run = make_run(calm(STEPS, 6))
    run.source.tables["user"] = ((Channel("loss", ""),), np.arange(STEPS), FALLING[:, None])
    assert sonify_run(run).metric == "grad_norm"
    score = sonify_run(run, (), Request(metric="loss"))
    assert [voice.name for voice in score.voices] == ["loss"] and not score.events


@pytest.mark.parametrize("mode", [mode for mode in MAPPINGS["vitals"] if mode != "solo"])
def test_a_nan_in_the_loss_sounds_the_alarm_in_every_mode(logged, mode):
    values = FALLING.copy()
    values[70:] = np.nan
    score = sonify_run(logged({Channel("train/loss", ""): values}), mode=mode)
    (alarm,) = (each for each in score.events if each.kind == "nan")
    assert (alarm.step, alarm.text) == (70, "train/loss is not finite (nan)")
    assert score.voices[0].name == "loss" and score.voices[0].timbre == "hollow"


def test_the_total_norm_is_called_what_it_is(logged):
    values = 10 / FALLING
    values[80] = np.inf
    run = logged({Channel("grad_norm", ""): values, Channel("loss", ""): FALLING})
    for mode in ("mix", "arpeggio", "step"):
        score = sonify_run(run, mode=mode)
        assert score.metric == "grad_norm" and score.voices[0].name == "whole model"
        assert [each.text for each in score.events] == ["grad_norm of whole model is not finite (inf)"]


def test_what_was_not_recorded_is_said(logged):
    run = logged({Channel("accuracy", ""): np.ones(STEPS)})
    score = sonify_run(run, (), Request(context=("loss", "epochs")))
    assert [each.text for each in score.events] == [
        "nothing is heard of loss: it was not recorded",
        "nothing is heard of epochs: it was not recorded",
        "no grad_norm was recorded: nothing has a pitch",
    ]
    assert not render(score).samples.any()
    with pytest.raises(SetupError, match="has loss"):
        sonify_run(logged({Channel("loss", ""): FALLING}), (), Request(path="conv1"), mode="solo")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_an_alarm_whichever_way_it_went(logged, value):
    losses = FALLING.copy()
    losses[50] = value
    (event,) = sonify_run(logged({Channel("loss", ""): losses}), (), Request("loss")).events
    assert (event.kind, event.step, event.text) == ("nan", 50, f"loss is not finite ({value})")
