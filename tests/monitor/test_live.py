"""What is reported while a run trains against `diagnose` of the run cut at that step."""

import random

import pytest
import torch
from torch import nn

import auscult
from auscult.core.errors import StopTraining


def random_run(seed: int, path, resume: bool) -> tuple[auscult.Monitor, dict[int, list]]:
    """A short run with a random network, random faults at random steps; findings as they stood after each step."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    width, depth = draw.choice([4, 16]), draw.choice([1, 3, 5])
    activation = draw.choice([nn.ReLU, nn.Sigmoid, nn.Tanh])
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), activation())]
    model = nn.Sequential(*layers, nn.Linear(width, 3))
    lr = 10 ** draw.uniform(-6, 1.5)
    optimizer = draw.choice([torch.optim.SGD, torch.optim.Adam])(model.parameters(), lr=lr)
    faults = {draw.randrange(200): draw.choice(["nan", "zero", "kill", "spike", "frozen"]) for _ in range(2)}
    stood: dict[int, list] = {}
    steps = draw.randrange(70, 240)
    options = {"every": draw.choice([1, 2, 8, (1, 4)]), "activations": draw.random() < 0.7}
    monitor = auscult.watch(model, optimizer, path, **options)
    for step in range(steps):
        if resume and step == steps // 2:
            monitor.close()
            monitor = auscult.watch(model, optimizer, path, if_exists="resume", **options)
        loss = nn.functional.cross_entropy(model(torch.randn(8, width)), torch.randint(3, (8,)))
        loss.backward()
        fault = next((kind for begin, kind in faults.items() if begin <= step < begin + 12), None)
        with torch.no_grad():
            first = next(model.parameters())
            if fault == "nan":
                first.grad[0] = torch.nan
            elif fault == "zero":
                [parameter.grad.zero_() for parameter in model.parameters()]
            elif fault == "spike":
                first.grad *= 1e6
            elif fault == "kill":
                first.fill_(-10.0)
        if fault == "frozen":
            optimizer.zero_grad()
        if draw.random() < 0.5:
            monitor.clip_grad_norm_(1e-3)
        optimizer.step()
        optimizer.zero_grad()
        monitor.log(loss=loss)
        stood[monitor.saved_step] = list(monitor.findings)
    monitor.close()
    assert monitor.failures == []
    stood["end"] = list(monitor.findings)
    return monitor, stood


@pytest.mark.parametrize("seed", range(20))
def test_live_equals_afterwards(seed, tmp_path) -> None:
    monitor, stood = random_run(seed, tmp_path / "run", resume=seed % 3 == 2)
    run = auscult.load(monitor.path)
    assert auscult.diagnose(run) == stood.pop("end")
    printed = {step for step, _ in run.findings}
    checked = sorted(printed | set(random.Random(seed).sample(sorted(stood), 15)))
    for step in checked:
        if step in stood and step < run.last_step:
            assert auscult.diagnose(run.until(step)) == stood[step], step


def test_the_random_runs_are_not_all_healthy(tmp_path) -> None:
    found = [len(random_run(seed, tmp_path / str(seed), resume=False)[1]["end"]) for seed in range(6)]
    assert sum(count > 0 for count in found) >= 3


def test_findings_reach_the_log_the_callback_and_the_store(tmp_path, caplog) -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    called = []
    with auscult.watch(model, optimizer, tmp_path / "run", on_finding=called.append):
        for step in range(10):
            model(torch.ones(2, 3) * (torch.nan if step == 5 else 1.0)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert called and called[0].severity == "critical" and called[0].step == 5
    assert any("CRITICAL" in each.getMessage() and each.name == "auscult" for each in caplog.records)
    assert [finding.key for _, finding in auscult.load(tmp_path / "run").findings] == [each.key for each in called]


def test_stop_on_raises_only_when_asked(tmp_path) -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.raises(StopTraining, match="Stopped at step 2"),
        auscult.watch(model, optimizer, tmp_path / "run", stop_on="critical"),
    ):
        for step in range(10):
            model(torch.ones(2, 3) * (torch.nan if step == 2 else 1.0)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    run = auscult.load(tmp_path / "run")
    assert run.finished and run.last_step == 2
    assert "StopTraining" in run.events[-1]["reason"]
