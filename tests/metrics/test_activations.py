"""Activation statistics against the tensors themselves."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from auscult.core.sink import empty_row, observed
from auscult.metrics.activations import METRICS, Activations


def never(part: str, error: Exception) -> None:
    raise AssertionError(part) from error


def measured(activations: Activations) -> dict[str, dict[str, float]]:
    row = empty_row("sampled", 6 * len(activations.paths)).reshape(6, -1)
    activations.take().write(row)
    seen = observed(row)
    return {
        path: {metric: float(row[kind, number]) for kind, metric in enumerate(METRICS) if seen[kind, number]}
        for number, path in enumerate(activations.paths)
    }


def test_moments_of_outputs_and_of_their_gradients() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 5))
    kept: dict[str, torch.Tensor] = {}

    def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        output.retain_grad()
        kept["tanh"] = output

    model[1].register_forward_hook(keep)
    activations = Activations(model, never)
    activations.armed = True
    (model(torch.randn(64, 20) * 3) ** 2).sum().backward()
    values = measured(activations)["1"]
    exact, gradient = kept["tanh"].detach().double().numpy(), kept["tanh"].grad.double().numpy()
    assert values["activation_mean"] == pytest.approx(exact.mean(), rel=1e-5)
    assert values["activation_std"] == pytest.approx(exact.std(ddof=1), rel=1e-5)
    assert values["saturated_fraction"] == pytest.approx((np.abs(exact) > 0.97).mean(), rel=1e-6)
    assert values["activation_grad_mean"] == pytest.approx(gradient.mean(), rel=1e-4)
    assert values["activation_grad_std"] == pytest.approx(gradient.std(ddof=1), rel=1e-5)
    assert activations.order == ["0", "1", "2"]


def test_dead_units_by_output_and_for_functional_relu_by_gradient() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.Linear(4, 10), nn.Linear(10, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.inner(x)))

    functional, modular = Functional(), nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 1))
    for layer in (functional.inner, modular[0]):
        nn.init.constant_(layer.weight, 0.1)
        layer.bias.data.fill_(10.0)
        layer.bias.data[:3] = -10.0  # three of ten units never fire
    inputs = torch.rand(32, 4)
    for model, path in ((functional, "inner"), (modular, "1")):
        activations = Activations(model, never)
        activations.armed = True
        model(inputs).sum().backward()
        assert measured(activations)[path]["dead_fraction"] == pytest.approx(0.3)


def test_dead_channels_of_images() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    model[0].bias.data[:] = torch.tensor([-100.0, 100.0, 100.0, 100.0])
    activations = Activations(model, never)
    activations.armed = True
    model(torch.rand(8, 1, 9, 9)).sum().backward()
    assert measured(activations)["1"]["dead_fraction"] == pytest.approx(0.25)


def test_saturation_is_only_observed_where_outputs_are_bounded() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    activations = Activations(model, never)
    activations.armed = True
    model(torch.randn(50, 3) * 100).sum().backward()
    values = measured(activations)
    assert "saturated_fraction" not in values["0"] and values["1"]["saturated_fraction"] > 0.5


def test_asleep_in_evaluation_and_on_recomputation() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    activations = Activations(model, never)
    model(torch.randn(2, 3))
    assert measured(activations) == {"0": {}, "1": {}}
    activations.armed = True
    with torch.no_grad():
        model(torch.randn(2, 3))
    model.eval()
    model(torch.randn(2, 3))
    model.train()
    assert measured(activations) == {"0": {}, "1": {}}
    inputs = torch.randn(2, 3, requires_grad=True)
    checkpoint(model, inputs, use_reentrant=False).sum().backward()
    activations.armed = False
    assert measured(activations)["0"]["activation_mean"] == pytest.approx(
        float(model[0](inputs).detach().mean()), rel=1e-4
    )


def test_a_module_called_twice_is_one_sample() -> None:
    layer = nn.Linear(3, 3)

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x[:5]).sum() + self.layer(x[5:]).sum()

    model, inputs = Shared(), torch.randn(12, 3)
    activations = Activations(model, never)
    activations.armed = True
    model(inputs).backward()
    activations.armed = False
    exact = layer(inputs).detach().double().numpy()
    values = measured(activations)["layer"]
    assert values["activation_mean"] == pytest.approx(exact.mean(), rel=1e-5)
    assert values["activation_std"] == pytest.approx(exact.std(ddof=1), rel=1e-5)


def test_large_outputs_are_sampled_within_two_percent() -> None:
    model = nn.Sequential(nn.Linear(64, 1024))
    activations = Activations(model, never)
    activations.armed = True
    output = model(torch.randn(2048, 64))
    output.sum().backward()
    values = measured(activations)["0"]
    assert values["activation_std"] == pytest.approx(float(output.detach().std()), rel=0.03)


def test_in_place_relu_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace=True), nn.Linear(8, 1))
    plain = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    plain.load_state_dict(model.state_dict())
    activations = Activations(model, never)
    activations.armed = True
    inputs = torch.randn(9, 3)
    model(inputs).sum().backward()
    plain(inputs).sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), plain.parameters()))
    assert len(measured(activations)["1"]) > 0
