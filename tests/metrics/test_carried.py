"""Gradients that an update has used and the next backward pass adds to: every habit of zeroing them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.metrics.carried import CarriedGradients


class Loop:
    """A model with an optimizer, and what the gradients are said to be at the second update."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.errors: list[Exception] = []
        self.carried = CarriedGradients(list(self.model.parameters()), self.errors.append)
        self.backward()
        self.optimizer.step()
        self.carried.begin()

    def loss(self) -> Tensor:
        return functional.mse_loss(self.model(torch.randn(6, 4)), torch.randn(6, 2))

    def backward(self) -> None:
        self.loss().backward()

    def zero(self, to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none=to_none)

    def told(self) -> float | None:
        told = self.carried.told()
        assert self.errors == []
        assert all(not each._backward_hooks for each in self.model.parameters())
        return None if told is None else float(told)


def never(loop: Loop) -> None:
    loop.backward()


def never_over_several_batches(loop: Loop) -> None:
    loop.backward()
    loop.backward()
    loop.backward()


def other_parameters_only(loop: Loop) -> None:
    loop.model[2].zero_grad()
    loop.backward()


@pytest.mark.parametrize("habit", [never, never_over_several_batches, other_parameters_only])
def test_gradients_that_nobody_has_zeroed(habit: Callable[[Loop], None]) -> None:
    loop = Loop()
    before = loop.model[0].weight.grad.clone()
    habit(loop)
    assert not torch.equal(loop.model[0].weight.grad, before)
    assert loop.told() == 1


def after_the_update(to_none: bool):
    def habit(loop: Loop) -> None:
        loop.zero(to_none)
        loop.backward()

    return habit


def between_forward_and_backward(to_none: bool):
    def habit(loop: Loop) -> None:
        loss = loop.loss()
        loop.zero(to_none)
        loss.backward()

    return habit


def over_several_batches(to_none: bool):
    def habit(loop: Loop) -> None:
        loop.zero(to_none)
        for _ in range(3):
            loop.backward()

    return habit


def after_a_backward_pass_of_another_loss(to_none: bool):
    """As of a discriminator, which the generator's backward pass reaches before its own step begins."""

    def habit(loop: Loop) -> None:
        loop.backward()
        loop.zero(to_none)
        loop.backward()

    return habit


def behind_the_back_of_autograd(to_none: bool):
    def habit(loop: Loop) -> None:
        for each in loop.model.parameters():
            if to_none:
                each.grad = torch.zeros_like(each)
            else:
                each.grad.data.zero_()
        loop.backward()

    return habit


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize(
    "habit",
    [
        after_the_update,
        between_forward_and_backward,
        over_several_batches,
        after_a_backward_pass_of_another_loss,
        behind_the_back_of_autograd,
    ],
)
def test_gradients_that_were_zeroed(habit: Callable[[bool], Callable[[Loop], None]], to_none: bool) -> None:
    loop = Loop()
    habit(to_none)(loop)
    assert loop.told() == 0


def test_gradients_that_no_backward_pass_adds_to_decide_nothing() -> None:
    loop = Loop()
    for parameter, gradient in zip(loop.model.parameters(), torch.autograd.grad(loop.loss(), loop.model.parameters())):
        parameter.grad = gradient
    assert loop.told() is None
    loop.carried.begin()
    assert loop.told() is None


def test_an_update_that_left_no_gradient() -> None:
    loop = Loop()
    loop.zero()
    loop.carried.begin()
    loop.backward()
    assert loop.told() == 0


def test_the_gradients_are_the_same_to_the_bit() -> None:
    def gradients(watched: bool) -> list[Tensor]:
        loop = Loop()
        if not watched:
            loop.carried.close()
        never_over_several_batches(loop)
        return [each.grad.clone() for each in loop.model.parameters()]

    assert all(torch.equal(*pair) for pair in zip(gradients(True), gradients(False), strict=True))


def test_gradients_of_other_kinds_are_not_observed() -> None:
    embedding = nn.Embedding(5, 2, sparse=True)
    errors: list[Exception] = []
    carried = CarriedGradients(list(embedding.parameters()), errors.append)
    embedding(torch.tensor([1])).sum().backward()
    carried.begin()
    embedding(torch.tensor([1])).sum().backward()
    assert carried.told() is None and errors == []
