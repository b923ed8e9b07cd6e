import numpy as np
import pytest

from auscult.core.score import SoundEvent
from auscult.sound.earcons import EARCONS, earcon_voices, name_of

RATE = 44_100


@pytest.mark.parametrize("name", list(EARCONS))
def test_earcons_are_finite_ramped_and_end_in_time(name, heard):
    samples = heard(name, RATE)
    assert np.isfinite(samples).all()
    assert len(samples) == round(EARCONS[name].duration * RATE)
    assert abs(samples[0]) == 0
    assert abs(samples[-1]) < 1e-3
    assert abs(samples.mean()) < 1e-3


def test_the_alarm_is_three_and_two_pulses_of_150_ms(heard):
    samples = heard("nan", RATE)
    width = round(0.01 * RATE)
    sounding = np.abs(samples[: len(samples) // width * width].reshape(-1, width)).max(1) > 0.05
    edges = np.flatnonzero(np.diff(sounding.astype(int), prepend=0, append=0)) * 0.01
    np.testing.assert_allclose(edges[::2], [0.0, 0.2, 0.4, 0.75, 0.95], atol=0.011)
    np.testing.assert_allclose(edges[1::2] - edges[::2], 0.15, atol=0.011)


def test_the_alarm_has_440_hz_and_five_harmonics(heard):
    pulse = heard("nan", RATE)[: round(0.15 * RATE)]
    power = np.abs(np.fft.rfft(pulse * np.hanning(len(pulse)))) ** 2
    frequencies = np.fft.rfftfreq(len(pulse), 1 / RATE)
    inside = np.zeros(len(power), bool)
    for k in range(1, 7):
        band = np.abs(frequencies - 440 * k) < 20
        assert power[band].sum() > 0.02 * power.sum()
        inside |= band
    assert power[inside].sum() > 0.999 * power.sum()


def test_no_two_earcons_are_alike(heard):
    samples = {name: heard(name, 22_050) for name in EARCONS}
    for first, a in samples.items():
        for second, b in samples.items():
            if first < second:
                length = len(a) + len(b)
                cross = np.fft.irfft(np.fft.rfft(a, length) * np.conj(np.fft.rfft(b, length)), length)
                assert np.abs(cross).max() < 0.3 * np.sqrt((a @ a) * (b @ b)), (first, second)


def test_findings_sound_as_their_severity_and_absence_as_nothing():
    finding = [SoundEvent(0.0, "finding", "text", 1, severity) for severity in ("info", "warning", "critical")]
    assert [name_of(each) for each in finding] == ["info", "warning", "critical"]
    others = [SoundEvent(0.0, kind, "text", 1) for kind in ("nan", "stalled", "excursion", "zero", "missing")]
    assert [name_of(each) for each in others] == ["nan", "stalled", "excursion", None, None]
    assert [voice.name for voice in earcon_voices([*finding, *others])] == list(EARCONS)


def test_an_earcon_is_heard_at_each_of_its_times():
    (voice,) = earcon_voices([SoundEvent(time, "finding", "text", 1, "warning") for time in (1.0, 5.0)])
    np.testing.assert_allclose(voice.times, [1.0, 1.13, 5.0, 5.13])
    np.testing.assert_allclose(voice.frequencies, [587.33, 783.99] * 2)
    assert voice.part == "alerts"
