from collections.abc import Callable

import numpy as np
import pytest

from auscult.core.detail import TensorDetail
from auscult.pages.density import Density, densities

Maker = Callable[..., TensorDetail]


def samples(seed: int = 0, size: int = 20_000) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def mass(density: Density) -> float:
    return float((density.heights * np.diff(density.edges)).sum())


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 0.37, 1.0, 123.0, 1e30])
def test_heights_are_those_of_a_histogram_over_the_same_edges(tensor: Maker, scale: float) -> None:
    values = samples() * np.float32(scale)
    density = densities([tensor("activation", "a", values)]).several[0]
    inside = (values >= density.edges[0]) & (values <= density.edges[-1])
    expected, _ = np.histogram(values[inside].astype(float), density.edges)
    np.testing.assert_allclose(density.heights, expected / len(values) / np.diff(density.edges), rtol=1e-12)
    assert len(density.heights) > 20


def test_what_is_drawn_and_what_is_cut_add_up_to_one(tensor: Maker) -> None:
    values = np.concatenate([samples(), np.zeros(5000, np.float32), [50.0, -80.0]])
    drawn = densities([tensor("grad", "a", values)])
    density = drawn.several[0]
    assert density.zeros == pytest.approx(5000 / len(values))
    assert density.outside == pytest.approx((np.abs(values) > drawn.reach).mean())
    assert mass(density) + density.zeros + density.outside == pytest.approx(1, abs=1e-12)


def test_the_range_is_even_and_holds_the_middle_99_per_cent(tensor: Maker) -> None:
    values = samples() + 3
    drawn = densities([tensor("activation", "a", values)])
    low, high = np.quantile(values, [0.005, 0.995])
    assert max(-low, high) <= drawn.reach < 1.5 * max(-low, high)
    edges = densities([tensor("activation", "a", samples())]).several[0].edges
    inner = edges[1:-1]
    np.testing.assert_array_equal(inner, -inner[::-1])


def test_saturated_outputs_stay_within_their_bounds(tensor: Maker) -> None:
    """tanh gives exactly 1 in float32 beyond 9; nothing may be drawn or lost beyond it."""
    values = np.tanh(samples() * 6)
    assert (values == 1).sum() > 100
    density = densities([tensor("activation", "tanh", values)]).several[0]
    assert density.edges[0] == -1 and density.edges[-1] == 1
    assert density.outside == 0 and mass(density) == pytest.approx(1)


def test_relu_ends_at_zero(tensor: Maker) -> None:
    density = densities([tensor("activation", "relu", np.maximum(samples(), 0))]).several[0]
    assert density.edges[0] == 0 and density.zeros == pytest.approx(0.5, abs=0.02)
    assert density.heights[0] == pytest.approx(1 / np.sqrt(2 * np.pi), rel=0.1)  # of N(0, 1), not of its positive half


def test_one_far_wider_layer_is_cut_instead_of_flattening_the_others(tensor: Maker) -> None:
    several = [tensor("grad", str(number), samples(number)) for number in range(5)]
    drawn = densities([*several, tensor("grad", "last", samples(9) * 1000)])
    assert drawn.reach < 20 and drawn.several[-1].outside > 0.9
    assert all(each.outside < 0.01 for each in drawn.several[:-1])


def test_one_far_narrower_layer_is_cut_at_the_top(tensor: Maker) -> None:
    several = [tensor("grad", str(number), samples(number)) for number in range(5)]
    drawn = densities([*several, tensor("grad", "last", samples(9) / 1000)])
    assert 0.3 < drawn.top < 4 < drawn.several[-1].heights.max()


def test_a_layer_twice_as_wide_is_not_cut(tensor: Maker) -> None:
    drawn = densities([tensor("grad", "a", samples()), tensor("grad", "b", 2 * samples(1))])
    assert all(each.outside < 0.01 for each in drawn.several)
    assert drawn.top == max(each.heights.max() for each in drawn.several)


@pytest.mark.parametrize(
    "values", [np.zeros(100), np.full(100, np.nan), np.ones(100), [0.0], [np.inf, -np.inf]], ids=str
)
def test_where_there_is_nothing_to_draw(tensor: Maker, values: object) -> None:
    drawn = densities([tensor("grad", "odd", values), tensor("grad", "plain", samples())])
    odd, plain = drawn.several
    assert not len(odd.edges) and not len(odd.heights)
    assert mass(plain) > 0.98
    alone = densities([odd.tensor])
    assert not len(alone.several[0].heights) and alone.top == 0


def test_non_finite_elements_are_left_out(tensor: Maker) -> None:
    values = samples()
    values[:5000] = np.nan
    density = densities([tensor("grad", "a", values)]).several[0]
    assert mass(density) + density.outside == pytest.approx(1)
    assert density.tensor.histogram.nonfinite == 5000


def test_no_tensors_make_no_picture() -> None:
    drawn = densities([])
    assert drawn.several == () and drawn.reach == 0 and drawn.top == 0


@pytest.mark.parametrize("seed", range(20))
def test_any_tensor_gives_increasing_edges_and_its_whole_mass(tensor: Maker, seed: int) -> None:
    random = np.random.default_rng(seed)
    several = []
    for number in range(int(random.integers(1, 6))):
        values = random.standard_normal(int(random.integers(1, 500))) ** int(random.integers(1, 6))
        values = values * 10.0 ** random.uniform(-44, 30) + random.choice([0, 1]) * random.standard_normal()
        values[random.random(len(values)) < random.choice([0, 0.5])] = random.choice([0.0, np.nan, np.inf, 1.0])
        several.append(tensor("grad", str(number), values))
    for each in densities(several).several:
        assert (np.diff(each.edges) > 0).all() and (each.heights >= 0).all() and np.isfinite(each.heights).all()
        if len(each.heights):
            assert mass(each) + each.zeros + each.outside == pytest.approx(1)
