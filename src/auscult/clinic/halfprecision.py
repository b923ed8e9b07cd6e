"""HalfPrecision: a perceptron on digits in float16 under autocast, with a gradient scaler."""

from dataclasses import dataclass
from os import PathLike

import torch
from torch import Generator
from torch.nn import functional

from auscult.clinic.networks import build_network
from auscult.clinic.objectives import score
from auscult.clinic.session import Outcome, Watching, hold
from auscult.clinic.tables import load_table, scale_inputs


@dataclass(frozen=True, slots=True)
class HalfPrecision:
    """One training.

    Attributes:
        scale: What the loss is multiplied by at first.
        backoff: Factor of that scale after a step whose gradients are not finite.
        epochs: Number of passes over the rows.
    """

    scale: float = 2.0**16
    backoff: float = 0.5
    epochs: int = 10

    def train(self, path: str | PathLike[str], seed: int) -> Outcome:
        """Train it, recorded at `path`; data, initial weights and batches follow from the seed."""
        train, held = scale_inputs(*load_table("digits", seed), "unit")
        torch.manual_seed(seed)
        model = build_network(64, 10, (64,))
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        scaler = torch.amp.GradScaler("cpu", init_scale=self.scale, backoff_factor=self.backoff)
        generator = Generator().manual_seed(seed)

        def loop(monitor: Watching) -> None:
            for _ in range(self.epochs):
                for chosen in torch.randperm(len(train), generator=generator).split(32):
                    batch = train.rows(chosen)
                    with torch.autocast("cpu", dtype=torch.float16):
                        loss = functional.cross_entropy(model(batch.inputs), batch.targets)
                    optimizer.zero_grad()
                    scaler.scale(loss).backward()
                    scaler.step(optimizer)
                    scaler.update()
                    monitor.log(loss=loss)

        return hold(model, optimizer, path, loop, lambda: score(model(held.inputs), held, 0.0))
