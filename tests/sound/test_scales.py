import numpy as np
import pytest

from auscult.core.errors import SetupError
from auscult.sound.scales import linear_frequency, soft_log_frequency, tremolo_rate


def cents(low, high):
    return 1200 * np.log2(high / low)


def test_the_published_table():
    ratios = [0, 1e-3, 0.01, 0.1, 1, 2, 10, 100, 1e3, 1e4, 1e6, np.inf]
    table = [130.8, 149.2, 182.0, 275.7, 523.25, 643.7, 993.0, 1504, 1835, 1991, 2079, 2093]
    np.testing.assert_allclose(soft_log_frequency(ratios, 1.0), table, rtol=5e-4)


def test_every_value_gives_an_audible_frequency():
    values = np.concatenate([[0.0, 5e-324, 1e-310], 10.0 ** np.arange(-38, 39), [1e308, np.inf]])
    for reference in (1e-30, 1e-3, 1.0, 1e30):
        frequencies = soft_log_frequency(values, reference)
        assert np.isfinite(frequencies).all()
        assert frequencies.min() >= 130.81
        assert frequencies.max() <= 2093.0
        assert (np.diff(frequencies) >= 0).all()


def test_decades_stay_apart():
    frequencies = soft_log_frequency(10.0 ** np.arange(-6, 7), 1.0)
    steps = cents(frequencies[:-1], frequencies[1:])
    assert (steps >= 15).all()
    assert (steps[1:-1] >= 50).all()
    assert (np.diff(soft_log_frequency(np.geomspace(1e-6, 1e6, 100_001), 1.0)) > 0).all()


def test_a_norm_of_441_is_not_a_norm_of_0():
    assert cents(soft_log_frequency(0.0, 1.0), soft_log_frequency(441.0, 1.0)) >= 1200
    assert linear_frequency(441.0) == 44_300  # which 44,100 Hz would play as 200 Hz, the tone of norm 0


def test_ten_per_cent_are_five_cents_within_two_decades():
    generator = np.random.default_rng(1)
    larger = 10 ** generator.uniform(-2, 2, 10_000)
    smaller = larger * generator.uniform(0, 0.9, 10_000)
    assert (cents(soft_log_frequency(smaller, 1.0), soft_log_frequency(larger, 1.0)) >= 5).all()


def test_the_tremolo_says_how_far():
    np.testing.assert_allclose(tremolo_rate([0, 1.99, 2, 3, 4, 38, np.inf, -2, -3]), [0, 0, 4, 8, 16, 16, 16, 4, 8])


@pytest.mark.parametrize(("value", "reference"), [(np.nan, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, np.inf), (1.0, np.nan)])
def test_what_has_no_pitch_is_refused(value, reference):
    with pytest.raises(SetupError):
        soft_log_frequency(value, reference)
