import json

import numpy as np
import pytest

from auscult.core.series import Series
from auscult.pages.curve import MAX_POINTS, Curve, numbers, stretches, summary, thin


def series(values: np.ndarray) -> Series:
    return Series("loss", "", np.arange(len(values)) * 3, values.astype(np.float64))


@pytest.mark.parametrize("count", [1, 2, 1999, 2000, 2001, 2005, 9999, 100_000])
def test_thinning_keeps_ends_extremes_and_nonfinite(count: int) -> None:
    random = np.random.default_rng(count)
    values = random.standard_normal(count)
    if count > 100:
        values[random.integers(1, count - 1)] = 1e9
        values[random.integers(1, count - 1)] = -1e9
        values[random.integers(1, count - 1)] = np.nan
        values[random.integers(1, count - 1)] = np.inf
    steps = np.arange(count) * 7
    kept_steps, kept = thin(steps, values)
    assert len(kept) <= MAX_POINTS
    assert kept_steps[0] == steps[0] and kept_steps[-1] == steps[-1]
    assert (np.diff(kept_steps) > 0).all()
    finite = np.isfinite(values)
    assert np.nanmax(kept[np.isfinite(kept)]) == values[finite].max()
    assert np.nanmin(kept[np.isfinite(kept)]) == values[finite].min()
    assert np.isnan(kept).any() == np.isnan(values).any()
    np.testing.assert_array_equal(values[kept_steps // 7], kept)


@pytest.mark.parametrize("bad", [False, True])
def test_every_bin_keeps_its_extremes(bad: bool) -> None:
    values = np.random.default_rng(0).standard_normal(30_000)
    if bad:
        values[::1000] = np.nan
    steps, kept = thin(np.arange(30_000), values, limit=302)
    width = 300 if bad else 200
    for first in range(0, 30_000, width):
        inside = (steps >= first) & (steps < first + width)
        assert np.nanmax(kept[inside]) == np.nanmax(values[first : first + width])
        assert np.nanmin(kept[inside]) == np.nanmin(values[first : first + width])


@pytest.mark.parametrize("seed", range(60))
def test_whatever_the_values_nothing_that_stands_out_is_lost(seed: int) -> None:
    """Property: in every stretch between kept neighbours no value lies beyond what was kept of it."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 6000))
    values = random.standard_normal(count) * 10.0 ** random.uniform(-20, 20)
    values[random.random(count) < random.choice([0, 0, 1e-3, 0.5, 1])] = np.nan
    values[random.random(count) < random.choice([0, 0, 1e-3, 0.5])] = random.choice([np.inf, -np.inf])
    values[random.random(count) < random.choice([0, 1e-3, 0.9])] = 0
    limit = int(random.integers(5, 3000))
    steps, kept = thin(np.arange(count), values, limit)
    assert len(kept) <= limit or count <= limit
    np.testing.assert_array_equal(kept, values[steps])
    finite, kept_finite = values[np.isfinite(values)], kept[np.isfinite(kept)]
    if len(finite):
        assert (kept_finite.min(), kept_finite.max()) == (finite.min(), finite.max())
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        assert bad[0] == steps[~np.isfinite(kept)][0], "the first value that is not finite"
    assert steps[0] == 0 and steps[-1] == count - 1


def test_a_single_nan_among_a_million_survives() -> None:
    values = np.ones(1_000_000)
    values[654_321] = np.nan
    steps, kept = thin(np.arange(1_000_000), values)
    assert steps[np.isnan(kept)].tolist() == [654_321]


def test_all_nan_is_thinned_without_warning() -> None:
    _, kept = thin(np.arange(5000), np.full(5000, np.nan))
    assert np.isnan(kept).all() and 0 < len(kept) <= MAX_POINTS


def test_stretches_are_runs_of_true() -> None:
    mask = np.array([1, 1, 0, 0, 1, 0, 1, 1, 1], bool)
    assert stretches(np.arange(9) * 10, mask) == [[0, 10], [40, 40], [60, 80]]
    assert stretches(np.arange(9), np.zeros(9, bool)) == []
    assert stretches(np.empty(0, np.int64), np.empty(0, bool)) == []


def test_many_stretches_are_joined_and_still_cover_all() -> None:
    mask = np.random.default_rng(1).random(50_000) < 0.4
    pairs = stretches(np.arange(50_000), mask, limit=50)
    covered = np.zeros(50_000, bool)
    for first, last in pairs:
        assert mask[first] and mask[last]
        covered[first : last + 1] = True
    assert len(pairs) <= 50
    assert covered[mask].all()


def test_to_dict_is_strict_json_and_names_what_cannot_be_drawn() -> None:
    curve = Curve("loss", series(np.array([1.0, 0.0, np.nan, np.inf, -2.0, 1 / 3])))
    plain = json.loads(json.dumps(curve.to_dict(), allow_nan=False))
    assert plain["values"] == [1.0, 0.0, None, None, -2.0, 0.333333]
    assert plain["nonfinite"] == [[6, 9]]
    assert plain["nonpositive"] == [[3, 3], [12, 12]]


def test_numbers_keep_six_digits() -> None:
    assert numbers(np.array([1.23456789e-30, 123456789.0])) == [1.23457e-30, 123457000.0]


def test_summary_against_numpy() -> None:
    values = np.random.default_rng(3).standard_normal(500)
    values[100:120] = np.nan
    found = summary(series(values))
    assert found is not None
    assert (found.minimum, found.maximum) == (np.nanmin(values), np.nanmax(values))
    assert (found.minimum_at, found.maximum_at) == (np.nanargmin(values) * 3, np.nanargmax(values) * 3)
    assert (found.nonfinite, found.nonfinite_at, found.count) == (20, 300, 500)
    assert summary(Series("loss", "")) is None
    empty = summary(series(np.full(3, np.nan)))
    assert empty is not None and empty.minimum is None and empty.nonfinite == 3
