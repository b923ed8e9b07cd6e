"""A small run, really trained and read back."""

from pathlib import Path

import pytest
import torch
from torch import nn

import auscult


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> auscult.Run:
    """Seventy steps of two layers; the loss of step 66 is NaN, and so is everything after it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    path: Path = tmp_path_factory.mktemp("runs") / "first"
    with auscult.watch(model, optimizer, path, config={"lr": 0.01}, every=1) as monitor:
        for step in range(70):
            loss = model(torch.randn(4, 3)).square().mean() * (torch.nan if step == 66 else 1.0)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log({"$loss_": loss})
    return auscult.load(path)
