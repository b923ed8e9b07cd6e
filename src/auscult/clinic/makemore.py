"""Makemore: the training loop of "Building makemore Part 3: Activations & Gradients, BatchNorm" (Karpathy, 2022).

Every random number is drawn from one generator in the notebook's order: the parameters first, in the order in which its
cells name them, then the batches. Knows nothing of what the networks look like.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from auscult.clinic.names import Names
from auscult.core.finding import Finding
from auscult.monitor import Monitor, watch
from auscult.monitor.silent import SilentMonitor

SEED = 2147483647
BATCH = 32
EMBEDDING = 10
DECAY_STEP = 100_000
EVALUATED = 4096  # contexts at once


class Embedding(nn.Module):
    """A vector of ten numbers per character, drawn from N(0, 1).

    Args:
        characters: Size of the vocabulary.
        generator: Draws the vectors.
    """

    def __init__(self, characters: int, generator: Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn((characters, EMBEDDING), generator=generator))

    def forward(self, contexts: Tensor) -> Tensor:
        """The vectors of each context side by side, `(N, 3 * 10)`."""
        return self.weight[contexts].flatten(1)


class Linear(nn.Module):
    """`x @ weight + bias`, with the weight lying as in the notebook.

    Args:
        weight: `(fan_in, fan_out)`.
        bias: `(fan_out,)` or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """`(N, fan_out)` of `(N, fan_in)`."""
        outputs = inputs @ self.weight
        return outputs if self.bias is None else outputs + self.bias


@dataclass(frozen=True, slots=True)
class Plan:
    """How a network is trained.

    Attributes:
        lr: Learning rate of plain SGD, a tenth of it from step 100,000 on.
        steps: Number of updates.
        every: As in `auscult.watch`.
    """

    lr: float
    steps: int
    every: int | tuple[int, int] | None


def train(
    model: nn.Module,
    names: Names,
    generator: Generator,
    path: str | PathLike[str],
    plan: Plan,
    config: Mapping[str, object],
    on_start: Callable[[Monitor | SilentMonitor], object] | None = None,
    on_step: Callable[[int], object] | None = None,
    on_finding: Callable[[Finding], object] | None = None,
    on_end: Callable[[Monitor | SilentMonitor], object] | None = None,
) -> Monitor | SilentMonitor:
    """Train a network on the names, and log the loss on all of train and dev at the end.

    Args:
        model: Logits `(N, characters)` of contexts `(N, 3)`.
        names: The names.
        generator: Draws the batches.
        path: Directory of the run.
        plan: Learning rate, steps and cadence.
        config: Kept with the run.
        on_start: Called with the monitor before the first step.
        on_step: Called with the number of updates made.
        on_finding: Passed on to `watch`.
        on_end: Called with the monitor before it closes.

    Returns:
        The closed monitor.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=plan.lr)
    facts = {"optimizer": "sgd", "lr": plan.lr, "batch": BATCH, "seed": generator.initial_seed(), **config}
    contexts, targets = names.train.contexts, names.train.targets
    watched = watch(model, optimizer, path, config=facts, every=plan.every, steps=plan.steps, on_finding=on_finding)
    with watched as monitor:
        if on_start is not None:
            on_start(monitor)
        for step in range(plan.steps):
            chosen = torch.randint(0, len(contexts), (BATCH,), generator=generator)
            if step == DECAY_STEP:
                optimizer.param_groups[0]["lr"] = plan.lr / 10
            loss = functional.cross_entropy(model(contexts[chosen]), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
            if on_step is not None:
                on_step(step + 1)
        for name, split in (("train", names.train), ("dev", names.dev)):
            monitor.log_evaluation(name, loss=mean_loss(model, split.contexts, split.targets))
        if on_end is not None:
            on_end(monitor)
    return monitor


@torch.no_grad()
def mean_loss(model: nn.Module, contexts: Tensor, targets: Tensor) -> float:
    """Mean cross-entropy over all contexts, as the model stands in evaluation mode."""
    training = model.training
    model.eval()
    parts = zip(contexts.split(EVALUATED), targets.split(EVALUATED))
    total = sum(float(functional.cross_entropy(model(some), wanted, reduction="sum")) for some, wanted in parts)
    model.train(training)
    return total / len(contexts)
