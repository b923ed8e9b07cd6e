"""Marks: who changed a gradient after the backward pass, and when a backward pass is over."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.checkpoint import checkpoint

from auscult.metrics.marks import Marks, at_end_of_backward


def trained() -> tuple[list[nn.Parameter], Marks]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    parameters = list(model.parameters())
    model(torch.ones(2, 3)).square().sum().backward()
    marks = Marks(parameters)
    marks.remember()
    return parameters, marks


def clip_by_hand(parameters: list[nn.Parameter]) -> None:
    total = torch.stack([each.grad.norm() for each in parameters]).norm()
    for each in parameters:
        each.grad.mul_(0.1 / total)


def replace(parameters: list[nn.Parameter]) -> None:
    for each in parameters:
        each.grad = each.grad * 0.5


CHANGES = {
    "halved": lambda p: [each.grad.mul_(0.5) for each in p],
    "clipped by hand": clip_by_hand,
    "replaced": replace,
    "all at once": lambda p: torch._foreach_mul_([each.grad for each in p], 0.5),
    "through detach": lambda p: [each.grad.detach().clamp_(-0.01, 0.01) for each in p],
    "noise": lambda p: [each.grad.add_(torch.ones_like(each)) for each in p],
    "one more backward": lambda p: sum(each.sum() for each in p).backward(),
    "torch's own clipping": lambda p: clip_grad_norm_(p, 0.1),
}


@pytest.mark.parametrize("way", CHANGES)
def test_a_change_after_the_backward_pass_is_noticed(way: str) -> None:
    parameters, marks = trained()
    assert marks.changed(range(4)) == []
    CHANGES[way](parameters)
    assert marks.changed(range(4)) == [0, 1, 2, 3]
    marks.remember()
    assert marks.changed(range(4)) == []


def test_only_what_was_changed_is_named() -> None:
    parameters, marks = trained()
    parameters[2].grad.mul_(0.5)
    assert marks.changed([0, 1]) == []
    assert marks.changed([1, 2, 3]) == [2]


def test_reading_changes_nothing() -> None:
    parameters, marks = trained()
    for each in parameters:
        each.grad.norm().item(), each.grad.clone().mul_(2), each.grad.cpu().numpy().sum()
    assert marks.changed(range(4)) == []


def test_a_change_that_was_heard_excuses_itself_and_no_earlier_one() -> None:
    parameters, marks = trained()
    parameters[0].grad.mul_(0.5)
    assert marks.changed(range(4)) == [0]
    clip_grad_norm_(parameters, 0.1)
    marks.renew(range(4))
    assert marks.changed(range(4)) == [0]
    parameters[3].grad.mul_(0.5)
    assert marks.changed(range(4)) == [0, 3]


def test_gradients_that_are_none_are_not_changed_and_those_put_there_by_hand_are() -> None:
    parameters, marks = trained()
    parameters[0].grad = None
    assert marks.changed(range(4)) == []
    marks.remember()
    parameters[0].grad = torch.ones_like(parameters[0])
    assert marks.changed(range(4)) == [0]


def test_before_any_backward_pass_a_gradient_is_of_unknown_origin() -> None:
    parameters, _ = trained()
    assert Marks(parameters).changed(range(4)) == [0, 1, 2, 3]


def test_what_leaves_the_version_alone_is_not_noticed() -> None:
    """The limits that the docstring names: should torch change them, it may say so."""
    parameters, marks = trained()
    parameters[0].grad.data.mul_(0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    scaler.scale(torch.ones(()))
    scaler.unscale_(torch.optim.SGD(parameters, lr=0.1))
    assert marks.changed(range(4)) == []


def at_end(parameters: list[nn.Parameter], seen: list[list[Tensor | None]]) -> None:
    def note() -> None:
        seen.append([None if each.grad is None else each.grad.clone() for each in parameters])

    parameters[-1].register_post_accumulate_grad_hook(lambda _: at_end_of_backward(note) and None)


def test_the_end_of_a_backward_pass_comes_after_all_gradients() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    parameters, seen = list(model.parameters()), []
    at_end(parameters, seen)  # the last parameter gets its gradient first
    for _ in range(2):  # the second one accumulates
        model(torch.ones(2, 3)).sum().backward()
        assert all(torch.equal(now, each.grad) for now, each in zip(seen[-1], parameters))
    assert len(seen) == 2


def test_the_end_of_a_backward_pass_with_reentrant_checkpointing() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    parameters, seen = list(model.parameters()), []
    at_end(parameters, seen)
    checkpoint(model, torch.ones(2, 3, requires_grad=True), use_reentrant=True).sum().backward()
    assert all(torch.equal(now, each.grad) for now, each in zip(seen[-1], parameters))


def test_a_gradient_penalty_ends_one_backward_pass() -> None:
    weight, inputs, seen = nn.Parameter(torch.ones(3)), torch.ones(3, requires_grad=True), []
    at_end([weight], seen)
    (slope,) = torch.autograd.grad((weight * inputs).square().sum(), inputs, create_graph=True)
    assert seen == []  # nothing has been added to a parameter
    slope.square().sum().backward()
    assert [each[0].tolist() for each in seen] == [[16.0, 16.0, 16.0]]  # d/dw of (2 w^2 x)^2 = 16 w^3 x^2


def test_outside_of_a_backward_pass_nothing_is_called() -> None:
    assert not at_end_of_backward(lambda: pytest.fail("called"))
