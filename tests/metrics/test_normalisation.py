"""Statistics of batches beside running ones, against both taken by hand in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from auscult.core.sink import Channel
from auscult.metrics.activations import Activations
from auscult.metrics.normalisation import statistics_apart


def never(part: str, error: Exception) -> None:
    raise AssertionError(part) from error


def apart(module: nn.Module, batch: torch.Tensor) -> tuple[float, float]:
    """By hand, before the call."""
    others = [axis for axis in range(batch.ndim) if axis != 1]
    mean, variance = batch.double().mean(others), batch.double().var(others, correction=1)
    running_mean, running_variance = module.running_mean.double(), module.running_var.double() + module.eps
    shift = ((running_mean - mean).abs() / running_variance.sqrt()).numpy()
    return float(np.median(shift)), float(np.median(((variance + module.eps) / running_variance).numpy()))


def filled(module: nn.Module) -> nn.Module:
    module.running_mean.copy_(torch.randn(module.num_features))
    module.running_var.copy_(torch.rand(module.num_features) + 0.5)
    return module


@pytest.mark.parametrize("momentum", [0.1, 0.5, 0.001, 0.0])
@pytest.mark.parametrize(
    ("kind", "shape"), [(nn.BatchNorm1d, (40, 7)), (nn.BatchNorm1d, (9, 6, 5)), (nn.BatchNorm2d, (8, 5, 4, 3))]
)
def test_the_running_statistics_are_those_before_the_call(kind, shape: tuple[int, ...], momentum: float) -> None:
    torch.manual_seed(0)
    module = filled(kind(shape[1], momentum=momentum))
    batch = torch.randn(shape) * 3 + 2
    exact = apart(module, batch)
    module(batch)
    assert statistics_apart(module, (batch,)).tolist() == pytest.approx(exact, rel=1e-4)


def test_a_plain_average_over_batches() -> None:
    torch.manual_seed(0)
    module = nn.BatchNorm1d(5, momentum=None)
    for _ in range(3):
        module(torch.randn(30, 5) + 1)
    batch = torch.randn(30, 5) * 2
    exact = apart(module, batch)
    module(batch)
    assert statistics_apart(module, (batch,)).tolist() == pytest.approx(exact, rel=1e-4)
    first = nn.BatchNorm1d(5, momentum=None)
    first(batch)
    assert statistics_apart(first, (batch,)).tolist() == pytest.approx([0.0, 1.0], abs=1e-4)


def test_what_keeps_no_statistics_of_its_own_batch_is_not_observed() -> None:
    batch = torch.randn(8, 4)
    for module in (
        nn.BatchNorm1d(4).eval(),
        nn.BatchNorm1d(4, track_running_stats=False),
        nn.BatchNorm1d(4, momentum=1.0),
        nn.LayerNorm(4),
        nn.Linear(4, 4),
    ):
        module(batch)
        assert statistics_apart(module, (batch,)) is None


def test_large_batches_are_thinned_in_place_and_not_in_samples() -> None:
    torch.manual_seed(0)
    module = filled(nn.BatchNorm2d(16))
    batch = torch.randn(64, 16, 33, 40) + torch.randn(64, 1, 1, 1) * 2  # samples differ, positions do not
    exact = apart(module, batch)
    module(batch)
    assert statistics_apart(module, (batch,)).tolist() == pytest.approx(exact, rel=0.05)


def test_hooks_take_the_mean_over_the_calls_of_a_step() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 1))
    activations = Activations(model, never)
    activations.armed = True
    exact = []
    for scale in (1.0, 5.0):
        inputs = torch.randn(20, 4) * scale
        with torch.no_grad():
            hidden = model[0](inputs)
        exact.append(apart(model[1], hidden))
        model(inputs).sum().backward()
    figures = activations.take().figures()
    shift, scale = np.mean(exact, axis=0)
    assert figures == {
        Channel("statistics_shift", "1"): pytest.approx(shift, rel=1e-4),
        Channel("statistics_scale", "1"): pytest.approx(scale, rel=1e-4),
    }
    assert activations.take().figures() == {}
