"""Tuning: a network trained on darkened digits, of which only the end is trained further, on digits as they are."""

from dataclasses import dataclass, replace
from os import PathLike

import torch
from torch import Generator, nn
from torch.nn import functional

from auscult.clinic.networks import build_network
from auscult.clinic.objectives import score
from auscult.clinic.session import Outcome, Watching, hold
from auscult.clinic.tables import Table, load_table, scale_inputs

FROZEN = 6  # modules: two hidden layers with their BatchNorm and activation


@dataclass(frozen=True, slots=True)
class Tuning:
    """One training.

    Attributes:
        statistics_frozen: Whether the frozen part's BatchNorm keeps its running statistics, too.
        epochs: Number of passes over the rows.
    """

    statistics_frozen: bool
    epochs: int = 8

    def train(self, path: str | PathLike[str], seed: int) -> Outcome:
        """Train it, recorded at `path` from the second part on; everything drawn follows from the seed."""
        train, held = scale_inputs(*load_table("digits", seed), "unit")
        torch.manual_seed(seed)
        generator = Generator().manual_seed(seed)
        model = build_network(64, 10, (64, 64), batch_norm=True)
        model.append(nn.ReLU()).append(nn.Linear(10, 10))
        _learn(model, replace(train, inputs=0.8 * train.inputs), 6, generator, None, range(0))
        frozen = range(FROZEN) if self.statistics_frozen else range(0)
        for module in list(model)[:FROZEN]:
            module.requires_grad_(False)
        optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=2e-3)

        def loop(monitor: Watching) -> None:
            _learn(model, train, self.epochs, generator, (monitor, optimizer), frozen)

        return hold(model, optimizer, path, loop, lambda: score(model(held.inputs), held, 0.0))


def _learn(
    model: nn.Sequential,
    table: Table,
    epochs: int,
    generator: Generator,
    watched: tuple[Watching, torch.optim.Optimizer] | None,
    frozen: range,
) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3) if watched is None else watched[1]
    for _ in range(epochs):
        model.train()
        for position in frozen:
            model[position].eval()
        for chosen in torch.randperm(len(table), generator=generator).split(32):
            batch = table.rows(chosen)
            loss = functional.cross_entropy(model(batch.inputs), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if watched is not None:
                watched[0].log(loss=loss)
