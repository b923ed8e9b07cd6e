"""Gradient norms are unscaled and pre-clip, whoever scales and clips."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_ as early_bound

import auscult
from auscult.core.run import Run


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3))


def norms_of(model: nn.Module, scale: float = 1.0) -> dict[str, float]:
    return {
        path: (each.grad.double() / scale).norm().item()
        for path, each in model.named_parameters()
        if each.grad is not None
    }


def check(run: Run, expected: list[dict[str, float]]) -> None:
    for step, norms in enumerate(expected):
        for path, norm in norms.items():
            assert run.series("grad_norm", path).at(step) == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("how", ["early", "late", "monitor"])
def test_norms_are_those_before_the_users_own_clipping(how: str, tmp_path: Path) -> None:
    model, expected = network(), list[dict[str, float]]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, tmp_path / "run", every=1) as monitor:
        clip = {"early": early_bound, "late": nn.utils.clip_grad_norm_}.get(how)
        for _ in range(6):
            (100 * model(torch.randn(8, 6)).square().sum()).backward()
            expected.append(norms_of(model))
            total = monitor.clip_grad_norm_(0.5) if clip is None else clip(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
    run = auscult.load(monitor.path)
    check(run, expected)
    assert not monitor.failures and run.series("clip_ratio").values[-1] == pytest.approx(total.item() / 0.5, rel=1e-6)
    assert run.series("grad_norm_clipped").values[-1] == pytest.approx(0.5, rel=1e-4)
    assert set(run.series("grad_changed").values) == {0}


def test_after_clipping_by_value_no_clipped_norm_is_claimed(tmp_path: Path) -> None:
    model, expected = network(), list[dict[str, float]]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, tmp_path / "run", every=1) as monitor:
        for _ in range(3):
            model(torch.randn(8, 6)).square().sum().backward()
            expected.append(norms_of(model))
            nn.utils.clip_grad_value_(model.parameters(), 0.01)
            optimizer.step()
            optimizer.zero_grad()
    run = auscult.load(monitor.path)
    check(run, expected)
    assert not run.series("grad_norm_clipped").observed


def test_a_change_by_hand_is_noticed(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, tmp_path / "run", every=1) as monitor:
        for step in range(4):
            model(torch.randn(8, 6)).square().sum().backward()
            if step == 2:
                for each in model[2].parameters():
                    assert each.grad is not None
                    each.grad.mul_(0.5)
            optimizer.step()
            optimizer.zero_grad()
    assert auscult.load(monitor.path).series("grad_changed").values.tolist() == [0, 0, 2, 0]


@pytest.mark.parametrize("unscaled", [False, True])
def test_norms_are_unscaled_and_skipped_updates_counted(unscaled: bool, tmp_path: Path) -> None:
    model, expected = network(), list[dict[str, float]]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with auscult.watch(model, optimizer, tmp_path / "run", every=1) as monitor:
        for attempt in range(6):
            loss = model(torch.randn(8, 6)).square().sum()
            scale = scaler.get_scale()
            scaler.scale(loss * (float("inf") if attempt == 3 else 1)).backward()
            if attempt != 3:
                expected.append(norms_of(model, scale))
            if unscaled:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    run = auscult.load(monitor.path)
    assert len(run.steps) == 5 and not monitor.failures
    check(run, expected)
    assert run.series("skipped_updates").values.sum() == 1
    assert run.series("loss_scale").values[0] == 1024
