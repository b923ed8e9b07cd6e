"""The intended update against the difference of the parameters, in float64."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, RMSprop

import auscult
from auscult.metrics.intention import intended_update

RECIPES = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "weight_decay": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (SGD, {"lr": 0.1, "maximize": True, "weight_decay": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.5, "nesterov": True, "maximize": True}),
    (Adam, {"lr": 0.01}),
    (Adam, {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}),
    (Adam, {"lr": 0.01, "maximize": True, "fused": True}),
    (AdamW, {"lr": 0.01}),
    (AdamW, {"lr": 0.01, "weight_decay": 0.5, "amsgrad": True}),
    (AdamW, {"lr": torch.tensor(0.01, dtype=torch.float64), "weight_decay": 0.5, "foreach": False, "maximize": True}),
]


@pytest.mark.parametrize(("kind", "options"), RECIPES, ids=lambda value: str(getattr(value, "__name__", value)))
def test_it_is_what_the_parameter_moved_by(kind, options) -> None:
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(50, 4, dtype=torch.float64))
    optimizer = kind([parameter], **options)
    for _ in range(5):
        parameter.grad = torch.randn_like(parameter)
        before = parameter.detach().clone()
        optimizer.step()
        update = intended_update(optimizer, optimizer.param_groups[0], parameter)
        assert update is not None
        torch.testing.assert_close(update, parameter.detach() - before, rtol=1e-9, atol=1e-14)


def test_what_is_not_known_is_not_told() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = SGD([parameter], lr=0.1)
    assert intended_update(optimizer, optimizer.param_groups[0], parameter) is None  # no gradient
    parameter.grad = torch.ones(3)

    class Own(SGD):
        """Does whatever it likes."""

    for other in (Own([parameter], lr=0.1), RMSprop([parameter])):
        other.step()
        assert intended_update(other, other.param_groups[0], parameter) is None


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_a_run_without_a_copy_tells_intended_updates_and_no_others(kind, tmp_path) -> None:
    runs = []
    for snapshot in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 2))
        optimizer = kind(model.parameters(), lr=0.01)
        with auscult.watch(model, optimizer, tmp_path / "run", every=(1, 4), snapshot=snapshot) as monitor:
            for _ in range(9):
                loss = model(torch.randn(8, 300)).square().mean()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                monitor.log(loss=loss)
        assert monitor.failures == []
        runs.append(auscult.load(monitor.path))
    copied, lean = runs
    assert not lean.series("update_norm").observed and not copied.series("intended_update_norm").observed
    for path in copied.paths("update_norm"):
        told, true = lean.series("intended_update_norm", path), copied.series("update_norm", path)
        assert told.steps.tolist() == true.steps.tolist()
        assert abs(told.values / true.values - 1).max() < 1e-3  # the true one has float32's rounding of the parameter
    ratio = lean.series("intended_update_ratio").values / copied.series("update_ratio").values
    assert abs(ratio - 1).max() < 1e-3
    assert lean.series("loss").values.tolist() == copied.series("loss").values.tolist()
    for metric in ("grad_norm", "param_norm"):
        assert abs(lean.series(metric).values / copied.series(metric).values - 1).max() < 1e-6
