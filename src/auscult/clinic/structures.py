"""Structures: healthy trainings of networks that are built in uncommon ways, on digits for the most part."""

from os import PathLike

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from auscult.clinic.networks import build_network
from auscult.clinic.objectives import score
from auscult.clinic.session import Outcome, descend, hold
from auscult.clinic.tables import Table, load_table, scale_inputs

BATCH, EXPERTS = 32, 4
Path = str | PathLike[str]


class Residual(nn.Module):
    """A branch of two layers that is added to its input.

    Args:
        width: Numbers per sample.
        gated: Whether the branch is multiplied by a gate that begins at 0.
    """

    def __init__(self, width: int, gated: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.gate = nn.Parameter(torch.zeros(1)) if gated else None

    def forward(self, inputs: Tensor) -> Tensor:
        """`(N, width)` of the same."""
        added = self.branch(inputs)
        return inputs + (added if self.gate is None else self.gate * added)


class Adapter(nn.Module):
    """A frozen linear layer with a trained update of rank 4 beside it, one factor of which begins at 0.

    Args:
        layer: The layer to be frozen.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(4, layer.in_features) / layer.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, 4))

    def forward(self, inputs: Tensor) -> Tensor:
        """`(N, out)` of `(N, in)`."""
        return self.layer(inputs) + functional.linear(functional.linear(inputs, self.down), self.up)


class Experts(nn.Module):
    """Four experts of which each sample goes to one, and a branch that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(64, EXPERTS)
        self.experts = nn.ModuleList(build_network(64, 10, (32,)) for _ in range(EXPERTS))
        self.spare = nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits `(N, 10)` of `(N, 64)`."""
        weight, chosen = torch.softmax(self.gate(inputs), 1).max(1)
        output = inputs.new_zeros(len(inputs), 10)
        for number, expert in enumerate(self.experts):
            mine = chosen == number
            if bool(mine.any()):
                output[mine] = weight[mine, None] * expert(inputs[mine])
        return output


class Outliner(nn.Module):
    """A U-shaped network: down to 4 x 4, up again, with the first layer's output beside."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(1, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.leave = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(N, 64)` of images `(N, 64)`."""
        first = functional.relu(self.enter(images.unflatten(1, (1, 8, 8))))
        back = functional.relu(self.up(functional.relu(self.down(first))))
        return self.leave(torch.cat([first, back], 1)).flatten(1)


class Rescaled(nn.Module):
    """A network whose output is brought to the targets' own scale by two constants.

    Args:
        network: Gives numbers of about 1.
        mean: Mean of the targets.
        std: Their standard deviation.
    """

    def __init__(self, network: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.network, self.mean, self.std = network, mean, std

    def forward(self, inputs: Tensor) -> Tensor:
        """Predictions `(N, 1)` in the targets' scale."""
        return self.mean + self.std * self.network(inputs)


def deep_residual(path: Path, seed: int, gated: bool = False) -> Outcome:
    """Sixteen residual blocks."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 32), *(Residual(32, gated) for _ in range(16)), nn.Linear(32, 10))
    return _classify(model, path, seed, 300)


def gated_residual(path: Path, seed: int) -> Outcome:
    """Sixteen residual blocks behind gates that begin at 0."""
    return deep_residual(path, seed, gated=True)


def zero_head(path: Path, seed: int) -> Outcome:
    """An output layer that begins at 0."""
    torch.manual_seed(seed)
    model = build_network(64, 10, (64,))
    for each in model[-1].parameters():
        nn.init.zeros_(each)
    return _classify(model, path, seed, 300)


def experts(path: Path, seed: int) -> Outcome:
    """A mixture of experts, with a branch that is never called."""
    torch.manual_seed(seed)
    return _classify(Experts(), path, seed, 300)


def adapters(path: Path, seed: int) -> Outcome:
    """A network trained on mirrored digits, adapted to digits as they are by updates of rank 4."""
    train, _ = scale_inputs(*load_table("digits", seed), "unit")
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed)
    model = build_network(64, 10, (64, 64))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(300):
        batch = train.rows(torch.randint(0, len(train), (BATCH,), generator=generator))
        optimizer.zero_grad()
        functional.cross_entropy(model(batch.inputs.flip(1)), batch.targets).backward()
        optimizer.step()
    adapted = nn.Sequential(*(Adapter(each) if isinstance(each, nn.Linear) else each for each in model))
    return _classify(adapted, path, seed, 300, lr=1e-2)


def outline(path: Path, seed: int) -> Outcome:
    """A U-shaped network that finds the ink of noisy digits."""
    train, held = scale_inputs(*load_table("digits", seed), "unit")
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed)
    model = Outliner()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def noisy(images: Tensor) -> Tensor:
        return images + 0.15 * torch.randn(images.shape, generator=generator)

    def loss() -> Tensor:
        images = train.inputs[torch.randint(0, len(train), (BATCH,), generator=generator)]
        return functional.binary_cross_entropy_with_logits(model(noisy(images)), (images > 0.4).float())

    wanted = Table(noisy(held.inputs), (held.inputs > 0.4).float(), labels=True)
    return hold(model, optimizer, path, descend(optimizer, 200, loss), lambda: score(model(wanted.inputs), wanted, 0.0))


def rescaled(path: Path, seed: int) -> Outcome:
    """Targets of thousands, brought to scale behind the network, and a loss in their own units."""
    train, held = scale_inputs(*load_table("thousands", seed), "std")
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed)
    model = Rescaled(build_network(3, 1, (16,)), float(train.targets.mean()), float(train.targets.std()))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def loss() -> Tensor:
        batch = train.rows(torch.randint(0, len(train), (BATCH,), generator=generator))
        return functional.mse_loss(model(batch.inputs), batch.targets)

    return hold(model, optimizer, path, descend(optimizer, 300, loss), lambda: score(model(held.inputs), held, 0.0))


def _classify(model: nn.Module, path: Path, seed: int, steps: int, lr: float = 2e-3) -> Outcome:
    """Train a network on digits with Adam."""
    train, held = scale_inputs(*load_table("digits", seed), "unit")
    generator = Generator().manual_seed(seed)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=lr)

    def loss() -> Tensor:
        batch = train.rows(torch.randint(0, len(train), (BATCH,), generator=generator))
        return functional.cross_entropy(model(batch.inputs), batch.targets)

    return hold(model, optimizer, path, descend(optimizer, steps, loss), lambda: score(model(held.inputs), held, 0.0))
