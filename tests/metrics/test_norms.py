"""Norms and moments against float64 computed by NumPy."""

import itertools

import numpy as np
import pytest
import torch

from auscult.metrics.norms import means_and_stds, measurable, norms


def truth(tensor: torch.Tensor) -> float:
    """The norm in float64, scaled by the largest element so that no square leaves the range."""
    values = tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64).numpy().ravel()
    largest = np.abs(values).max(initial=0.0)
    return float(largest * np.linalg.norm(values / largest)) if largest else 0.0


SIZES = [1, 7, 512, 513, 4097, 65_536, 1_000_003]
SCALES = [1e-30, 1e-15, 1.0, 1e15, 1e26]


@pytest.mark.parametrize(("size", "scale"), [*itertools.product(SIZES, SCALES), (20_000_000, 1.0), (20_000_000, 1e26)])
def test_norm_is_the_float64_norm_to_1e_6(size: int, scale: float) -> None:
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(size)) * scale
    assert float(norms([tensor])[0]) == pytest.approx(truth(tensor), rel=1e-6)


def test_norms_from_1e_minus_30_to_1e30() -> None:
    for exponent in range(-30, 31):
        tensor = torch.full((10_000,), 10.0**exponent / 100.0)
        assert float(norms([tensor])[0]) == pytest.approx(truth(tensor), rel=1e-6), exponent


def test_a_few_large_elements_among_tiny_ones() -> None:
    tensor = torch.full((100_000,), 1e-25)
    tensor[70_000] = 1e-12
    assert float(norms([tensor])[0]) == pytest.approx(truth(tensor), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("size", [10, 70_000])
def test_dtypes(dtype: torch.dtype, size: int) -> None:
    tensor = torch.randn(size, dtype=dtype, generator=torch.Generator().manual_seed(0))
    assert float(norms([tensor])[0]) == pytest.approx(truth(tensor), rel=1e-6)


def test_half_precision_norm_beyond_its_own_range() -> None:
    tensor = torch.full((70_000,), 400.0, dtype=torch.float16)  # norm 105,830 > 65,504
    assert float(norms([tensor])[0]) == pytest.approx(truth(tensor), rel=1e-6)


def test_layouts() -> None:
    base = torch.randn(300, 200)
    sparse = torch.sparse_coo_tensor([[0, 0, 2]], [3.0, 1.0, 3.0], (5,), check_invariants=False)
    shapes = [base.t(), base[::2, ::3], base.to(memory_format=torch.contiguous_format), torch.tensor(3.0)]
    shapes.append(torch.randn(4, 40, 30, 20).to(memory_format=torch.channels_last))
    measured = norms([*shapes, sparse])
    for value, tensor in zip(measured, [*shapes, sparse.to_dense()]):
        assert float(value) == pytest.approx(truth(tensor), rel=1e-6)


def test_nan_infinity_overflow_and_zero_are_told_apart() -> None:
    nan, inf = torch.ones(9000), torch.ones(9000)
    nan[5000], inf[5000] = torch.nan, torch.inf
    overflow = torch.full((9000,), 3e38)  # its float32 norm is inf, none of its elements is
    underflow = torch.full((9000,), 1e-40)
    zero = torch.zeros(9000)
    values = norms([nan, inf, overflow, underflow, zero]).tolist()
    assert np.isnan(values[0]) and values[1] == np.inf and values[4] == 0.0
    assert values[2] == pytest.approx(truth(overflow), rel=1e-6)
    assert values[3] == pytest.approx(truth(underflow), rel=1e-6)


def test_empty_list_and_empty_tensor() -> None:
    assert norms([]).shape == (0,)
    assert norms([torch.empty(0), torch.ones(4)]).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("size", [2, 100, 50_000])
def test_moments(size: int, offset: float) -> None:
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(1)) + offset
    exact = tensor.double().numpy()
    mean, std = means_and_stds([tensor, tensor])[:, 1].tolist()
    assert mean == pytest.approx(exact.mean(), rel=1e-6, abs=1e-7)
    assert std == pytest.approx(exact.std(ddof=1), rel=1e-5)


def test_std_of_one_element_is_unknown_and_of_a_constant_zero() -> None:
    single, constant = means_and_stds([torch.tensor([2.0]), torch.full((5000,), 3.0)])[1].tolist()
    assert np.isnan(single) and constant == 0.0


def test_meta_tensors_are_not_measurable() -> None:
    assert not measurable(torch.empty(3, device="meta"))
    assert measurable(torch.empty(3))
