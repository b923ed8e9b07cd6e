"""Learning rates and weight decays as they are at each step, however they are changed."""

import torch
from torch import nn

import auscult


def test_settings_are_read_anew_whenever_they_change(tmp_path) -> None:
    """A number put in place, a tensor changed in place, a group added, all groups replaced."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    rate = torch.tensor(0.01)
    first, second = model
    optimizer = torch.optim.SGD([{"params": first.parameters(), "lr": rate, "weight_decay": 0.0}], lr=0.01)
    with auscult.watch(model, optimizer, tmp_path / "run", every=64, activations=False) as monitor:
        for step in range(12):
            if step == 2:
                rate.mul_(0.5)
            if step == 4:
                optimizer.param_groups[0]["weight_decay"] = 0.1
            if step == 6:
                optimizer.add_param_group({"params": list(second.parameters()), "lr": 0.25})
            if step == 8:
                optimizer.param_groups = [dict(group, lr=0.125) for group in optimizer.param_groups]
            if step == 10:
                optimizer.param_groups[0]["weight_decay"] = 0.0
            model(torch.randn(8, 3)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert monitor.failures == []
    run = auscult.load(tmp_path / "run")
    groups = run.paths("lr")
    rates = dict(zip(run.series("lr", groups[0]).steps.tolist(), run.series("lr", groups[0]).values.tolist()))
    assert [round(rates[step], 6) for step in range(12)] == [0.01] * 2 + [0.005] * 6 + [0.125] * 4
    assert run.series("lr", groups[1]).steps.tolist() == list(range(6, 12))
    assert run.series("lr", groups[1]).values.tolist() == [0.25] * 2 + [0.125] * 4
    assert run.series("weight_decay", groups[0]).steps.tolist() == list(range(4, 10))


def test_what_sleeps_wakes_for_the_next_measured_or_examined_step(tmp_path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, tmp_path / "run", every=(16, 32)) as monitor:
        for step in range(40):
            if step == 7:
                monitor.examine()
            nn.functional.mse_loss(model(torch.randn(8, 3)), torch.zeros(8, 1)).backward()
            optimizer.step()
            optimizer.zero_grad()
    run = auscult.load(tmp_path / "run")
    assert run.series("grad_norm", "0.weight").steps.tolist() == [0, 7, 16, 32]
    assert run.series("activation_std", "1").steps.tolist() == [0, 7, 32]
    assert run.series("observed_loss").steps.tolist() == [0, 7, 32]
    assert run.details == (0, 7)
