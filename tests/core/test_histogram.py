"""Histograms, against NumPy's counts of the same numbers."""

import numpy as np
import pytest

from auscult.core.errors import SetupError
from auscult.core.histogram import PREFIXES, Histogram


def histogram(values: np.ndarray) -> Histogram:
    values = np.asarray(values, np.float32) + np.float32(0)
    counts = np.bincount(values.view(np.uint32) >> 21, minlength=PREFIXES)
    return Histogram.from_prefixes(counts, int((values == 0).sum()))


@pytest.fixture
def values() -> np.ndarray:
    generator = np.random.default_rng(0)
    wide = generator.normal(size=20_000) * 10.0 ** generator.uniform(-30, 30, 20_000)
    return np.concatenate([wide, [0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38]]).astype(np.float32)


def test_each_bin_holds_what_lies_between_its_ends(values: np.ndarray) -> None:
    found = histogram(values)
    for low, high, count, code in zip(*found.edges(), found.counts, found.codes, strict=True):
        if code > 0:
            expected = ((values >= low) & (values < high) & (values != 0)).sum()
        elif code < 0:
            expected = ((values > low) & (values <= high) & (values != 0)).sum()
        else:
            expected = (values == 0).sum()
        assert count == expected
    assert found.total == len(values) and found.zeros == 2 and (np.diff(found.codes) > 0).all()


def test_bins_are_a_quarter_of_a_power_of_two() -> None:
    low, high = histogram(np.array([1.0, 1.3, 1.6, 1.9, 2.0, -0.6])).edges()
    assert low.tolist() == [-0.625, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert high.tolist() == [-0.5, 1.25, 1.5, 1.75, 2.0, 2.5]


def test_what_is_not_finite_is_in_no_bin() -> None:
    found = histogram(np.array([1.0, np.nan, np.inf, -np.inf, -np.nan]))
    assert (found.total, found.nonfinite) == (1, 4)


def test_merging_is_counting_together(values: np.ndarray) -> None:
    left, right = histogram(values[:7_000]), histogram(values[7_000:])
    both, whole = left + right, histogram(values)
    assert np.array_equal(both.codes, whole.codes) and np.array_equal(both.counts, whole.counts)


def test_mass_between_edges_is_that_of_numpy() -> None:
    values = np.random.default_rng(1).normal(size=200_000).astype(np.float32)
    edges = np.array([-4.0, -2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0])  # borders of bins: nothing is guessed
    assert histogram(values).mass(edges) == pytest.approx(np.histogram(values, edges)[0], abs=1e-6)
    assert histogram(values).mass(np.array([-1e30, 1e30])).sum() == pytest.approx(200_000)


def test_exact_zeros_count_above_an_edge_at_zero() -> None:
    assert histogram(np.array([0.0, 0.0, -1.0])).mass(np.array([-2.0, 0.0, 2.0])).tolist() == [1.0, 2.0]


def test_quantiles_are_right_to_a_bin() -> None:
    values = np.random.default_rng(2).normal(size=100_000).astype(np.float32)
    found = histogram(values)
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        place = int(np.digitize(np.quantile(values, share), found.edges()[0])) - 1
        low, high = (ends[place] for ends in found.edges())
        assert low <= found.quantile(share) <= high
    assert found.fraction_below(0.97) == pytest.approx((values < 0.97).mean(), abs=2e-3)


def test_without_elements_there_is_no_quantile() -> None:
    empty = histogram(np.array([np.nan]))
    assert np.isnan(empty.quantile(0.5)) and np.isnan(empty.fraction_below(0))


def test_wrong_questions_are_refused() -> None:
    found = histogram(np.array([1.0]))
    with pytest.raises(SetupError, match="between 0 and 1"):
        found.quantile(50)
    with pytest.raises(SetupError, match="increasing"):
        found.mass(np.array([1.0, 0.0]))
