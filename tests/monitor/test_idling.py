"""Training that makes no update: what the script did wrong is known exactly, because the script is ours."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import auscult
from auscult.monitor.idling import PASSES, SKIPS


def train(path, passes, update):
    """Passes over random data; `update(optimizer, pass)` makes an update, or none."""
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, path) as monitor:
        for number in range(passes):
            loss = functional.cross_entropy(model(torch.randn(8, 6)), torch.randint(0, 3, (8,)))
            loss.backward()
            update(optimizer, number)
            monitor.log(loss=loss)
    return auscult.load(monitor.path)


def test_a_run_without_a_step_is_critical(tmp_path) -> None:
    run = train(tmp_path / "run", 20, lambda optimizer, number: None)
    (finding,) = auscult.diagnose(run)
    assert (finding.code, finding.severity, finding.path, finding.step) == ("U003", "critical", "", 0)
    assert run.standstill is not None
    assert (run.standstill.passes, run.standstill.skipped) == (20, 0)
    assert finding in [told for _, told in run.findings]


@pytest.mark.parametrize("passes", [1, PASSES - 1])
def test_a_few_passes_are_no_training(tmp_path, passes) -> None:
    run = train(tmp_path / "run", passes, lambda optimizer, number: None)
    assert run.standstill is None
    assert not auscult.diagnose(run)


def test_accumulation_is_no_standstill(tmp_path) -> None:
    run = train(tmp_path / "run", 96, lambda optimizer, number: optimizer.step() if number % 48 == 47 else None)
    assert run.standstill is None
    assert len(run.steps) == 2


class Scaled:
    """Steps through a GradScaler on the CPU whose scale overflows float32 until some pass."""

    def __init__(self, until: int) -> None:
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1.0, growth_interval=10**6, backoff_factor=0.999)
        self.until = until
        self.skipped = 0

    def __call__(self, optimizer, number) -> None:
        if number < self.until:
            optimizer.param_groups[0]["params"][0].grad.fill_(float("inf"))
        before = optimizer.param_groups[0]["params"][0].clone()
        if number == 0:
            self.scaler.scale(torch.ones(()))
        self.scaler.step(optimizer)
        self.scaler.update()
        self.skipped += bool(torch.equal(before, optimizer.param_groups[0]["params"][0]))
        optimizer.zero_grad()


def test_a_scaler_that_skips_every_update_is_told_while_it_happens(tmp_path) -> None:
    scaled = Scaled(until=10**6)
    run = train(tmp_path / "run", SKIPS + 5, scaled)
    assert scaled.skipped == SKIPS + 5
    (finding,) = auscult.diagnose(run)
    assert (finding.code, finding.severity, finding.step) == ("L002", "critical", 0)
    assert finding.evidence[0].value == SKIPS
    assert finding in [told for _, told in run.findings]


def test_a_scaler_that_finds_its_scale_is_silent(tmp_path) -> None:
    scaled = Scaled(until=SKIPS - 1)
    run = train(tmp_path / "run", SKIPS + 20, scaled)
    assert scaled.skipped >= SKIPS - 1
    assert run.standstill is None
    assert "L002" not in [each.code for each in auscult.diagnose(run)]
    later = train(tmp_path / "later", SKIPS + 40, Scaled(until=SKIPS + 3))
    assert later.standstill is not None
    assert "L002" not in [each.code for each in auscult.diagnose(later)]
