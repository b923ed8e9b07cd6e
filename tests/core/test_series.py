"""Series as an array: NumPy and torch give for a series what they give for its values."""

import copy
import operator
import pickle
from collections import deque

import numpy as np
import pytest
import torch

from auscult.core.errors import SetupError
from auscult.core.series import Series

STEPS = np.arange(0, 80, 4)
LEFT = Series("grad_norm", "a.weight", STEPS, np.random.default_rng(0).lognormal(size=20))
RIGHT = Series("update_norm", "a.weight", STEPS, np.random.default_rng(1).lognormal(size=20))
HOLED = Series("loss", "", STEPS, np.where(np.arange(20) == 7, np.nan, LEFT.values))
ELSEWHERE = Series("loss", "", STEPS + 1, RIGHT.values)

# Each takes two array-likes; the oracle is the same call with plain arrays.
CALLS = {
    "mean": lambda a, b: np.mean(a),
    "percentile": lambda a, b: np.percentile(a, [5, 50, 95]),
    "median": lambda a, b: np.median(a),
    "diff": lambda a, b: np.diff(a),
    "gradient": lambda a, b: np.gradient(a, b),
    "cumsum": lambda a, b: np.cumsum(a),
    "convolve": lambda a, b: np.convolve(a, b),
    "interp": lambda a, b: np.interp([3.5, 9.0], STEPS, a),
    "interp at": lambda a, b: np.interp(a, np.sort(b), np.arange(20)),
    "where": lambda a, b: np.where(a > b, a, b),
    "select": lambda a, b: np.select([a > 2, b > 2], [a, b], 0.0),
    "concatenate": lambda a, b: np.concatenate([a, b]),
    "concatenate a tuple": lambda a, b: np.concatenate((a, [1.0], b)),
    "stack": lambda a, b: np.stack([a, b], axis=1),
    "column_stack": lambda a, b: np.column_stack([STEPS, a, b]),
    "block": lambda a, b: np.block([[a, b], [b, a]]),
    "array of both": lambda a, b: np.array([a, b]),
    "mean of both": lambda a, b: np.mean([a, b], axis=0),
    "isnan": lambda a, b: np.isnan(a),
    "nanmax": lambda a, b: np.nanmax(a),
    "nan_to_num": lambda a, b: np.nan_to_num(a, nan=1.0),
    "clip": lambda a, b: np.clip(a, 0.5, 1.5),
    "round": lambda a, b: np.round(a, 1),
    "sort": lambda a, b: np.sort(a),
    "argmax": lambda a, b: np.argmax(a),
    "unique": lambda a, b: np.unique(a),
    "histogram": lambda a, b: np.histogram(b, bins=4)[0],
    "polyfit": lambda a, b: np.polyfit(STEPS, b, 1),
    "corrcoef": lambda a, b: np.corrcoef(b, b),
    "linalg.norm": lambda a, b: np.linalg.norm(b),
    "fft.rfft": lambda a, b: np.fft.rfft(b),
    "dot": lambda a, b: np.dot(a, b),
    "matmul": lambda a, b: a @ b,
    "matmul by a matrix": lambda a, b: a @ np.outer(b, b),
    "einsum": lambda a, b: np.einsum("i,i->", a, b),
    "outer": lambda a, b: np.multiply.outer(a, b),
    "reduce": lambda a, b: np.maximum.reduce(a),
    "accumulate": lambda a, b: np.maximum.accumulate(a),
    "reduceat": lambda a, b: np.add.reduceat(a, [0, 10]),
    "sliding_window_view": lambda a, b: np.lib.stride_tricks.sliding_window_view(a, 5).mean(-1),
    "weights": lambda a, b: np.average(b, weights=b),
    "broadcast": lambda a, b: a + np.ones((3, 1)),
    "shape": lambda a, b: np.array(np.shape(a)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("left", [LEFT, HOLED], ids=["finite", "with NaN"])
def test_numpy_gives_what_it_gives_for_the_values(call, left) -> None:
    expected = call(left.values, RIGHT.values)
    result = call(left, RIGHT)
    assert not isinstance(result, Series)
    np.testing.assert_array_equal(result, expected, strict=True)


@pytest.mark.parametrize(
    "operation", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, np.hypot]
)
@pytest.mark.parametrize("other", [RIGHT, 2.0, 3, RIGHT.values], ids=["series", "float", "int", "array"])
def test_arithmetic_gives_a_series_at_the_same_steps(operation, other) -> None:
    plain = other.values if isinstance(other, Series) else other
    for result, expected in (
        (operation(LEFT, other), operation(LEFT.values, plain)),
        (operation(other, LEFT), operation(plain, LEFT.values)),
    ):
        assert isinstance(result, Series) and result.unit == "" and result.path == "a.weight"
        np.testing.assert_array_equal(result.steps, STEPS)
        np.testing.assert_allclose(result.values, expected, rtol=1e-15)


def test_functions_of_one_series_and_of_several_results() -> None:
    assert isinstance(-LEFT, Series) and isinstance(np.log10(LEFT), Series) and isinstance(abs(LEFT), Series)
    fraction, whole = np.modf(LEFT)
    np.testing.assert_array_equal((fraction + whole).values, LEFT.values)
    mantissa, exponent = np.frexp(LEFT)  # an exponent is an int, which a Series does not hold
    assert isinstance(mantissa, Series) and exponent.dtype == np.int32
    assert np.add(LEFT, 1, dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize(
    "compare",
    [operator.gt, operator.ge, operator.lt, operator.le, operator.eq, operator.ne],
    ids=lambda each: each.__name__,
)
def test_comparisons_are_masks(compare) -> None:
    mask = compare(HOLED, RIGHT)
    assert type(mask) is np.ndarray and mask.dtype == bool
    np.testing.assert_array_equal(mask, compare(HOLED.values, RIGHT.values))
    np.testing.assert_array_equal(HOLED[mask], HOLED.values[mask])
    assert HOLED.steps[np.isnan(HOLED)].tolist() == [28] and HOLED.steps[~(HOLED == HOLED)].tolist() == [28]


@pytest.mark.parametrize("operation", [operator.add, operator.gt, operator.eq, np.maximum])
def test_unequal_steps_cannot_be_combined(operation) -> None:
    with pytest.raises(SetupError, match=r"grad_norm/a\.weight and loss to have equal steps.*np\.intersect1d"):
        operation(LEFT, ELSEWHERE)
    assert np.concatenate([LEFT, ELSEWHERE]).shape == (40,)
    assert np.subtract.outer(LEFT, ELSEWHERE).shape == (20, 20)


def test_nothing_writes_into_a_series() -> None:
    before = LEFT.values.copy()
    target = LEFT
    with pytest.raises(SetupError, match="frozen"):
        target += 1
    for call in (
        lambda: np.add(LEFT, 1, out=LEFT),
        lambda: np.add(before, 1, out=LEFT),
        lambda: np.cumsum(before, out=LEFT),
        lambda: np.add.at(LEFT, [0], 1.0),
    ):
        with pytest.raises(SetupError, match="frozen"):
            call()
    for call in (
        lambda: np.copyto(LEFT, 0.0),
        lambda: np.put(LEFT, [0], 0.0),
        lambda: np.nan_to_num(HOLED, copy=False),
    ):
        with pytest.raises(ValueError, match=r"read-only|not writeable"):
            call()
    np.asarray(LEFT)[:] = 0
    np.testing.assert_array_equal(LEFT.values, before)
    assert np.isnan(HOLED.at(28))


def test_its_arrays_are_read_only_and_the_given_ones_stay_as_they_are() -> None:
    steps, values = np.arange(3), np.array([1.0, 2.0, 3.0])
    series = Series("loss", "", steps, values)
    for array in (series.steps, series.values):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9
    values[0] = 7.0  # the caller's own array is the caller's
    assert values.flags.writeable
    assert steps.flags.writeable


def test_results_go_where_out_says() -> None:
    into = np.zeros(20)
    assert np.add(LEFT, RIGHT, out=into) is into
    np.testing.assert_array_equal(into, LEFT.values + RIGHT.values)
    into -= RIGHT
    np.testing.assert_array_equal(into, LEFT.values + RIGHT.values - RIGHT.values)
    np.add.at(into, np.arange(20), LEFT)
    assert np.mean([LEFT, RIGHT], axis=0, out=into) is into


def test_the_array_protocol() -> None:
    assert np.asarray(LEFT).dtype == np.float64 and np.asarray(LEFT, dtype=np.float32).dtype == np.float32
    assert LEFT.__array__().flags.writeable and LEFT.__array__(np.dtype("f4")).dtype == np.float32
    assert not np.shares_memory(np.asarray(LEFT), LEFT.values)
    view = LEFT.__array__(copy=False)
    assert np.shares_memory(view, LEFT.values) and not view.flags.writeable
    assert np.shares_memory(LEFT.__array__(dtype="float64", copy=False), LEFT.values)
    with pytest.raises(ValueError, match="float64 becomes float32"):
        LEFT.__array__(np.float32, copy=False)


def test_a_container_that_numpy_does_not_take_is_refused_not_searched_forever() -> None:
    with pytest.raises(TypeError, match="no implementation found"):
        np.concatenate(deque([LEFT, RIGHT]))


def test_identity_copies_and_pickles() -> None:
    assert len({LEFT, RIGHT, LEFT}) == 2 and hash(LEFT) != hash(copy.copy(LEFT))
    for twin in (copy.copy(HOLED), copy.deepcopy(HOLED), pickle.loads(pickle.dumps(HOLED))):
        assert isinstance(twin, Series) and twin.name == "loss" and twin.unit == "1"
        np.testing.assert_array_equal(twin.values, HOLED.values)
        np.testing.assert_array_equal(twin.steps, HOLED.steps)
    assert not np.shares_memory(copy.deepcopy(HOLED).values, HOLED.values)
    assert np.array_equal(LEFT, copy.copy(LEFT)) and not np.array_equal(LEFT, RIGHT)


def test_a_sequence_of_floats() -> None:
    assert list(LEFT) == LEFT.values.tolist() and list(reversed(LEFT)) == LEFT.values[::-1].tolist()
    assert LEFT[3] in LEFT and LEFT.index(LEFT[3]) == 3 and LEFT[-1] == LEFT.at(76)
    assert LEFT and not Series("never", "")


@pytest.mark.parametrize("make", [torch.as_tensor, torch.tensor, torch.asarray])
def test_torch_takes_it_as_float64(make) -> None:
    tensor = make(HOLED)
    assert tensor.dtype == torch.float64
    np.testing.assert_array_equal(tensor.numpy(), HOLED.values)
    tensor[0] = -1.0
    assert HOLED[0] > 0
