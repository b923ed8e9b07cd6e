"""Sandwich: the notebook's six-layer networks of sections 2 and 3, Linear and Tanh in turn, with and without BatchNorm.

Also the two exercises at its end: all parameters zero, and BatchNorm folded away after training.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from os import PathLike

import torch
from torch import Generator, Tensor, nn

from auscult.clinic.batchnorm import BatchNorm, folded
from auscult.clinic.makemore import EMBEDDING, SEED, Embedding, Linear, Plan
from auscult.clinic.makemore import train as train_network
from auscult.clinic.names import CONTEXT, Names
from auscult.core.finding import Finding
from auscult.metrics.activations import SATURATED
from auscult.monitor import Monitor
from auscult.monitor.silent import SilentMonitor

HIDDEN = 100
STEPS = 1001
TANH_GAIN = 5 / 3


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is built, initialised and trained.

    Attributes:
        name: Its name.
        about: The same in words.
        gain: Factor of the weights; of all but the last layer, and with BatchNorm of all.
        fan_in: Whether weights are divided by the root of their fan-in.
        tanh: Whether a Tanh follows every layer but the last.
        normalised: Whether a BatchNorm follows every Linear.
        bias: Whether a Linear has a bias.
        zero: Whether everything is set to zero in the end.
        layers: Number of Linear layers.
        lr: Learning rate.
        steps: Number of updates.
        every: As in `auscult.watch`.
    """

    name: str
    about: str
    gain: float = TANH_GAIN
    fan_in: bool = True
    tanh: bool = True
    normalised: bool = False
    bias: bool = True
    zero: bool = False
    layers: int = 6
    lr: float = 0.1
    steps: int = STEPS
    every: tuple[int, int] = (1, 8)


_NORMALISED = Recipe("deep-batchnorm", "six layers of Linear, BatchNorm and Tanh, gain 5/3", normalised=True)
RECIPES = {
    each.name: each
    for each in (
        Recipe("deep-tanh", "six layers of Linear and Tanh, gain 5/3: healthy", steps=STEPS + 1, every=(1, 1)),
        Recipe("deep-tanh-gain-0.5", "gain 0.5: activations and gradients shrink", gain=0.5),
        Recipe("deep-tanh-gain-1", "gain 1: activations shrink layer by layer", gain=1.0),
        Recipe("deep-tanh-gain-3", "gain 3: tanh is saturated", gain=3.0),
        Recipe("deep-tanh-lr-0.001", "a learning rate of 0.001: too low", lr=0.001),
        Recipe("deep-linear", "no Tanh, gain 5/3: activations grow layer by layer, and the run breaks", tanh=False),
        Recipe("deep-linear-gain-0.5", "no Tanh, gain 0.5: they shrink", tanh=False, gain=0.5),
        Recipe("deep-linear-gain-1", "no Tanh, gain 1: they stay", tanh=False, gain=1.0),
        Recipe("deep-no-fan-in", "weights not divided by sqrt(fan_in): chaotic", fan_in=False),
        _NORMALISED,
        replace(_NORMALISED, name="deep-batchnorm-gain-0.2", about="BatchNorm, gain 0.2: updates too large", gain=0.2),
        replace(_NORMALISED, name="deep-batchnorm-gain-5", about="BatchNorm, gain 5: updates too small", gain=5.0),
        replace(
            _NORMALISED,
            name="deep-batchnorm-no-fan-in",
            about="BatchNorm, weights not divided by sqrt(fan_in): updates far too small",
            gain=1.0,
            fan_in=False,
        ),
        replace(
            _NORMALISED,
            name="deep-batchnorm-no-fan-in-lr-1",
            about="the same with a learning rate of 1: healthy again",
            gain=1.0,
            fan_in=False,
            lr=1.0,
        ),
        replace(_NORMALISED, name="deep-batchnorm-no-bias", about="BatchNorm, gain 1, no biases", gain=1.0, bias=False),
        Recipe("deep-zero", "exercise: every weight and bias 0; which train?", zero=True),
        replace(
            _NORMALISED, name="folding", about="exercise: three layers, BatchNorm folded away at the end", layers=3
        ),
    )
}


class Sandwich(nn.Module):
    """Embedding, then Linear, BatchNorm and Tanh as the recipe says.

    Args:
        characters: Size of the vocabulary.
        recipe: How it is built and initialised.
        generator: Draws the parameters.
    """

    def __init__(self, characters: int, recipe: Recipe, generator: Generator) -> None:
        super().__init__()
        self.embedding = Embedding(characters, generator)
        widths = [EMBEDDING * CONTEXT, *[HIDDEN] * (recipe.layers - 1), characters]
        layers: list[nn.Module] = []
        for number, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
            weight = torch.randn((fan_in, fan_out), generator=generator)
            weight = weight / fan_in**0.5 if recipe.fan_in else weight
            last = number == recipe.layers
            weight *= 0.1 if last and not recipe.normalised else recipe.gain
            layers.append(Linear(weight, torch.zeros(fan_out) if recipe.bias else None))
            if recipe.normalised:
                layers.append(_norm(fan_out, 0.1 if last else 1.0))
            if recipe.tanh and not last:
                layers.append(nn.Tanh())
        self.layers = nn.Sequential(*layers)
        if recipe.zero:
            for parameter in self.parameters():
                nn.init.zeros_(parameter)

    def forward(self, contexts: Tensor) -> Tensor:
        """Logits `(N, characters)` of contexts `(N, 3)`."""
        return self.layers(self.embedding(contexts))


def _norm(features: int, gamma: float) -> BatchNorm:
    norm = BatchNorm(features)
    nn.init.constant_(norm.gamma, gamma)
    return norm


def train(
    recipe: Recipe,
    names: Names,
    path: str | PathLike[str],
    seed: int = SEED,
    steps: int | None = None,
    on_step: Callable[[int], object] | None = None,
    on_finding: Callable[[Finding], object] | None = None,
) -> Monitor | SilentMonitor:
    """Train one network on a fixed schedule.

    Besides what `watch` records: without Tanh, the notebook's share of outputs beyond 0.97 as `saturated/layers.0`
    and so on, because `saturated_fraction` is for outputs within [-1, 1]; with BatchNorm, how far a logit moves when it
    is folded away, relative to the largest, as `folding/float32` and `folding/float64`.

    Args:
        recipe: Which one.
        names: The names.
        path: Directory of the run.
        seed: Seeds parameters and batches; the published figures belong to 2147483647.
        steps: Number of updates; None takes the recipe's.
        on_step: Called with the number of updates made.
        on_finding: Passed on to `watch`.

    Returns:
        The closed monitor.
    """
    generator = torch.Generator().manual_seed(seed)
    model = Sandwich(len(names.characters), recipe, generator)
    return train_network(
        model,
        names,
        generator,
        path,
        Plan(lr=recipe.lr, steps=recipe.steps if steps is None else steps, every=recipe.every),
        config=asdict(recipe),
        on_start=None if recipe.tanh else partial(_log_saturation, model),
        on_step=on_step,
        on_finding=on_finding,
        on_end=partial(_log_folding, model, names.dev.contexts) if recipe.normalised else None,
    )


def folding_error(model: Sandwich, contexts: Tensor, dtype: torch.dtype) -> float:
    """Largest change of a logit when every BatchNorm is folded away, relative to the largest logit."""
    exact = deepcopy(model).to(dtype).eval()
    with torch.no_grad():
        inputs = exact.embedding(contexts)
        logits = exact.layers(inputs)
        return float((folded(exact.layers)(inputs) - logits).abs().max() / logits.abs().max())


def _log_folding(model: Sandwich, contexts: Tensor, monitor: Monitor | SilentMonitor) -> None:
    monitor.log_evaluation(
        "folding",
        float32=folding_error(model, contexts, torch.float32),
        float64=folding_error(model, contexts, torch.float64),
    )


def _log_saturation(model: Sandwich, monitor: Monitor | SilentMonitor) -> None:
    def log(path: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        if model.training:
            monitor.log({f"saturated/{path}": (output.abs() > SATURATED).float().mean()})

    for number in range(len(model.layers) - 1):
        model.layers[number].register_forward_hook(partial(log, f"layers.{number}"))
