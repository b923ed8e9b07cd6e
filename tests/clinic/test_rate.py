"""Rate: Wilson's interval against published figures, the permutation test against SciPy and by hand."""

from math import comb, isnan, nan

import numpy as np
import pytest

from auscult.clinic.rate import Z95, Rate, bounded, lower_by_chance


@pytest.mark.parametrize(
    ("count", "units", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (score without continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_interval_is_wilsons_as_published(count, units, low, high) -> None:
    assert Rate(count, units).interval == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("count", [0.4, 7.6, 10.0])
def test_ends_solve_wilsons_quadratic_for_effective_counts_too(count) -> None:
    rate = Rate(count, 10)
    for end in rate.interval:
        assert (rate.value - end) ** 2 == pytest.approx(Z95**2 * end * (1 - end) / 10, abs=1e-12)


def test_rate_sums_units_and_knows_nothing_of_none() -> None:
    assert Rate.over([1.0, 0.2, 0.0, 0.8]).value == 0.5 and Rate.over([1.0, 0.2]).units == 2
    assert isnan(Rate.over([]).value) and Rate.over([]).interval == (0.0, 1.0)


def test_the_rarest_division_is_one_of_all() -> None:
    assert lower_by_chance([0.1, 0.2, 0.3, 0.2, 0.1], [0.9, 0.8, 0.95, 0.85, 0.9]) == 1 / comb(10, 5)
    assert lower_by_chance([0.9, 0.8, 0.7], [0.1, 0.2, 0.3]) == 1.0
    assert lower_by_chance([0.5, 0.5], [0.5, 0.5]) == 1.0
    assert lower_by_chance([], [1.0]) == 1.0


def test_a_mixed_division_counted_by_hand() -> None:
    # Means of two of {1, 2, 3, 4}: only {1, 2} lies below {1, 3}.
    assert lower_by_chance([1, 3], [2, 4]) == 2 / 6


@pytest.mark.parametrize("seed", range(3))
def test_p_is_scipys(seed) -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(seed)
    low, high = generator.normal(0, 1, 5), generator.normal(0.8, 1, 5)
    wanted = stats.permutation_test(
        (low, high), lambda x, y: y.mean() - x.mean(), alternative="greater", n_resamples=np.inf
    ).pvalue
    assert lower_by_chance(low.tolist(), high.tolist()) == pytest.approx(wanted, abs=1e-12)


def test_scores_are_bounded() -> None:
    assert [bounded(each) for each in (nan, -1e9, -0.5, 0.7, float("inf"), float("-inf"))] == [-1, -1, -0.5, 0.7, 1, -1]
