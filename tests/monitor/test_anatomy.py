"""The inside of the first training pass, and of normalisation on sampled steps, through `watch`."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import auscult
from auscult.core.anatomy import Feed


def train(model: nn.Module, path, steps: int = 3, every: tuple[int, int] = (1, 1)) -> "auscult.Run":
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, path, every=every) as monitor:
        for _ in range(steps):
            functional.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,))).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert monitor.failures == []
    return auscult.load(path)


def test_the_run_says_which_module_feeds_which_and_what_sums_to_one(tmp_path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4), nn.Softmax(-1))
    anatomy = train(model, tmp_path / "run").anatomy
    assert anatomy is not None and anatomy.step == 0
    assert anatomy.feeds == (Feed("0", "1"), Feed("1", "2"))
    assert anatomy.sums_to_one == ("2",)


def test_statistics_of_batch_normalisation(tmp_path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16, momentum=0.5), nn.ReLU(), nn.Linear(16, 4))
    run = train(model, tmp_path / "run", steps=9, every=(1, 4))
    shift, scale = run.series("statistics_shift", "1"), run.series("statistics_scale", "1")
    assert shift.steps.tolist() == scale.steps.tolist() == [0, 4, 8]
    assert scale.at(8) == pytest.approx(1.0, abs=0.5) and shift.at(8) < 0.5
    assert run.paths("statistics_shift") == ("1",)
