"""Training with and without the monitor, compared bit by bit: every optimizer in every habit of training."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import auscult

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01),
    "fused AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.2, max_iter=3),
}
HABITS = (
    "plain",
    "clipped",
    "accumulated over 4",
    "autocast to bfloat16",
    "checkpointed",
    "checkpointed, reentrant",
    "compiled by aot_eager",
    "compiled by inductor",
)
STEPS = 12

without_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="inductor needs a C++ compiler, and there is none"
)


class Network(nn.Module):
    """BatchNorm, dropout, a bare root parameter and tied weights, with a block that may be checkpointed."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))
        self.stem = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Dropout(0.2))
        self.block = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 16))
        self.block[3].weight = self.block[0].weight
        self.head = nn.Linear(16, 5)
        self.reentrant = reentrant

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.stem(inputs * self.scale)
        if self.reentrant is None:
            return self.head(self.block(hidden))
        return self.head(checkpoint(self.block, hidden, use_reentrant=self.reentrant))


def train(optimizer_name: str, habit: str, path: Path | None) -> list[torch.Tensor]:
    """Losses, gradients, clipping totals and, at the end, everything that makes up the state of the training."""
    torch._dynamo.reset()
    torch.manual_seed(3)
    model: nn.Module = Network({"checkpointed": False, "checkpointed, reentrant": True}.get(habit))
    if habit.endswith("inductor"):  # which takes its time over every kernel
        model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 5))
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    called = torch.compile(model, backend=habit.rpartition(" ")[2]) if habit.startswith("compiled") else model
    monitor = auscult.watch(called, optimizer, path, every=(1, 1), steps=STEPS) if path is not None else None
    parts = 4 if habit.startswith("accumulated") else 1
    generator = torch.Generator().manual_seed(0)
    seen: list[torch.Tensor] = []

    def evaluate() -> torch.Tensor:
        optimizer.zero_grad()
        total = torch.zeros(())
        for part in batch:
            targets = part.sum(1).round().long() % 5
            with torch.autocast("cpu", torch.bfloat16, enabled=habit.startswith("autocast")):
                loss = functional.cross_entropy(called(part), targets) / parts
            loss.backward()
            total = total + loss.detach()
        if habit == "clipped":
            clip = nn.utils.clip_grad_norm_ if monitor is None else lambda _, bound: monitor.clip_grad_norm_(bound)
            seen.append(clip(model.parameters(), 0.5))
        seen.extend(each.grad.clone() for each in model.parameters() if each.grad is not None)
        seen.append(total)
        return total

    for _ in range(STEPS):
        batch = [torch.randn(12, 8, generator=generator) for _ in range(parts)]
        if optimizer_name == "LBFGS":
            loss = optimizer.step(evaluate)
        else:
            loss = evaluate()
            optimizer.step()
        if monitor is not None:
            monitor.log(loss=loss)
            monitor.log_categories(torch.ones(3), ["a", "b", "a"])
    if monitor is not None:
        monitor.close()
        assert monitor.failures == [] and len(auscult.load(path).series("update_norm")) == STEPS
    seen += [*model.state_dict().values(), torch.get_rng_state()]
    for state in optimizer.state_dict()["state"].values():
        seen += [each for each in state.values() if isinstance(each, torch.Tensor)]
    return seen


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize(
    "habit",
    [pytest.param(each, marks=[without_compiler] if each.endswith("inductor") else []) for each in HABITS],
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_is_the_same_to_the_bit(optimizer: str, habit: str, tmp_path: Path) -> None:
    bare = train(optimizer, habit, None)
    watched = train(optimizer, habit, tmp_path / "run")
    assert len(bare) == len(watched) > STEPS
    assert all(torch.equal(a, b) for a, b in zip(bare, watched))
    assert all(bool(each.isfinite().all()) for each in bare if each.is_floating_point())


def test_a_fresh_process_draws_the_same_random_numbers(tmp_path: Path) -> None:
    """A library that draws while it is imported (rich does) would shift the user's numbers, seeded before `watch`."""
    script = """
import random, sys
import numpy, torch, torch._dynamo, auscult
random.seed(0); numpy.random.seed(0); torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
before = random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist()
monitor = auscult.watch(model, optimizer, sys.argv[1], steps=4)
for step in range(4):
    loss = model(torch.full((2, 3), float("nan") if step == 2 else 1.0)).sum()
    loss.backward()
    optimizer.step()
    monitor.log(loss=loss)
assert monitor.findings
monitor.close()
auscult.diagnose(auscult.load(monitor.path))
assert before == (random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist())
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], check=True)
