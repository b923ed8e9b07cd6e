import numpy as np
import pytest

from auscult.core.errors import SetupError
from auscult.sound.mappings import sonify_run
from auscult.sound.request import Request
from auscult.sound.synth import render


def original(norms, rate=44_100):
    """The published loop, in float64."""
    frames = []
    for row in norms:
        for norm in row:
            frames.append(0.1 * np.sin(2 * np.pi * np.arange(441) * (200 + 100 * norm) / rate))
        frames.append(np.zeros(882))
    return np.concatenate(frames)


def test_sample_for_sample(make_run):
    norms = np.random.default_rng(0).uniform(0, 218, (201, 4)).astype(np.float32).astype(np.float64)
    score = sonify_run(make_run(norms), mapping="perone2019")
    audio = render(score)
    assert audio.samples.shape == (531_846, 1)
    assert audio.sample_rate == 44_100
    assert score.gain == 1.0
    assert np.abs(audio.samples[:, 0] - original(norms)).max() <= 1e-6


def test_only_weights_are_layers(make_run):
    series = {"a.weight": np.ones(3), "a.bias": np.ones(3), "b.weight": np.full(3, 2.0)}
    score = sonify_run(make_run(series, shapes={"a.bias": (4,)}), mapping="perone2019")
    np.testing.assert_allclose(score.voices[0].frequencies, [300, 400] * 3)
    np.testing.assert_allclose(score.step_times, [0, 0.04, 0.08])


def test_beyond_half_the_sample_rate_it_clamps_and_warns_once(make_run):
    norms = np.array([[218.4, 218.5], [441.0, 1e38]])
    with pytest.warns(UserWarning, match="3 of 4 tones") as caught:
        score = sonify_run(make_run(norms), mapping="perone2019")
    assert len(caught) == 1
    assert score.voices[0].frequencies[0] == pytest.approx(22_040)
    assert (score.voices[0].frequencies[1:] < 22_050).all()
    assert (score.voices[0].frequencies[1:] > 22_000).all()
    samples = render(score).samples[:, 0]
    assert np.abs(samples).max() <= 0.1 + 1e-6
    assert np.abs(samples[441 + 441 + 882 :][:441]).max() > 0.09  # norm 441 is heard, and not at 200 Hz


def test_what_is_not_finite_is_a_silent_tone_with_words(make_run):
    norms = np.ones((40, 2))
    norms[10, 1], norms[20:, 0] = np.nan, np.inf
    score = sonify_run(make_run(norms), mapping="perone2019")
    samples = render(score).samples[:, 0]
    assert len(samples) == 40 * (2 * 441 + 882)
    steps = samples.reshape(40, -1)
    assert not steps[10, 441:882].any()
    assert not steps[20:, :441].any()
    assert steps[:20, :441].any(1).all()
    assert [event.step for event in score.events] == [10]
    assert "layer1.weight is not finite (nan)" in score.transcript()
    assert "until step 20" in score.transcript()  # within two seconds: the same alarm


def test_seconds_leave_out_steps_at_the_end(make_run):
    run = make_run(np.ones((100, 4)))
    assert sonify_run(run, (), Request(seconds=0.6), mapping="perone2019").duration == pytest.approx(0.6)
    assert len(sonify_run(run, (), Request(seconds=0.6), mapping="perone2019").steps) == 10
    with pytest.warns(UserWarning, match="first 10000 are heard"):
        score = sonify_run(make_run(np.ones((10_001, 4))), mapping="perone2019")
    assert score.duration == pytest.approx(600)


def test_nothing_recorded_is_silence(make_run):
    score = sonify_run(make_run({}), mapping="perone2019")
    assert render(score).samples.shape == (0, 1)
    with pytest.raises(SetupError, match="grad_norm"):
        sonify_run(make_run(np.ones((3, 1))), (), Request(metric="update_ratio"), mapping="perone2019")
    with pytest.raises(SetupError, match="nothing but `seconds`"):
        sonify_run(make_run(np.ones((3, 1))), (), Request(polarity="down"), mapping="perone2019")
