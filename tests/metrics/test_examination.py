"""Examinations, against NumPy, float64 and torch's own initialisation."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auscult.core.histogram import PREFIXES
from auscult.core.run import Parameter
from auscult.metrics.elements import count_elements
from auscult.metrics.examination import Examination, fan_ins_of
from auscult.metrics.units import map_units


def examination(model: nn.Module) -> Examination:
    table = [Parameter(path, tuple(each.shape), "float32", True, "0") for path, each in model.named_parameters()]
    modules = [path for path, module in model.named_modules() if not list(module.children())]
    return Examination(0, table, modules, fan_ins_of(model))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1, 7, 300_001])
def test_all_elements_are_counted(dtype: torch.dtype, size: int) -> None:
    tensor = (torch.randn(size, generator=torch.Generator().manual_seed(size)) * 3 + 1).to(dtype)
    tensor[0] = 0
    found = count_elements(tensor)
    assert found is not None
    detail, exact = found.describe("param", "weight"), tensor.double().numpy()
    assert detail.count == size and detail.histogram.zeros == (exact == 0).sum()
    assert detail.mean == pytest.approx(exact.mean(), rel=1e-12)
    assert (detail.minimum, detail.maximum) == (exact.min(), exact.max())
    assert detail.std == pytest.approx(exact.std(ddof=1), rel=1e-12) if size > 1 else np.isnan(detail.std)
    assert (
        found.prefixes.tolist()
        == np.bincount((exact.astype(np.float32) + np.float32(0)).view(np.uint32) >> 21, minlength=PREFIXES).tolist()
    )


def test_nothing_is_no_elements_and_nan_stays_nan() -> None:
    assert count_elements(torch.empty(0)) is None
    found = count_elements(torch.tensor([1.0, float("nan"), float("inf")]))
    assert found is not None
    detail = found.describe("grad", "weight")
    assert detail.histogram.nonfinite == 2 and np.isnan(detail.mean) and np.isnan(detail.maximum)


def test_two_calls_are_one_set_of_elements() -> None:
    parts = [torch.randn(50), torch.randn(7) + 3]
    examined = examination(nn.Sequential(nn.Tanh()))
    for each in parts:
        examined.add("activation_grad", 0, each)
    (detail,) = examined.detail().tensors
    whole = torch.cat(parts).double()
    assert detail.mean == pytest.approx(whole.mean().item()) and detail.std == pytest.approx(whole.std().item())
    assert detail.count == 57


def test_a_tanh_saturates_where_its_output_is_beyond_097() -> None:
    output = torch.tanh(torch.randn(32, 200, generator=torch.Generator().manual_seed(0)) * 3)
    output[:, 5] = 0.99
    found = map_units(output, -1)
    assert found is not None
    units = found.describe("tanh")
    assert units is not None and units.kind == "saturated" and units.map.shape == (200, 32)
    assert np.array_equal(units.map.T == 1, (output.abs() > 0.97).numpy())
    assert units.fractions == pytest.approx((output.abs() > 0.97).float().mean(0).numpy())
    assert units.fractions[5] == 1 and units.stuck >= 1 / 200


def test_a_channel_is_dead_where_all_its_positions_are_zero() -> None:
    output = torch.relu(torch.randn(100, 6, 4, 5)) + 0.5
    output[:, 2] = 0
    output[3, 4] = 0
    found = map_units(output, 1)
    assert found is not None
    units = found.describe("relu")
    assert units is not None and units.kind == "zero" and units.stuck == pytest.approx(1 / 6)
    assert units.map.shape == (6, 64) and (units.map[2] == 1).all() and units.map[4].sum() == 1


def test_many_units_are_thinned_out_evenly() -> None:
    found = map_units(torch.relu(torch.randn(8, 1000)) * 2, -1)
    assert found is not None
    units = found.describe("relu")
    assert units is not None and units.fractions.shape == (1000,) and units.map.shape == (256, 8)
    assert units.shown[0] == 0 and units.shown[-1] > 990 and (np.diff(units.shown) >= 3).all()


def test_an_unbounded_output_has_no_map() -> None:
    found = map_units(torch.randn(8, 10) * 4, -1)
    assert found is not None and found.describe("linear") is None
    assert map_units(torch.randn(8), -1) is None


def test_fan_in_is_that_of_torch_initialisation() -> None:
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(7, 3),
            "conv": nn.Conv2d(6, 4, (3, 5), groups=2),
            "gru": nn.GRU(5, 8),
            "attention": nn.MultiheadAttention(8, 2),
            "embedding": nn.Embedding(4, 2),
        }
    )
    found = fan_ins_of(model)
    calculate = nn.init._calculate_fan_in_and_fan_out  # type: ignore[reportPrivateUsage]
    expected = {path: calculate(each)[0] for path, each in model.named_parameters() if each.ndim >= 2}
    del expected["embedding.weight"]
    assert found == expected


class Transposed(nn.Module):
    """A layer as the notebook writes it: `x @ weight`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(30, 200))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.weight


def test_fan_in_of_a_layer_of_the_users_own_is_what_it_was_called_with() -> None:
    model = nn.Sequential(Transposed())
    examined, inputs = examination(model), torch.randn(4, 30)
    examined.add_call(0, model[0], (inputs,), model(inputs).detach(), -1)
    examined.add("param", 0, model[0].weight)
    detail = examined.detail()
    assert detail.fan_ins == {"0.weight": 30}
    assert detail.gains["0.weight"] == pytest.approx(30**0.5 * model[0].weight.square().mean().sqrt().item(), rel=1e-6)


def test_batch_statistics_are_those_it_normalises_by() -> None:
    norm = nn.BatchNorm2d(3, affine=False)
    model = nn.Sequential(norm)
    examined, inputs = examination(model), torch.randn(5, 3, 4, 4) * 2 + 1
    output = model(inputs)
    examined.add_call(0, norm, (inputs,), output.detach(), 1)
    (found,) = examined.detail().batch_statistics
    again = (inputs.numpy() - found.batch_mean[:, None, None]) / np.sqrt(found.batch_var + norm.eps)[:, None, None]
    assert again == pytest.approx(output.numpy(), abs=1e-5)
    assert found.running_mean == pytest.approx(norm.running_mean.numpy())
    assert found.running_var == pytest.approx(norm.running_var.numpy())
