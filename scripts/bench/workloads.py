"""Workloads: what is trained, and how long; random data, no data loading."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from scripts.bench.models import CharacterModel, ResidualNetwork, Transformer
from torch import Tensor, nn
from torch.optim import Optimizer

from auscult.clinic.listening import Network


@dataclass(frozen=True, slots=True)
class Workload:
    """What is trained, and how long.

    Attributes:
        name: As in the table.
        about: The same in words.
        model: Makes the model.
        optimizer: Makes its optimizer.
        batch: Makes inputs and targets.
        clip: Bound of the gradient norm; None where nothing is clipped.
        warm_up: Steps that every variant makes before it is measured.
        begin: Number of the first step where auscult keeps a budget; it reviews it at multiples of 256.
        settle: Steps that auscult makes before it is measured where it keeps a budget.
        blocks: Blocks measured.
        steps: Steps of a block.
    """

    name: str
    about: str
    model: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], Optimizer]
    batch: Callable[[], tuple[Tensor, Tensor]]
    clip: float | None
    warm_up: int
    begin: int
    settle: int
    blocks: int
    steps: int


WORKLOADS = (
    Workload(
        "W1",
        "makemore-like MLP, 46k parameters, batch 32, SGD",
        CharacterModel,
        lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
        lambda: (torch.randint(27, (32, 3)), torch.randint(27, (32,))),
        clip=None,
        warm_up=64,
        begin=0,
        settle=1088,
        blocks=32,
        steps=64,
    ),
    Workload(
        "W2",
        "MNIST CNN, 431k parameters, batch 64, SGD",
        Network,
        lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
        lambda: (torch.randn(64, 1, 28, 28), torch.randint(10, (64,))),
        clip=None,
        warm_up=16,
        begin=0,
        settle=576,
        blocks=8,
        steps=32,
    ),
    Workload(
        "W3",
        "GPT, 10.8M parameters, batch 8 x 128, AdamW, gradients clipped at 1",
        Transformer,
        lambda model: torch.optim.AdamW(model.parameters(), lr=3e-4),
        lambda: (torch.randint(65, (8, 128)), torch.randint(65, (8 * 128,))),
        clip=1.0,
        warm_up=2,
        begin=224,
        settle=34,
        blocks=8,
        steps=2,
    ),
    Workload(
        "W4",
        "ResNet-18 at 32x32, 11.2M parameters, batch 16, SGD with momentum",
        ResidualNetwork,
        lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
        lambda: (torch.randn(16, 3, 32, 32), torch.randint(10, (16,))),
        clip=None,
        warm_up=2,
        begin=224,
        settle=34,
        blocks=8,
        steps=2,
    ),
)

QUICK = tuple(
    replace(each, warm_up=warm_up, begin=252, settle=5, blocks=2, steps=steps)
    for each, (warm_up, steps) in zip(WORKLOADS, ((16, 64), (2, 4), (1, 1), (1, 1)), strict=True)
)
"""The same for a few steps, to see that everything works."""
