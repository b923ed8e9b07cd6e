"""The ledger against differences and norms taken by hand in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from auscult.core.sink import empty_row, observed
from auscult.metrics.ledger import GRAD, PARAM, UPDATE, Ledger


def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    return empty_row("norms", 3 * count).reshape(3, count), empty_row("sampled", 6 * count).reshape(3, 2, count)


def norm(tensor: torch.Tensor) -> float:
    return float(np.linalg.norm(tensor.detach().double().numpy()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradient_parameter_and_applied_update(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in ((30, 40), (7,), (100, 100))]
    for each in parameters:
        each.grad = torch.randn_like(each)
    before = [each.detach().clone() for each in parameters]
    ledger = Ledger(parameters)
    ledger.gradients([0, 1, 2], moments=True)
    ledger.before([0, 1, 2])
    torch.optim.AdamW(parameters, lr=0.01).step()
    ledger.after([0, 1, 2], moments=True)
    taken, moments = rows(3)
    ledger.collect(taken, moments)
    for number, (parameter, old) in enumerate(zip(parameters, before)):
        update = parameter.detach().double() - old.double()
        assert taken[GRAD, number] == pytest.approx(norm(parameter.grad), rel=1e-6)
        assert taken[PARAM, number] == pytest.approx(norm(parameter), rel=1e-6)
        assert taken[UPDATE, number] == pytest.approx(norm(update), rel=1e-6)
        assert moments[UPDATE, 1, number] == pytest.approx(update.std().item(), rel=1e-5)
        assert moments[GRAD, 0, number] == pytest.approx(parameter.grad.double().mean().item(), rel=1e-5, abs=1e-7)


def test_what_has_no_gradient_is_not_observed_and_never_zero() -> None:
    used, unused, frozen = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3), False)
    used.grad = torch.zeros(3)
    ledger = Ledger([used, unused, frozen])
    ledger.gradients([0, 1, 2], moments=False)
    ledger.before([0, 1, 2])
    ledger.after([0, 1, 2], moments=False)
    taken, _ = rows(3)
    ledger.collect(taken, None)
    assert taken[GRAD, 0] == 0.0
    assert observed(taken).tolist() == [[True, False, False], [True, True, False], [True, True, False]]


def test_a_gradient_is_taken_once_per_step_so_that_clipping_comes_after_it() -> None:
    parameter = nn.Parameter(torch.zeros(4))
    parameter.grad = torch.full((4,), 3.0)
    ledger = Ledger([parameter])
    ledger.gradients([0], moments=False)
    nn.utils.clip_grad_norm_([parameter], 1.0)
    ledger.gradients([0], moments=False)
    taken, _ = rows(1)
    ledger.collect(taken, None)
    assert taken[GRAD, 0] == 6.0
    ledger.gradients([0], moments=False)  # the next step
    ledger.collect(taken, None)
    assert taken[GRAD, 0] == pytest.approx(1.0, rel=1e-5)
