"""Where updates point, against cosines taken by hand in float64."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auscult.core.sink import empty_row, observed
from auscult.metrics.directions import DECAY, DESCENT, METRICS, TWINS, twin_fraction
from auscult.metrics.ledger import Ledger


def cosine(left: Tensor, right: Tensor) -> float:
    pair = [torch.view_as_real(each) if each.is_complex() else each for each in (left.detach(), right.detach())]
    one, other = (each.double().numpy().ravel() for each in pair)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def around(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, snapshot: bool = True) -> np.ndarray:
    """The directions of one update, `(3, P)`."""
    ledger, everything = Ledger(parameters, snapshot), list(range(len(parameters)))
    ledger.before(everything)
    optimizer.step()
    ledger.after(everything, moments=True)
    norms, row = empty_row("norms", 3 * len(parameters)), empty_row("sampled", 3 * len(parameters)).reshape(3, -1)
    ledger.collect(norms.reshape(3, -1), None, row)
    return row


def fresh(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> nn.Parameter:
    parameter = nn.Parameter(torch.randn(shape, dtype=dtype))
    parameter.grad = torch.randn_like(parameter.detach())
    return parameter


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_cosines_of_the_update_made(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    parameters = [fresh(shape, dtype) for shape in ((30, 40), (7,), (300, 400), (64, 3, 5, 5))]
    before = [each.detach().clone() for each in parameters]
    row = around(parameters, torch.optim.AdamW(parameters, lr=0.01, weight_decay=5.0))
    for number, (parameter, old) in enumerate(zip(parameters, before)):
        wide = torch.complex128 if dtype.is_complex else torch.float64
        update = parameter.detach().to(wide) - old.to(wide)
        assert row[DESCENT, number] == pytest.approx(-cosine(update, parameter.grad), abs=2e-6)
        assert row[DECAY, number] == pytest.approx(-cosine(update, parameter), abs=2e-6)


def test_plain_descent_is_one_and_ascent_minus_one() -> None:
    torch.manual_seed(0)
    for sign in (1.0, -1.0):
        parameters = [fresh((50, 20)), fresh((300, 300))]
        row = around(parameters, torch.optim.SGD(parameters, lr=0.5, maximize=sign < 0))
        assert row[DESCENT] == pytest.approx([sign, sign], abs=1e-6)


def test_an_update_that_only_shrinks_points_at_the_origin() -> None:
    parameters = [fresh((50, 20)), fresh((300, 300)), fresh((9,))]
    for each in parameters:
        each.grad.zero_()
    row = around(parameters, torch.optim.SGD(parameters, lr=0.1, weight_decay=0.3))
    assert row[DECAY] == pytest.approx([1.0, 1.0, 1.0], abs=1e-6)
    assert not observed(row)[DESCENT].any()  # a gradient of zeros points nowhere


def test_clipping_by_a_factor_turns_nothing() -> None:
    torch.manual_seed(0)
    parameters = [fresh((50, 20))]
    unclipped = parameters[0].grad.clone()
    before = parameters[0].detach().clone()
    nn.utils.clip_grad_norm_(parameters, 1e-3)
    row = around(parameters, torch.optim.SGD(parameters, lr=1000.0, momentum=0.9))
    assert row[DESCENT, 0] == pytest.approx(-cosine(parameters[0].double() - before.double(), unclipped), abs=2e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_beyond_the_squares_of_float32(scale: float) -> None:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((20, 30), (300, 300))]
    for each in parameters:
        each.grad = torch.randn_like(each.detach()) * scale
    row = around(parameters, torch.optim.SGD(parameters, lr=1.0))
    assert row[DESCENT] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert row[DECAY] == pytest.approx([-1.0, -1.0], abs=1e-6)  # they come from 0


def test_float64_beyond_its_own_squares() -> None:
    parameters = [nn.Parameter(torch.zeros(20, 30, dtype=torch.float64))]
    parameters[0].grad = torch.rand_like(parameters[0].detach()) * 1e200
    row = around(parameters, torch.optim.SGD(parameters, lr=1.0))
    assert row[DESCENT, 0] == pytest.approx(1.0, abs=1e-6)


def test_what_has_no_direction_is_not_observed() -> None:
    still, without, alone, nothing = fresh((4, 4)), fresh((4, 4)), fresh((400, 400)), nn.Parameter(torch.zeros(0, 4))
    sparse = nn.Embedding(10, 3, sparse=True)
    sparse(torch.tensor([1, 1, 4])).sum().backward()
    still.grad, without.grad, alone.grad = torch.zeros(4, 4), None, None
    parameters = [still, without, alone, nothing, sparse.weight]
    row = around(parameters, torch.optim.SGD(parameters, lr=0.1))
    assert not observed(row)[[DESCENT, DECAY]][:, :4].any()
    assert observed(row)[[DESCENT, DECAY], 4].tolist() == [False, True]
    assert np.isfinite(row[observed(row)]).all()


def test_without_a_snapshot_there_is_no_direction() -> None:
    parameters = [fresh((4, 4))]
    row = around(parameters, torch.optim.SGD(parameters, lr=0.1), snapshot=False)
    assert observed(row)[:, 0].tolist() == [False, False, True]


@pytest.mark.parametrize("flaw", [math.nan, math.inf])
@pytest.mark.parametrize("shape", [(20, 30), (300, 300)])
def test_what_is_not_finite_is_nan_and_spoils_no_neighbour(flaw: float, shape: tuple[int, ...]) -> None:
    parameters = [fresh((20, 30)), fresh(shape), fresh((20, 30))]
    parameters[1].grad[3, 3] = flaw
    row = around(parameters, torch.optim.SGD(parameters, lr=0.1))
    assert observed(row).all() and np.isnan(row[[DESCENT, DECAY], 1]).all()
    assert np.isfinite(row[:, [0, 2]]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("shape", [(8, 5), (8, 3, 3, 3), (300, 300)])
def test_units_that_equal_the_first(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    units = torch.randn(shape, dtype=dtype)
    assert float(twin_fraction(units)) == pytest.approx(1 / shape[0])
    assert float(twin_fraction(torch.ones(shape, dtype=dtype))) == 1.0
    units[2] = units[0]
    units[5] = units[0]
    units[6] = units[0]
    units[6].view(-1)[-1] += 1  # all but one of its weights
    assert float(twin_fraction(units)) == pytest.approx(3 / shape[0])
    assert float(twin_fraction(units.transpose(0, 1).contiguous().transpose(0, 1))) == pytest.approx(3 / shape[0])


def test_twins_are_told_of_matrices_alone_after_the_update() -> None:
    constant = nn.Parameter(torch.full((6, 4), 0.5))
    constant.grad = torch.full((6, 4), 2.0)
    torn = nn.Parameter(torch.full((6, 4), 0.5))
    torn.grad = torch.arange(24.0).reshape(6, 4)
    parameters = [constant, torn, fresh((6,)), fresh((1, 6)), nn.Parameter(torch.zeros(6, 0))]
    row = around(parameters, torch.optim.SGD(parameters, lr=0.1))
    assert row[TWINS, :2] == pytest.approx([1.0, 1 / 6])
    assert not observed(row)[TWINS, 2:].any()
    assert METRICS[TWINS] == "twin_fraction"


def test_units_that_have_differed_twice_are_compared_no_more() -> None:
    equal, random = nn.Parameter(torch.full((6, 4), 0.5)), nn.Parameter(torch.randn(6, 4))
    ledger = Ledger([equal, random], True)
    optimizer = torch.optim.SGD([equal, random], lr=0.1)
    told = []
    for _ in range(4):
        equal.grad, random.grad = torch.ones(6, 4), torch.ones(6, 4)
        ledger.gradients([0, 1], moments=True)
        ledger.before([0, 1])
        optimizer.step()
        ledger.after([0, 1], moments=True)
        row = empty_row("sampled", 6).reshape(3, 2)
        ledger.collect(empty_row("norms", 6).reshape(3, 2), empty_row("sampled", 12).reshape(3, 2, 2), row)
        told.append(observed(row)[TWINS].tolist())
    assert told == [[True, True]] * 2 + [[True, False]] * 2
