import numpy as np
import pytest

from auscult.core.errors import SetupError
from auscult.core.score import Score, SoundEvent, Voice
from auscult.sound.synth import render
from auscult.sound.tempo import at_speed

RATE = 44_100


def test_twice_as_fast_is_half_as_long_and_as_high() -> None:
    times = np.array([0.0, 2.0, 2.001, 4.0])
    glide = Voice("g", times, np.array([300.0, 300.0, 700.0, 700.0]), np.full(4, 0.3))
    tones = Voice("t", np.array([1.0]), np.array([441.0]), np.array([0.1]), durations=np.array([0.5]))
    score = Score("t", "test", 4.0, (glide, tones), (SoundEvent(2.0, "nan", "x", 5),), times[:2], np.array([0, 9]))
    fast = at_speed(score, 2.0)
    assert fast.duration == 2.0 and fast.events[0].time == 1.0 and fast.step_times.tolist() == [0.0, 1.0]
    assert fast.voices[1].times.tolist() == [0.5] and fast.voices[1].durations is not None
    assert fast.voices[1].durations.tolist() == [0.25]
    samples = render(fast, RATE).samples[:, 0]
    for start, expected in ((0, 300), (RATE, 700)):
        spectrum = np.abs(np.fft.rfft(samples[start + 100 : start + RATE - 100] * np.hanning(RATE - 200)))
        assert np.fft.rfftfreq(RATE - 200, 1 / RATE)[spectrum.argmax()] == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf"), 100.0])
def test_impossible_speeds_are_refused(speed: float) -> None:
    with pytest.raises(SetupError, match="speed"):
        at_speed(Score("t", "test", 1.0, ()), speed)
