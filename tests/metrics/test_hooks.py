"""Hooks on real optimizers and modules: once per update, silent on copies, harmless."""

import copy
import io

import pytest
import torch
from torch import nn

from auscult.core.errors import SetupError
from auscult.metrics.hooks import ModuleHook, OptimizerHooks


class Twice(torch.optim.SGD):
    def step(self, closure=None):
        return super().step(closure)


def counted(optimizer: object) -> tuple[list[str], OptimizerHooks]:
    seen: list[str] = []
    return seen, OptimizerHooks(optimizer, lambda: seen.append("before"), lambda: seen.append("after"))


@pytest.mark.parametrize("kind", [torch.optim.SGD, Twice])
def test_once_per_update_also_for_a_subclass_that_calls_super(kind: type) -> None:
    parameter = nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    optimizer = kind([parameter], lr=0.1)
    seen, hooks = counted(optimizer)
    optimizer.step()
    optimizer.step()
    hooks.close()
    optimizer.step()
    assert seen == ["before", "after"] * 2


def test_a_step_left_by_an_exception_does_not_silence_the_next() -> None:
    parameter = nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    seen, _ = counted(optimizer)

    def closure() -> torch.Tensor:
        raise RuntimeError("user's own")

    with pytest.raises(RuntimeError, match="user's own"):
        optimizer.step(closure)
    optimizer.step()
    assert seen == ["before", "after"]


@pytest.mark.parametrize("keyword", [False, True])
def test_with_a_closure_gradients_exist_when_before_is_called(keyword: bool) -> None:
    parameter = nn.Parameter(torch.tensor([3.0]))
    optimizer = torch.optim.LBFGS([parameter], lr=0.1, max_iter=4)
    gradients: list[float] = []
    OptimizerHooks(optimizer, lambda: gradients.append(float(parameter.grad)), lambda: None)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (parameter**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure=closure) if keyword else optimizer.step(closure)
    assert gradients == [6.0]


def test_a_wrapper_around_an_optimizer_is_unwrapped() -> None:
    class Wrapper:
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer = optimizer

    parameter = nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    inner = torch.optim.SGD([parameter], lr=0.1)
    seen, _ = counted(Wrapper(inner))
    inner.step()
    assert seen == ["before", "after"]
    with pytest.raises(SetupError, match=r"Expected `optimizer` to be a torch\.optim\.Optimizer"):
        counted(object())


def test_copies_and_pickles_of_a_hooked_module_are_silent() -> None:
    module, seen = nn.Linear(2, 2), []
    module.register_forward_hook(ModuleHook(module, lambda *_: seen.append("call")))
    module(torch.ones(2))
    copy.deepcopy(module)(torch.ones(2))
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    torch.load(buffer, weights_only=False)(torch.ones(2))
    assert seen == ["call"]
