"""What a forward pass may change in plain attributes, put back; what is not the model's, left alone."""

import functools
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from auscult.metrics import attributes
from auscult.metrics.attributes import Attributes, CannotPutBack, TooMuchState


class Cluttered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.count, self.tensor, self.array = 1, torch.ones(3), np.ones(3)
        self.nested = {"list": [1, (torch.zeros(2), {2})], "queue": deque([1, 2], maxlen=2)}
        self.space = SimpleNamespace(inner=SimpleNamespace(values=[1.0]))
        self.generator, self.bound = np.random.default_rng(1), functools.partial(self.space.inner.values.append, 2.0)
        self.hidden = [nn.BatchNorm1d(2)]
        self.itself = self.nested

    def clutter(self) -> None:
        self.count += 1
        self.tensor.mul_(2)
        self.array *= 2
        self.nested["list"][1][0].add_(1)
        self.nested["list"][1][1].add(3)
        self.nested["list"].append(4)
        self.nested["queue"].append(3)
        self.nested["new"] = self.nested
        self.space.inner.values.append(2.0)
        self.space.extra = 1
        self.hidden[0](torch.randn(4, 2))
        self.generator.random(3)
        self.layer.register_forward_hook(print)
        self.extra = torch.ones(1)

    def state(self) -> str:
        running = self.hidden[0].running_mean.tolist(), int(self.hidden[0].num_batches_tracked)
        held = self.count, self.tensor.tolist(), self.array.tolist(), str(self.nested), repr(self.space), running
        return repr((*held, self.generator.bit_generator.state, sorted(vars(self))))


def test_everything_is_put_back() -> None:
    model = Cluttered()
    before, tensor, values = model.state(), model.tensor, model.space.inner.values
    kept = Attributes(model)
    model.clutter()
    assert model.state() != before
    kept.put_back()
    assert model.state() == before
    assert model.tensor is tensor and model.space.inner.values is values  # the same objects


def test_what_other_threads_may_change_is_left_alone() -> None:
    model = Cluttered()
    model.logger = SimpleNamespace(lock=threading.Lock(), lines=["a"])
    model.trainer = SimpleNamespace(children=[SimpleNamespace() for _ in range(5000)], lines=["a"])
    kept = Attributes(model)
    model.logger.lines.append("b")
    model.trainer.lines.append("b")
    kept.put_back()
    assert model.logger.lines == model.trainer.lines == ["a", "b"]


def test_parameters_and_buffers_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.BatchNorm1d(1000)
    monkeypatch.setattr(attributes, "BYTES", 3000)
    Attributes(model)
    model.bank = torch.zeros(1000)
    with pytest.raises(TooMuchState, match="more in plain attributes"):
        Attributes(model)


LOSSES: list[float] = []
CALLS = 0
NOISE = np.random.default_rng(2)


class Scale:
    factor = 1.0


@dataclass(slots=True)
class Slotted:
    count: int = 0


def remember(value: float) -> float:
    """A function that the model calls, with state of its own."""
    LOSSES.append(value)
    Scale.factor += 1
    return value


class Outside(nn.Module):
    """Keeps its state everywhere but in itself."""

    made = 0

    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__()
        self.slotted, self.draw = Slotted(), draw

    def forward(self) -> None:
        global CALLS
        CALLS += 1
        type(self).made += 1
        self.slotted.count += 1
        remember(NOISE.random() + self.draw())


def counting() -> Callable[[], float]:
    count = 0.0

    def draw() -> float:
        nonlocal count
        count += 1
        return count

    return draw


def test_what_the_forward_pass_keeps_outside_of_the_model_is_put_back() -> None:
    model = Outside(counting())
    model()

    def state() -> str:
        cell = model.draw.__closure__[0].cell_contents  # type: ignore[attr-defined, index]
        return repr((CALLS, Outside.made, LOSSES, Scale.factor, model.slotted, NOISE.bit_generator.state, cell))

    before, losses = state(), LOSSES
    kept = Attributes(model)
    model()
    assert state() != before
    kept.put_back()
    assert state() == before and losses is LOSSES


def endless() -> Iterator[int]:
    while True:
        yield 1


@pytest.mark.parametrize("steps", [itertools.count(), endless(), iter([1, 2])])
def test_an_iterator_is_refused(steps: Iterator[int]) -> None:
    model = Cluttered()
    model.nested["steps"] = steps
    with pytest.raises(CannotPutBack, match="iterator"):
        Attributes(model)


def test_a_large_container_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "BYTES", 64_000)
    model = Cluttered()
    Attributes(model)
    model.seen = list(range(2000))
    with pytest.raises(TooMuchState):
        Attributes(model)
