"""Perceptron: the notebook's network of 200 hidden units in the stages of its sections 1.1 to 1.5.

Each stage repairs one fault of the one before: an output that is confidently wrong, a saturated tanh, a scale found by
trial, activations that depend on it at all, a bias that BatchNorm cancels.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from os import PathLike

import torch
from torch import Generator, Tensor, nn

from auscult.clinic.makemore import EMBEDDING, SEED, Embedding, Linear, Plan
from auscult.clinic.makemore import train as train_network
from auscult.clinic.names import CONTEXT, Names
from auscult.core.finding import Finding
from auscult.monitor import Monitor
from auscult.monitor.silent import SilentMonitor

HIDDEN = 200
STEPS = 200_000


@dataclass(frozen=True, slots=True)
class Stage:
    """How the network is initialised; everything is drawn from N(0, 1) first.

    Attributes:
        name: Its name.
        about: What is new in it.
        gain: Factor of the hidden weights.
        fan_in: Whether the hidden weights are divided by the root of their fan-in.
        bias: Factor of the hidden biases; None for no biases, which are then not drawn either.
        output: Factor of the output weights.
        output_bias: Factor of the output biases.
        normalised: Whether the hidden layer is normalised over the batch.
        lr: Learning rate of the first 100,000 steps, a tenth of it afterwards.
    """

    name: str
    about: str
    gain: float = 1.0
    fan_in: bool = False
    bias: float | None = 1.0
    output: float = 0.01
    output_bias: float = 0.0
    normalised: bool = False
    lr: float = 0.1


STAGES = {
    each.name: each
    for each in (
        Stage("mlp-original", "200 units, everything from N(0, 1): confidently wrong", output=1.0, output_bias=1.0),
        Stage("mlp-softmax", "the same with a small output layer, so that it begins undecided"),
        Stage("mlp-tanh", "besides, hidden weights x 0.2, so that tanh is not saturated", gain=0.2, bias=0.01),
        Stage("mlp-kaiming", "hidden weights x (5/3) / sqrt(fan_in) instead", gain=5 / 3, fan_in=True, bias=0.01),
        Stage("mlp-batchnorm", "besides, BatchNorm", gain=5 / 3, fan_in=True, bias=0.01, normalised=True),
        Stage("mlp-batchnorm-no-bias", "without the bias that BatchNorm cancels", 5 / 3, True, None, normalised=True),
    )
}


class Standardisation(nn.Module):
    """The BatchNorm of section 1.4: by the standard deviation, without epsilon, and with a slow running estimate."""

    running_mean: Tensor
    running_std: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, features))
        self.bias = nn.Parameter(torch.zeros(1, features))
        self.register_buffer("running_mean", torch.zeros(1, features))
        self.register_buffer("running_std", torch.ones(1, features))

    def forward(self, inputs: Tensor) -> Tensor:
        """`(N, features)` of the same; by the batch while training, by the running statistics otherwise."""
        mean, std = self.running_mean, self.running_std
        if self.training:
            mean, std = inputs.mean(0, keepdim=True), inputs.std(0, keepdim=True)
            with torch.no_grad():
                self.running_mean.copy_(0.999 * self.running_mean + 0.001 * mean)
                self.running_std.copy_(0.999 * self.running_std + 0.001 * std)
        return self.gain * (inputs - mean) / std + self.bias


class Perceptron(nn.Module):
    """Embedding, one hidden layer of 200 tanh units, output layer.

    Args:
        characters: Size of the vocabulary.
        stage: How it is initialised.
        generator: Draws the parameters.
    """

    def __init__(self, characters: int, stage: Stage, generator: Generator) -> None:
        super().__init__()
        self.embedding = Embedding(characters, generator)
        fan_in = EMBEDDING * CONTEXT
        weight = torch.randn((fan_in, HIDDEN), generator=generator) * stage.gain
        weight = weight / fan_in**0.5 if stage.fan_in else weight
        bias = None if stage.bias is None else torch.randn(HIDDEN, generator=generator) * stage.bias
        self.hidden = Linear(weight, bias)
        self.norm = Standardisation(HIDDEN) if stage.normalised else None
        self.tanh = nn.Tanh()
        weight = torch.randn((HIDDEN, characters), generator=generator) * stage.output
        self.output = Linear(weight, torch.randn(characters, generator=generator) * stage.output_bias)

    def forward(self, contexts: Tensor) -> Tensor:
        """Logits `(N, characters)` of contexts `(N, 3)`."""
        hidden = self.hidden(self.embedding(contexts))
        return self.output(self.tanh(hidden if self.norm is None else self.norm(hidden)))


def train(
    stage: Stage,
    names: Names,
    path: str | PathLike[str],
    seed: int = SEED,
    steps: int = STEPS,
    on_step: Callable[[int], object] | None = None,
    on_finding: Callable[[Finding], object] | None = None,
) -> Monitor | SilentMonitor:
    """Train one stage, watched on the default schedule.

    Args:
        stage: Which one.
        names: The names.
        path: Directory of the run.
        seed: Seeds parameters and batches; the published figures belong to 2147483647.
        steps: Number of updates.
        on_step: Called with the number of updates made.
        on_finding: Passed on to `watch`.

    Returns:
        The closed monitor.
    """
    generator = torch.Generator().manual_seed(seed)
    model = Perceptron(len(names.characters), stage, generator)
    plan = Plan(lr=stage.lr, steps=steps, every=None)
    return train_network(
        model, names, generator, path, plan, config=asdict(stage), on_step=on_step, on_finding=on_finding
    )
