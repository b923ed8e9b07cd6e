"""Listening: the five runs of "Listening to the neural network gradient norms during training" (Perone, 2019).

The same network, optimizers and 201 steps, on scikit-learn's digits or on MNIST itself. Data, preprocessing and sampler
are those of `images`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.clinic.images import CLASSES, Images, batches, load_digits
from auscult.core.finding import Finding
from auscult.monitor import Monitor, watch
from auscult.monitor.silent import SilentMonitor

STEPS = 201


@dataclass(frozen=True, slots=True)
class Setting:
    """One of the five runs.

    Attributes:
        name: Its name.
        optimizer: `sgd` (momentum 0.5) or `adam`.
        lr: Learning rate.
        batch: Batch size.
    """

    name: str
    optimizer: str
    lr: float
    batch: int


SETTINGS = {
    each.name: each
    for each in (
        Setting("sgd-0.01", "sgd", 0.01, 10),
        Setting("sgd-0.1", "sgd", 0.1, 10),
        Setting("sgd-1.0", "sgd", 1.0, 10),
        Setting("sgd-1.0-batch-256", "sgd", 1.0, 256),
        Setting("adam-0.01", "adam", 0.01, 10),
    )
}


class Network(nn.Module):
    """The source's network: conv 20, conv 50, fc 500, fc 10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(4 * 4 * 50, 500)
        self.fc2 = nn.Linear(500, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities `(N, 10)` of images `(N, 1, 28, 28)`."""
        hidden = functional.max_pool2d(functional.relu(self.conv1(images)), 2)
        hidden = functional.max_pool2d(functional.relu(self.conv2(hidden)), 2)
        hidden = functional.relu(self.fc1(hidden.flatten(1)))
        return functional.log_softmax(self.fc2(hidden), dim=1)


def make_optimizer(setting: Setting, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a setting, over all parameters of the model."""
    if setting.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=setting.lr)
    return torch.optim.SGD(model.parameters(), lr=setting.lr, momentum=0.5)


def train(
    setting: Setting,
    path: str | PathLike[str],
    seed: int = 0,
    steps: int = STEPS,
    images: Images | None = None,
    on_step: Callable[[int], object] | None = None,
    on_finding: Callable[[Finding], object] | None = None,
) -> Monitor | SilentMonitor:
    """Train one run on a fixed schedule: norms at every step, samples at every eighth.

    Args:
        setting: Which of the five.
        path: Directory of the run.
        seed: Seeds initialisation and sampling.
        steps: Number of updates.
        images: What to train on; None takes scikit-learn's digits.
        on_step: Called with the number of updates made.
        on_finding: Passed on to `watch`.

    Returns:
        The closed monitor.

    Raises:
        SetupError: if there are fewer images than one batch takes.
    """
    images = load_digits() if images is None else images
    stream = batches(images, setting.batch, seed)
    torch.manual_seed(seed)
    model = Network()
    optimizer = make_optimizer(setting, model)
    facts = {"optimizer": setting.optimizer, "lr": setting.lr, "batch": setting.batch, "seed": seed}
    config = {**facts, "data": images.name}
    with watch(model, optimizer, path, steps=steps, config=config, every=(1, 8), on_finding=on_finding) as monitor:
        for step, (inputs, targets) in zip(range(steps), stream):
            loss = functional.nll_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
            if on_step is not None:
                on_step(step + 1)
    return monitor
