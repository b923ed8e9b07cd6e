"""What is reported while a run trains against `diagnose` of the run cut at that step."""

import random
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import auscult
from auscult.core.errors import StopTraining
from auscult.monitor import allowance


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


def diverging(path, steps: int, **options) -> Iterator[tuple[int, auscult.Monitor]]:
    """A run that diverges slowly from step 300 on, measured at every step; yields after every step."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    with auscult.watch(model, optimizer, path, activations=False, budget=0.99, **options) as monitor:
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 1e-2 if step < 300 else 1.1
            inputs = torch.randn(64, 3)
            loss = (model(inputs).squeeze() - inputs.sum(1) - torch.randn(64)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
            yield step, monitor


def test_judging_that_was_put_off_finds_the_same_when_asked_and_at_the_end(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(allowance, "SHARE", 1.0)  # always time
    told = []
    assert list(diverging(tmp_path / "at once", 470, on_finding=told.append))
    expected = {each.key for each in auscult.diagnose(auscult.load(tmp_path / "at once"))}
    assert any(each.step >= 300 for each in told)
    monkeypatch.setattr(allowance, "SHARE", -1.0)  # never
    told.clear()
    for _ in diverging(tmp_path / "put off", 470, on_finding=told.append):
        assert told == [], "told although there was no time"
    run = auscult.load(tmp_path / "put off")
    assert {each.key for each in told} == expected
    assert {each.key: each.step for each in told} == {each.key: each.step for each in auscult.diagnose(run)}
    assert {each.key for _, each in run.findings} == expected


def test_asking_for_findings_judges_what_was_put_off(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(allowance, "SHARE", -1.0)
    told = []
    for step, monitor in diverging(tmp_path / "run", 470, on_finding=told.append):
        if step == 460:
            assert told == []
            found = monitor.findings
            assert found == auscult.diagnose(auscult.load(monitor.path).until(step))
            assert any(each.step >= 300 for each in told) and {each.key for each in told} >= {
                each.key for each in found
            }


def test_put_off_judging_still_stops_where_it_is_asked_to(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(allowance, "SHARE", 1.0)
    with pytest.raises(StopTraining, match="stop_on"):
        list(diverging(tmp_path / "loop", 1000, stop_on="warning"))
    monkeypatch.setattr(allowance, "SHARE", -1.0)
    with pytest.raises(StopTraining, match="stop_on"):
        for step, monitor in diverging(tmp_path / "asked", 1000, stop_on="warning"):
            if step == 480:
                assert monitor.findings  # asking has them judged, which stops the run
    assert step == 480
