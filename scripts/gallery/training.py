"""Training: a case of the clinic as its page shows it, read back."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

import auscult
from auscult.clinic import perceptron
from auscult.clinic.cases import Case, run_case
from auscult.clinic.makemore import Plan
from auscult.clinic.makemore import train as train_network
from auscult.clinic.names import load_names
from auscult.core.run import Run
from auscult.monitor import Monitor
from auscult.monitor.silent import SilentMonitor

LONGEST = 10_000  # updates; of longer cases a page shows the beginning
EVERY = (1, 8)  # norms at every step, samples at every eighth, as the shorter cases have it; no clock decides


def steps_of(case: Case) -> int:
    """Updates that the page of a case shows."""
    return min(case.steps, LONGEST)


def train(case: Case, directory: Path, names: Path | None, on_step: Callable[[int], object]) -> Run:
    """Train a case on one thread, with the seed it is published with.

    Args:
        case: Which one.
        directory: Where its run is written, under the case's name.
        names: makemore's names.txt, for the cases that need it.
        on_step: Called with the number of updates made.

    Raises:
        RuntimeError: if auscult failed to measure something.
    """
    path = directory / case.name
    if case.steps > LONGEST and names is not None:
        monitor = _begin(perceptron.STAGES[case.name], case.seed, path, names, on_step)
    else:
        monitor = run_case(case.name, path, names=names if case.needs_names else None, on_step=on_step)
    if not isinstance(monitor, Monitor) or monitor.failures:
        raise RuntimeError(f"Expected {case.name} to be measured without a failure, but got {monitor}.")
    return auscult.load(monitor.path)


def _begin(
    stage: perceptron.Stage, seed: int, path: Path, names: Path, on_step: Callable[[int], object]
) -> Monitor | SilentMonitor:
    """The first updates of a perceptron, the same as in its whole training, on a fixed schedule."""
    data = load_names(names)
    generator = torch.Generator().manual_seed(seed)
    model = perceptron.Perceptron(len(data.characters), stage, generator)
    plan = Plan(lr=0.1, steps=LONGEST, every=EVERY)
    return train_network(model, data, generator, path, plan, config=asdict(stage), on_step=on_step)
