"""Session: one training of the clinic, watched at every step, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from auscult.core.finding import Finding
from auscult.monitor import Monitor, watch
from auscult.monitor.silent import SilentMonitor

Watching = Monitor | SilentMonitor


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a training.

    Attributes:
        score: Accuracy or R2 on held-out data in evaluation mode, at most 1; higher is better.
        updated: Whether any parameter is another number than before.
        steps: Number of updates.
    """

    score: float
    updated: bool
    steps: int


class Training(Protocol):
    """Something that can be trained from a seed."""

    def train(self, path: str | PathLike[str], seed: int) -> Outcome:
        """Train it, recorded at `path`."""
        ...


def hold(
    model: nn.Module,
    optimizer: Any,
    path: str | PathLike[str],
    loop: Callable[[Watching], object],
    score: Callable[[], float],
    **options: Any,
) -> Outcome:
    """Watch a model while a loop trains it, and score it afterwards in evaluation mode.

    Args:
        model: The model.
        optimizer: Its optimizer, or several as `watch` takes them.
        path: Directory of the run.
        loop: Trains the model, given the monitor.
        score: The score of the trained model; called without gradients.
        options: Passed on to `watch`.
    """
    before = [each.detach().clone() for each in model.parameters()]
    with watch(model, optimizer, path, every=1, on_finding=_ignore, **options) as monitor:
        first = monitor.step
        loop(monitor)
    model.eval()
    with torch.no_grad():
        found = score()
    updated = any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    return Outcome(found, updated, monitor.step - first)


def _ignore(finding: Finding) -> None:
    """Findings are asked for afterwards."""


@dataclass(frozen=True, slots=True)
class Script:
    """A training that is a function.

    Attributes:
        function: Trains, given the directory of the run and the seed.
    """

    function: Callable[[str | PathLike[str], int], Outcome]

    def train(self, path: str | PathLike[str], seed: int) -> Outcome:
        """Train it, recorded at `path`."""
        return self.function(path, seed)


def descend(optimizer: Optimizer, steps: int, loss_of: Callable[[], Tensor]) -> Callable[[Watching], None]:
    """The usual loop: a loss, its gradient, a step; the loss is logged."""

    def loop(monitor: Watching) -> None:
        for _ in range(steps):
            loss = loss_of()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)

    return loop
