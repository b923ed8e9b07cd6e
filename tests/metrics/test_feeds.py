"""Which module feeds which, on forward passes written so that the answer can be read off them."""

import gc
import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.metrics.activations import Activations

A, B, C = "a", "b", "c"


def never(part: str, error: Exception) -> None:
    raise AssertionError(part) from error


class Written(nn.Module):
    """Leaf modules by name, and a forward pass that is written down."""

    def __init__(self, forward: "Callable[[Written, Tensor], Tensor]", **modules: nn.Module) -> None:
        super().__init__()
        self.forward = lambda inputs: forward(self, inputs)
        for name, module in modules.items():
            self.add_module(name, module)


def seen(model: nn.Module, *inputs: Tensor) -> Activations:
    activations = Activations(model, never)
    activations.armed = True
    for each in inputs:
        model(each).sum().backward()
    activations.take()
    activations.close()
    return activations


def feeds(model: nn.Module, *inputs: Tensor) -> list[tuple[str, str]]:
    return [(each.source, each.target) for each in seen(model, *inputs).feeds]


def linear() -> nn.Linear:
    return nn.Linear(6, 6)


def test_a_chain_of_modules() -> None:
    model = nn.Sequential(linear(), nn.ReLU(), nn.LayerNorm(6), nn.Dropout(0.5), linear(), nn.Softmax(-1))
    assert feeds(model, torch.randn(4, 6)) == [("0", "1"), ("1", "2"), ("2", "3"), ("3", "4"), ("4", "5")]


def test_an_operation_between_is_no_feed() -> None:
    operations: list[Callable[[Tensor], Tensor]] = [
        torch.relu,
        lambda x: x + 1,
        lambda x: x * 1,
        lambda x: x.clone(),
        lambda x: x.add_(1),
        lambda x: functional.relu(x, inplace=True),
        lambda x: x.softmax(-1),
        lambda x: x[:2],
        lambda x: x.expand(4, 6) + 0,
    ]
    for operation in operations:
        model = Written(lambda self, x, op=operation: self.b(op(self.a(x))), a=linear(), b=linear())
        assert feeds(model, torch.randn(4, 6)) == []


def test_a_view_is_the_same_output() -> None:
    views: list[Callable[[Tensor], Tensor]] = [
        lambda x: x,
        lambda x: x.view(2, 2, 6),
        lambda x: x.unsqueeze(0),
        lambda x: x[:],
        lambda x: x.contiguous(),
    ]
    for view in views:
        model = Written(lambda self, x, op=view: self.b(op(self.a(x))), a=linear(), b=linear())
        assert feeds(model, torch.randn(4, 6)) == [(A, B)]


def test_what_returns_its_input_passes_it_on() -> None:
    for passing in (nn.Identity(), nn.Dropout(0.0), nn.Dropout(0.5).eval()):
        model = Written(lambda self, x: self.c(self.b(self.a(x))), a=linear(), b=passing, c=linear())
        assert feeds(model, torch.randn(4, 6)) == [(A, B), (A, C), (B, C)]
    flat = Written(lambda self, x: self.c(self.b(self.a(x))), a=nn.Conv2d(1, 2, 1), b=nn.Flatten(), c=nn.Linear(18, 2))
    assert feeds(flat, torch.randn(4, 1, 3, 3)) == [(A, B), (A, C), (B, C)]


def test_in_place_activations_hide_what_they_have_overwritten() -> None:
    for inplace in (nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True)):
        model = Written(lambda self, x: self.c(self.b(self.a(x))), a=linear(), b=inplace, c=linear())
        assert feeds(model, torch.randn(4, 6)) == [(A, B), (B, C)]
    model = Written(lambda self, x: self.b(self.a(x).add_(1)), a=linear(), b=nn.ReLU(inplace=True))
    assert feeds(model, torch.randn(4, 6)) == []


def test_a_residual_is_fed_by_its_sum_alone() -> None:
    model = Written(lambda self, x: self.c((y := self.a(x)) + self.b(y)), a=linear(), b=linear(), c=linear())
    assert feeds(model, torch.randn(4, 6)) == [(A, B)]


def test_a_module_called_twice_and_one_called_with_a_tuple() -> None:
    model = Written(lambda self, x: self.a(self.b(self.a(self.b(x)))), a=nn.ReLU(), b=linear())
    assert feeds(model, torch.randn(4, 6)) == [(B, A), (A, B)]
    recurrent = Written(lambda self, x: self.b(self.a(x)[0]), a=nn.LSTM(6, 6), b=linear())
    assert feeds(recurrent, torch.randn(5, 4, 6)) == [(A, B)]

    class Join(nn.Module):
        def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
            return pair[0] + pair[1]

    joined = Written(lambda self, x: self.c((self.a(x), self.b(x))), a=linear(), b=linear(), c=Join())
    assert feeds(joined, torch.randn(4, 6)) == [(A, C), (B, C)]


def test_memory_that_is_given_out_again_feeds_nothing() -> None:
    """A freed output leaves its place to the next tensor of its size, which is not that output."""

    def forward(self: Written, x: Tensor) -> Tensor:
        for _ in range(20):
            place = self.a(x).data_ptr()  # gone at once
            other = torch.sin(x)
            found.append(other.data_ptr() == place)
            self.b(other)
        return self.b(x)

    found: list[bool] = []
    large = torch.randn(1000, 6)
    model = Written(forward, a=linear(), b=linear())
    for each in model.parameters():
        each.requires_grad_(False)
    model.register_parameter("free", nn.Parameter(torch.ones(())))
    model.forward = lambda inputs: forward(model, inputs) * model.free
    assert feeds(model, large) == []
    assert any(found)


def test_only_the_first_step_is_looked_at_and_nothing_is_kept() -> None:
    model = nn.Sequential(linear(), nn.ReLU())
    activations = Activations(model, never)
    activations.armed = True
    with torch.enable_grad():
        output = model(torch.randn(4, 6))
    alive = weakref.ref(output)
    assert len(activations.feeds) == 1
    del output
    gc.collect()
    assert alive() is None
    activations.take()
    nn.Sequential(model[1], model[0])(torch.randn(4, 6))
    assert [(each.source, each.target) for each in activations.feeds] == [("0", "1")]


def test_outputs_that_sum_to_one() -> None:
    model = nn.Sequential(linear(), nn.Softmax(-1), linear(), nn.Softmax(0), linear(), nn.Sigmoid(), nn.LogSoftmax(-1))
    assert seen(model, torch.randn(4, 6)).sums_to_one == ("1",)
    positions = Written(lambda self, x: self.b(self.a(x)), a=nn.Conv2d(2, 3, 1), b=nn.Softmax(-1))
    assert seen(positions, torch.randn(4, 2, 5, 5)).sums_to_one == (B,)
    narrow = Written(lambda self, x: self.a(self.b(x)), a=nn.Softmax(-1), b=nn.Linear(6, 1))
    assert seen(narrow, torch.randn(4, 6)).sums_to_one == ()


def test_every_row_of_every_call_must_sum_to_one() -> None:
    class Rows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 1

    rows, broken = torch.rand(50, 6), torch.rand(50, 6)
    rows /= rows.sum(1, keepdim=True)
    broken = rows.clone()
    broken[-1] *= 1.01
    negative = rows.clone()
    negative[-1, :2] += torch.tensor([-1.0, 1.0])
    for given, told in (([rows, rows], (A,)), ([rows, broken], ()), ([negative], ())):
        model = Written(lambda self, x: self.a(x) * self.scale, a=Rows())
        model.scale = nn.Parameter(torch.ones(()))
        assert seen(model, *given).sums_to_one == told
    half = Written(lambda self, x: self.b(self.a(x)), a=linear().bfloat16(), b=nn.Softmax(-1))
    assert seen(half, torch.randn(40, 6, dtype=torch.bfloat16)).sums_to_one == (B,)


def test_modules_that_are_given_shares() -> None:
    model = Written(lambda self, x: self.b(self.a(x).softmax(-1)), a=linear(), b=linear())
    assert seen(model, torch.randn(4, 6)).given_shares == (B,)
    assert seen(model, torch.full((4, 6), 1 / 6)).given_shares == (A, B)
    twice = Written(lambda self, x: self.b(self.b(self.a(x).softmax(-1))), a=linear(), b=linear())
    assert seen(twice, torch.randn(4, 6)).given_shares == ()  # in one of two calls
