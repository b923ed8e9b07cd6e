import numpy as np
import pytest

from auscult.core.score import SoundEvent
from auscult.sound.earcons import EARCONS, earcon_of, synthesize

RATE = 44_100


@pytest.mark.parametrize("name", list(EARCONS))
def test_earcons_are_finite_ramped_and_end_in_time(name):
    samples = synthesize(EARCONS[name], RATE)
    assert np.isfinite(samples).all()
    assert len(samples) == round(EARCONS[name].duration * RATE)
    assert abs(samples[0]) == 0
    assert abs(samples[-1]) < 1e-3
    assert abs(samples.mean()) < 1e-3


def test_the_alarm_is_three_and_two_pulses_of_150_ms():
    samples = synthesize(EARCONS["nan"], RATE)
    width = round(0.01 * RATE)
    sounding = np.abs(samples[: len(samples) // width * width].reshape(-1, width)).max(1) > 0.05
    edges = np.flatnonzero(np.diff(sounding.astype(int), prepend=0, append=0)) * 0.01
    np.testing.assert_allclose(edges[::2], [0.0, 0.2, 0.4, 0.75, 0.95], atol=0.011)
    np.testing.assert_allclose(edges[1::2] - edges[::2], 0.15, atol=0.011)


def test_the_alarm_has_440_hz_and_five_harmonics():
    pulse = synthesize(EARCONS["nan"], RATE)[: round(0.15 * RATE)]
    power = np.abs(np.fft.rfft(pulse * np.hanning(len(pulse)))) ** 2
    frequencies = np.fft.rfftfreq(len(pulse), 1 / RATE)
    inside = np.zeros(len(power), bool)
    for k in range(1, 7):
        band = np.abs(frequencies - 440 * k) < 20
        assert power[band].sum() > 0.02 * power.sum()
        inside |= band
    assert power[inside].sum() > 0.999 * power.sum()


def test_no_two_earcons_are_alike():
    samples = {name: synthesize(earcon, 22_050).astype(float) for name, earcon in EARCONS.items()}
    for first, a in samples.items():
        for second, b in samples.items():
            if first < second:
                length = len(a) + len(b)
                cross = np.fft.irfft(np.fft.rfft(a, length) * np.conj(np.fft.rfft(b, length)), length)
                assert np.abs(cross).max() < 0.3 * np.sqrt((a @ a) * (b @ b)), (first, second)


def test_findings_sound_as_their_severity():
    event = SoundEvent(0.0, "finding", "text", 1, "critical")
    assert earcon_of(event) is EARCONS["critical"]
    assert earcon_of(SoundEvent(0.0, "finding", "text", 1, "warning")) is EARCONS["warning"]
    assert earcon_of(SoundEvent(0.0, "nan", "text", 1)) is EARCONS["nan"]
