"""Tiny models and loops that every monitor test can watch."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

CLASSES = 5


@pytest.fixture(autouse=True)
def nothing_fails_unnoticed(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The monitor swallows its own failures; a test that does not provoke one must not have one."""
    yield
    if request.node.get_closest_marker("provokes_failure") is None:
        assert [each.getMessage() for each in caplog.records if "could not go on" in each.getMessage()] == []


class Small(nn.Module):
    """A bare root parameter, tied weights, BatchNorm and dropout in a few hundred elements."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))
        self.first = nn.Linear(8, 16)
        self.norm = nn.BatchNorm1d(16)
        self.second = nn.Linear(16, 16)
        self.third = nn.Linear(16, 16)
        self.third.weight = self.second.weight
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.drop(torch.relu(self.norm(self.first(inputs * self.scale))))
        return self.head(torch.tanh(self.third(torch.tanh(self.second(hidden)))))


@pytest.fixture
def batches() -> Callable[[int], Iterator[tuple[torch.Tensor, torch.Tensor]]]:
    def make(count: int, seed: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(count):
            inputs = torch.randn(12, 8, generator=generator)
            yield inputs, (inputs.sum(1) * 0.7).round().long().clamp(-2, 2) + 2

    return make


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(0)
    return Small()


@pytest.fixture
def step() -> Callable[..., torch.Tensor]:
    """One ordinary training step."""

    def make(
        model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        loss = functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return make
