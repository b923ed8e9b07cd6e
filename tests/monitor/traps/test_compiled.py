"""Traps of compilation: hooks that never fire are not observed, and no graph is made that would not be made anyway."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

import auscult
from auscult.core.errors import SetupError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own: it compiles with what it deprecates
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.inner(inputs)) + inputs


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = Block(), Block(), nn.Linear(6, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.two(self.one(inputs)))


def graphs() -> torch.Tensor:
    """How many graphs were made, and how often one was broken."""
    counters = torch._dynamo.utils.counters
    return torch.tensor([counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())])


def train_steps(twin, model: nn.Module, called, optimizer, count: int = 3, update=None) -> None:
    """The loop of every tutorial; the names are those of the model that was not compiled."""
    for _ in range(count):
        optimizer.zero_grad()
        loss = called(torch.randn(8, 6)).square().mean()
        loss.backward()
        twin.gradients(model)
        twin.before(model)
        (update or optimizer.step)()
        twin.after(model)
        twin.keep(loss)


def watched_before_it_is_compiled(twin) -> None:
    torch._dynamo.utils.counters.clear()
    model = Network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        called = torch.compile(model, backend="aot_eager", fullgraph=True)
        train_steps(twin, model, called, optimizer, 10)
        for step in range(10):
            twin.unobserved("activation_std", "one.inner", step)
    twin.keep(graphs())


def watched_after_it_is_compiled(twin) -> None:
    torch._dynamo.utils.counters.clear()
    model = Network()
    optimizer = SGD(model.parameters(), lr=0.1)
    called = torch.compile(model, backend="aot_eager", fullgraph=True)
    with twin.watch(called, optimizer):
        train_steps(twin, model, called, optimizer, 10)
        for step in range(10):
            twin.unobserved("activation_std", "one.inner", step)
    twin.keep(graphs())


def watched_after_it_has_run_compiled(twin) -> None:
    torch._dynamo.utils.counters.clear()
    model = Network()
    optimizer = SGD(model.parameters(), lr=0.1)
    called = torch.compile(model, backend="aot_eager", fullgraph=True)
    called(torch.randn(8, 6)).sum().backward()
    with twin.watch(model, optimizer):
        train_steps(twin, model, called, optimizer)
        twin.unobserved("activation_std", "one.inner", 0)
    twin.keep(graphs())


def compiled_in_place(twin) -> None:
    torch._dynamo.utils.counters.clear()
    model = Network()
    optimizer = SGD(model.parameters(), lr=0.1)
    model.compile(backend="aot_eager", fullgraph=True)
    with twin.watch(model, optimizer):
        train_steps(twin, model, model, optimizer)
        twin.unobserved("activation_std", "one.inner", 0)
    twin.keep(graphs())


def repeated_blocks_compiled_one_by_one(twin) -> None:
    torch._dynamo.utils.counters.clear()
    model = Network()
    optimizer = SGD(model.parameters(), lr=0.1)
    for block in (model.one, model.two):
        block.compile(backend="aot_eager", fullgraph=True)
    with twin.watch(model, optimizer):
        train_steps(twin, model, model, optimizer)
        twin.unobserved("activation_std", "one.inner", 0)
        twin.unobserved("activation_std", "two.inner", 0)
    twin.keep(graphs())


def another_of_the_same_class_compiled_before(twin) -> None:
    torch._dynamo.utils.counters.clear()
    other = Network()
    torch.compile(other, backend="aot_eager", fullgraph=True)(torch.randn(8, 6))
    model = Network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        train_steps(twin, model, torch.compile(model, backend="aot_eager", fullgraph=True), optimizer)
        twin.unobserved("activation_std", "one.inner", 0)
    twin.keep(graphs())


def the_whole_step_in_one_function(twin) -> None:
    torch._dynamo.utils.counters.clear()
    model = Network()
    optimizer = SGD(model.parameters(), lr=0.1)

    @torch.compile(backend="aot_eager")
    def loss_of(inputs: torch.Tensor) -> torch.Tensor:
        return model(inputs).square().mean()

    with twin.watch(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            loss = loss_of(torch.randn(8, 6))
            loss.backward()
            twin.gradients(model)
            twin.before(model)
            optimizer.step()
            twin.after(model)
            twin.log(loss=loss)
    twin.keep(graphs())


def a_compiled_update(twin) -> None:
    torch._dynamo.utils.counters.clear()
    model = Network()
    optimizer = AdamW(model.parameters(), lr=0.01)

    @torch.compile(backend="eager")
    def update() -> None:
        optimizer.step()

    with twin.watch(model, optimizer):
        train_steps(twin, model, model, optimizer, 4, update)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


TRAPS = [
    watched_before_it_is_compiled,
    watched_after_it_is_compiled,
    watched_after_it_has_run_compiled,
    compiled_in_place,
    repeated_blocks_compiled_one_by_one,
    another_of_the_same_class_compiled_before,
    the_whole_step_in_one_function,
    a_compiled_update,
]


@pytest.mark.parametrize("script", TRAPS, ids=lambda script: script.__name__)
def test_trap(script, train) -> None:
    train(script)


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_a_trace_of_a_watched_model_is_the_one_of_a_bare_model(mode: str, train) -> None:
    def script(twin) -> None:
        model = Network().train(mode == "training")
        optimizer = SGD(model.parameters(), lr=0.1)
        inputs = torch.randn(8, 6)
        with twin.watch(model, optimizer):
            traced = torch.jit.trace(model, inputs, check_trace=False)
            twin.keep(traced(inputs), torch.tensor([len(list(traced.graph.nodes())), len(traced.code)]))
            exported = torch.export.export(model, (inputs,), strict=False)
            twin.keep(exported.module()(inputs), torch.tensor(len(exported.graph.nodes)))
            model.train()
            train_steps(twin, model, model, optimizer)

    train(script)


def test_a_model_with_a_scripted_part(train) -> None:
    def script(twin) -> None:
        model = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.jit.script(torch.nn.Sequential(torch.nn.ReLU())))
        model.append(torch.nn.Linear(6, 3))
        optimizer = SGD(model.parameters(), lr=0.1)
        with twin.watch(model, optimizer):
            train_steps(twin, model, model, optimizer)

    train(script)


def test_a_scripted_model_is_refused_with_what_to_write(tmp_path) -> None:
    model = torch.jit.script(torch.nn.Linear(2, 1))
    with pytest.raises(SetupError, match="script it afterwards"):
        auscult.watch(model, SGD(model.parameters(), lr=0.1), tmp_path / "run")


@pytest.mark.xfail(strict=True, reason="a hook that is an object has no name, which TorchScript asks for")
def test_a_watched_model_can_be_scripted(train) -> None:
    def script(twin) -> None:
        model = Network()
        optimizer = SGD(model.parameters(), lr=0.1)
        inputs = torch.randn(8, 6)
        with twin.watch(model, optimizer):
            twin.keep(torch.jit.script(model)(inputs))
            train_steps(twin, model, model, optimizer)

    train(script)


def test_a_watched_model_can_be_exported_strictly(train) -> None:
    def script(twin) -> None:
        model = Network()
        optimizer = SGD(model.parameters(), lr=0.1)
        inputs = torch.randn(8, 6)
        with twin.watch(model, optimizer):
            exported = torch.export.export(model, (inputs,), strict=True)
            twin.keep(exported.module()(inputs), torch.tensor(len(exported.graph.nodes)))
            train_steps(twin, model, model, optimizer)

    train(script)
