"""Hearing: the transformer on log-mel frames of `melscale`, scored on sounds it has not heard."""

from dataclasses import dataclass
from os import PathLike

import torch
from torch import Generator, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from auscult.clinic.melscale import BATCH, LR, MAX_NORM, SOUNDS, WARM_UP, Hearer, make_sounds
from auscult.clinic.objectives import score
from auscult.clinic.session import Outcome, Watching, hold
from auscult.clinic.tables import Table

HEARD = SOUNDS * 3 // 4


@dataclass(frozen=True, slots=True)
class Hearing:
    """One training.

    Attributes:
        scaled: Whether frames are multiplied by a gain drawn from N(0, 1); a bias of zeros is added otherwise.
        steps: Number of updates.
    """

    scaled: bool
    steps: int = 200

    def train(self, path: str | PathLike[str], seed: int) -> Outcome:
        """Train it, recorded at `path`; sounds, initial weights and batches follow from the seed."""
        frames, qualities = make_sounds(seed)
        torch.manual_seed(seed)
        model = Hearer(float(frames.mean()), float(frames.std()), self.scaled)
        optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
        scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARM_UP))
        generator = Generator().manual_seed(seed)

        def loop(monitor: Watching) -> None:
            for _ in range(self.steps):
                chosen = torch.randint(0, HEARD, (BATCH,), generator=generator)
                loss = functional.mse_loss(model(frames[chosen]), qualities[chosen])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
                optimizer.step()
                scheduler.step()
                monitor.log(loss=loss)

        held = Table(frames[HEARD:], qualities[HEARD:])
        return hold(model, optimizer, path, loop, lambda: score(model(held.inputs), held, 0.0))
