"""The origin of the first non-finite number, in ordinary training steps whose fault is put in on purpose.

Each case is one step in plain PyTorch. The driver below does what a monitor does around it, and nothing else.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from auscult.core.errors import SetupError
from auscult.core.origin import Origin
from auscult.metrics.hooks import ModuleHook
from auscult.metrics.recorder import Recorder

Loss = Callable[[nn.Module], Tensor]


@dataclass
class Step:
    """One training step: what is trained, on what, and how."""

    model: nn.Module
    inputs: tuple[Tensor, ...]
    loss: Callable[[Tensor], Tensor] = lambda output: output.pow(2).mean()
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD
    options: dict[str, float] | None = None
    autocast: torch.dtype | None = None


def make(step: Step, *, replay: bool, logged: bool = True) -> Origin:
    """Make the step and look for the origin once its update has been made."""
    model = step.model

    def loss_of(called: nn.Module) -> Tensor:
        with torch.autocast("cpu", step.autocast or torch.bfloat16, enabled=step.autocast is not None):
            return step.loss(called(*step.inputs))

    recorder = Recorder(model, loss_of if replay else None)
    handle = model.register_forward_pre_hook(ModuleHook(model, recorder.forward_began), with_kwargs=True)
    optimizer = step.optimizer(model.parameters(), lr=0.01, **(step.options or {}))
    loss = loss_of(model)
    loss.backward()
    norms = {path: float(each.grad.double().norm()) for path, each in model.named_parameters() if each.grad is not None}
    if not torch.tensor([*norms.values(), float(loss.detach())]).isfinite().all():
        recorder.hold(norms)
    recorder.update_began()
    optimizer.step()
    optimizer.zero_grad()
    found = recorder.find(0, gradients=norms, loss=float(loss.detach()) if logged else None)
    handle.remove()
    return found


class Log(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x)


class Unit(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / x.norm(dim=-1, keepdim=True)


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt(x)


class SafeLog(nn.Module):
    """The classic: its value is finite, its derivative at 0 is 0 times infinity."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, torch.log(x), torch.zeros_like(x))


class Cell(nn.Module):
    """A linear recurrence, unrolled in Python."""

    def __init__(self, factor: float, steps: int) -> None:
        super().__init__()
        self.cell, self.head, self.steps = nn.Linear(8, 8, bias=False), nn.Linear(8, 1), steps
        with torch.no_grad():
            self.cell.weight.copy_(torch.eye(8) * factor)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.steps):
            x = self.cell(x)
        return self.head(x)


class Standardize(nn.Module):
    """Batch normalisation by hand, without an epsilon."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / x.std(0)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(10, 8), nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embedding(ids).mean(1))


class Residual(nn.Module):
    """Two branches from one input, of which the second has the infinite derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.plain, self.risky, self.head = nn.Linear(8, 8), nn.Linear(8, 8), SafeLog(), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x - x.detach()
        return self.head(self.plain(x) + self.risky(x))


class Attention(nn.Module):
    """A mask of negative infinities on the way, which is nobody's fault; what follows it is."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.softmax, self.head, self.log = nn.Linear(8, 8), nn.Softmax(-1), nn.Linear(8, 8), Log()

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.full((8, 8), -torch.inf).triu(1)
        scores = self.scores(x)[:8] + mask
        return self.log(torch.relu(self.head(self.softmax(scores))))


class MaskedOut(nn.Module):
    """Attention in which a whole row is masked."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attend = nn.Linear(8, 8), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.embed(x)
        return self.attend(x, x, x, attn_mask=mask, need_weights=True)[0]


class Inline(nn.Module):
    """The fault lies in the code of the model itself, between two of its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)).sqrt().reciprocal())


class Degrees(nn.Module):
    """The usual normalisation of a graph: the infinity of a node without edges is taken out again, log of 0 is not."""

    def forward(self, x: Tensor) -> Tensor:
        inverse = torch.arange(len(x), dtype=torch.float32).pow(-0.5)
        inverse[inverse == torch.inf] = 0
        return x * inverse[:, None] + torch.log(x - x)


class ThroughView(nn.Module):
    """A logarithm taken in place, of a part of a tensor."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = torch.ones_like(x)
            scale[0].mul_(0).log_()  # through a view
        return x * scale


class Kept(nn.Module):
    """A running minimum and a spare parameter that the pass does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.full((2,), torch.nan), requires_grad=False)
        self.register_buffer("lowest", torch.tensor(torch.inf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x - x)


class Record:
    """A batch as a class of somebody's own."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


class Unpack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, record: Record) -> Tensor:
        return self.layer(record.x)


class LogMask(nn.Module):
    """Actions that are not allowed get a score of negative infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        return self.layer(x) + allowed.log()


def net(middle: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), middle, nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def batch(rows: int = 32) -> Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(1))


def spoilt(model: nn.Module, path: str, index: tuple[int, ...], value: float = torch.nan) -> nn.Module:
    with torch.no_grad():
        model.get_parameter(path)[index] = value
    return model


def with_value(value: float) -> Tensor:
    inputs = batch()
    inputs[7, 3] = value
    return inputs


def zeroed(model: nn.Sequential) -> nn.Sequential:
    """The first layer gives 0 whatever comes in."""
    model[0].weight.data.zero_()
    model[0].bias.data.zero_()
    return model


def words(row: int | None) -> nn.Module:
    torch.manual_seed(0)
    model = Words()
    return model if row is None else spoilt(model, "embedding.weight", (row,))


def running(factor: float, steps: int = 60) -> nn.Module:
    torch.manual_seed(0)
    return Cell(factor, steps)


def with_a_bad_term(output: Tensor) -> Tensor:
    entropy = -(output.softmax(-1) * torch.log(output)).sum(-1).mean()
    return output.pow(2).mean() + 0.1 * entropy


def distance(output: Tensor) -> Tensor:
    """0 at the optimum, where its derivative is infinite."""
    return (output - output.detach()).pow(2).mean().sqrt()


def half_sequence() -> nn.Sequential:
    model = net(nn.Identity())
    model[0].bias.data.fill_(8.0)
    model[3].weight.data.fill_(3e4)
    return model


IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])

# name: (the step, phase, subject, path, kind), as they must come out with and without `replay`
CASES: dict[str, tuple[Callable[[], Step], str, str, str, str]] = {
    "log of 0": (lambda: Step(zeroed(net(Log())), (batch(),)), "forward", "output", "2", "inf"),
    "x / |x| at 0": (lambda: Step(zeroed(net(Unit())), (batch(),)), "forward", "output", "2", "nan"),
    "sqrt of a negative number": (
        lambda: Step(nn.Sequential(nn.Linear(8, 8), Root(), nn.Linear(8, 2)), (batch(),)),
        "forward", "output", "1", "nan",
    ),
    "sqrt at 0, backwards": (lambda: Step(zeroed(net(Root())), (batch(),)), "backward", "gradient", "2", "inf"),
    "where, backwards": (lambda: Step(zeroed(net(SafeLog())), (batch(),)), "backward", "gradient", "2", "nan"),
    "where in one of two branches": (lambda: Step(Residual(), (batch(),)), "backward", "gradient", "risky", "nan"),
    "fp16 overflow": (
        lambda: Step(half_sequence(), (batch(),), autocast=torch.float16), "forward", "output", "3", "inf",
    ),
    "a NaN weight": (
        lambda: Step(spoilt(net(nn.Identity()), "3.weight", (0, 0)), (batch(),)),
        "forward", "parameter", "3.weight", "nan",
    ),
    "a NaN input": (lambda: Step(net(nn.Identity()), (with_value(torch.nan),)), "data", "argument", "", "nan"),
    "an infinite input": (lambda: Step(net(nn.Identity()), (with_value(torch.inf),)), "data", "argument", "", "inf"),
    "exploding recurrence, forwards": (
        lambda: Step(running(10.0), (batch(),)), "forward", "output", "cell", "inf",
    ),
    "batch variance 0": (
        lambda: Step(zeroed(net(Standardize())), (batch(),)), "forward", "output", "2", "nan",
    ),
    "one bad embedding row": (
        lambda: Step(words(5), (IDS,)), "forward", "parameter", "embedding.weight", "nan",
    ),
    "a bad embedding row that is not used, and log of 0": (
        lambda: Step(nn.Sequential(words(9), Log()), (IDS,), loss=lambda output: output.mean()),
        "forward", "output", "1", "nan",
    ),
    "optimizer epsilon 0": (
        lambda: Step(zeroed(net(nn.Identity())), (batch(),), optimizer=torch.optim.Adam, options={"eps": 0.0}),
        "update", "update", "3.weight", "nan",
    ),
    "an infinite weight decay": (
        lambda: Step(net(nn.Identity()), (batch(),), options={"weight_decay": torch.inf}),
        "update", "update", "0.weight", "inf",
    ),
    "a loss term": (
        lambda: Step(net(nn.Identity()), (batch(),), loss=with_a_bad_term), "loss", "loss", "", "nan",
    ),
    "a mask on the way, then log of 0": (lambda: Step(Attention(), (batch(),)), "forward", "output", "log", "inf"),
    "a row that is masked out": (
        lambda: Step(MaskedOut(), (batch(8)[None], torch.full((8, 8), -torch.inf).tril())),
        "forward", "output", "attend", "nan",
    ),
    "an infinity that was taken out again, then log of 0": (
        lambda: Step(net(Degrees()), (batch(),)), "forward", "output", "2", "inf",
    ),
    "beside tensors that are not used, log of 0": (
        lambda: Step(net(Kept()), (batch(),)), "forward", "output", "2", "inf",
    ),
    "between two modules": (lambda: Step(Inline(), (batch(),)), "forward", "output", "", "inf"),
}  # fmt: skip


@pytest.mark.parametrize("replay", [False, True], ids=["model alone", "replay"])
@pytest.mark.parametrize("name", CASES)
def test_phase_and_place_are_right(name: str, replay: bool) -> None:
    torch.manual_seed(0)
    prepared, *expected = CASES[name]
    found = make(prepared(), replay=replay)
    if name == "a loss term" and not replay:  # told by exclusion, and so without a place
        expected[2] = None
    assert [found.phase, found.subject, found.path, found.kind] == expected, str(found)


def test_the_operation_its_line_and_its_dtype_are_told() -> None:
    found = make(Step(zeroed(net(Log())), (batch(),)), replay=False)
    assert found.operation == "log" and found.line == line_of("return torch.log(x)") and found.dtype == "float32"
    assert found.module_type == "Log"
    found = make(Step(half_sequence(), (batch(),), autocast=torch.float16), replay=False)
    assert (found.dtype, found.operation, found.module_type) == ("float16", "linear", "Linear")
    found = make(Step(net(nn.Identity()), (batch(),), loss=with_a_bad_term), replay=True)
    assert (found.operation, found.line) == ("log", line_of("entropy = -("))


def line_of(text: str) -> str:
    path = Path(__file__)
    number = next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)
    return f"{path.name}:{number}"


def test_what_was_written_through_a_view_is_followed() -> None:
    found = make(Step(net(ThroughView()), (batch(),)), replay=False)
    assert (found.path, found.operation, found.line) == ("2", "log", line_of("# through a view"))


def test_how_much_of_a_tensor_is_bad_is_told() -> None:
    found = make(Step(words(5), (IDS,)), replay=False)
    assert found.module_type == "Embedding" and "8 of its 80 elements, in row 5" in found.detail
    found = make(Step(net(nn.Identity()), (with_value(torch.nan),)), replay=False)
    assert "1 of its 256 elements, in row 7" in found.detail


def test_a_tied_weight_goes_by_its_first_name() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    found = make(Step(spoilt(model, "2.weight", (0, 0)), (batch(),)), replay=False)
    assert (found.phase, found.subject, found.path) == ("forward", "parameter", "0.weight")


def test_checkpointed_tied_and_recurrent_parts() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.first, self.risky = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 8), SafeLog()
            self.act, self.head = nn.ReLU(inplace=True), nn.Linear(8, 8)
            self.head.weight = self.first.weight

        def part(self, x: Tensor) -> Tensor:
            return self.act(self.risky(self.first(x) * 0))

        def forward(self, x: Tensor) -> Tensor:
            x = checkpoint(self.part, self.rnn(x[None])[0][0], use_reentrant=False)
            return self.head(x - 1)

    for replay in (False, True):
        torch.manual_seed(0)
        found = make(Step(Parts(), (batch(),)), replay=replay)
        assert (found.phase, found.path, found.kind) == ("backward", "risky", "nan"), str(found)


@pytest.mark.parametrize("wrapped", [True, False], ids=["torch.compile(model)", "model.compile()"])
def test_a_compiled_model(wrapped: bool) -> None:
    model = zeroed(net(Log()))
    if not wrapped:
        model.compile(backend="eager")
    recorder = Recorder(torch.compile(model, backend="eager") if wrapped else model)
    recorder.forward_began((batch(),), {})
    found = recorder.find(0, loss=math.nan, updated=False)
    assert (found.phase, found.path) == ("forward", "2")
    assert wrapped or model._compiled_call_impl is not None


def test_a_backward_overflow_needs_the_real_loss() -> None:
    """Gradients grow tenfold a step from 1e3 on and pass 3.4e38; from the stand-in's 1 at most they stay below."""

    def step() -> Step:
        tiny = batch() * 1e-35
        return Step(running(10.0, steps=37), (tiny,), loss=lambda output: output.sum() * 1e4)

    found = make(step(), replay=True)
    assert (found.phase, found.path, found.kind, found.known) == ("backward", "cell", "inf", True)
    found = make(step(), replay=False)
    assert (found.phase, found.path, found.parameters, found.known) == ("backward", None, ("cell.weight",), False)
    assert "did not show it" in found.reason
    found = make(step(), replay=False, logged=False)
    assert (found.phase, found.path) == (None, None) and "loss was finite was not observed" in found.reason


def test_a_gradient_that_the_loss_makes() -> None:
    def step() -> Step:
        return Step(
            net(nn.Identity()), (batch(),), loss=lambda output: (output - output.detach()).norm(dim=0).sqrt().sum()
        )

    found = make(step(), replay=True)
    assert (found.phase, found.path, found.known) == ("backward", "", True) and "out of the loss" in found.detail
    found = make(step(), replay=False)
    assert (found.phase, found.path) == ("backward", None) and len(found.parameters) == 6


def test_an_output_that_the_loss_does_not_use_is_not_blamed() -> None:
    """The derivative of the second output is infinite, but nothing asks for it; the loss spoils the gradient itself."""

    class Statistics(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.layer(x)
            return hidden, (hidden - hidden).abs().sum(1).sqrt()

    found = make(Step(Statistics(), (batch(),), loss=lambda output: distance(output[0])), replay=False)
    assert (found.phase, found.path) == ("backward", None) and "2 tensors" in found.reason
    found = make(Step(Statistics(), (batch(),), loss=lambda output: distance(output[0])), replay=True)
    assert "came out of the loss" in found.detail


def test_gradients_are_told_in_forward_order() -> None:
    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.risky, self.first = nn.Linear(8, 2), SafeLog(), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(self.risky(x - x.detach()))

    torch.manual_seed(0)
    found = make(Step(Reversed(), (batch(),)), replay=False)
    assert found.path == "risky" and found.parameters == ("first.weight", "first.bias")


def test_clipping_that_spread_a_nan_to_every_gradient_misleads_nobody() -> None:
    model, inputs = zeroed(net(SafeLog())), batch()
    recorder = Recorder(model)
    recorder.forward_began((inputs,), {})
    model(inputs).pow(2).mean().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    norms = {path: float(each.grad.norm()) for path, each in model.named_parameters()}
    assert all(map(math.isnan, norms.values()))
    found = recorder.find(3, gradients=norms, loss=1.0, updated=False)
    assert (found.step, found.phase, found.path) == (3, "backward", "2")


def test_a_norm_that_overflowed_is_no_infinite_gradient() -> None:
    model, inputs = net(nn.Identity()), batch()
    recorder = Recorder(model)
    recorder.forward_began((inputs,), {})
    (model(inputs).mean() * 1e25).backward()
    gradients = [each.grad for each in model.parameters()]
    assert all(bool(each.isfinite().all()) for each in gradients)
    total = float(nn.utils.get_total_norm(gradients))
    assert total == math.inf  # as torch takes it, in float32
    exact = {path: float(each.grad.double().norm()) for path, each in model.named_parameters()}
    found = recorder.find(0, gradients=exact, loss=1.0, total_norm=total, updated=False)
    assert (found.subject, found.kind, found.path) == ("norm", "overflow", "")
    narrow = {path: float(each.grad.norm()) for path, each in model.named_parameters()}
    recorder.hold(narrow)
    found = recorder.find(0, gradients=narrow, loss=1.0, updated=False)
    assert found.subject == "norm" and found.path in narrow and narrow[found.path] == math.inf


# -- what is not known is said so --------------------------------------------------------------------------------------


def test_a_batch_that_was_written_over() -> None:
    model, inputs = net(Log()), batch()
    recorder = Recorder(model)
    recorder.forward_began((inputs,), {})
    inputs.copy_(batch())
    found = recorder.find(0, loss=math.nan, updated=False)
    assert not found.known and "written to in place" in found.reason


def test_a_batch_in_a_container_that_is_filled_anew() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 2)

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return self.layer(batch["x"])

    given = {"x": with_value(torch.nan)}
    recorder = Recorder(model := Named())
    recorder.forward_began((given,), {})
    given["x"] = batch()
    found = recorder.find(0, loss=math.nan, updated=False)
    assert (found.phase, found.subject) == ("data", "argument") and model.training


def test_a_batch_in_an_object_that_is_filled_anew() -> None:
    @dataclass
    class Filled:
        x: Tensor

    given = Filled(with_value(torch.nan))
    recorder = Recorder(model := Unpack())
    recorder.forward_began((given,), {})
    given.x = batch()
    found = recorder.find(0, loss=math.nan, updated=False)
    assert not found.known and "written to in place" in found.reason and model.training


def test_a_batch_in_an_array_that_is_filled_anew() -> None:
    """What NumPy writes into shared memory is counted by nobody."""
    array = with_value(torch.nan).numpy().copy()
    inputs, model = torch.from_numpy(array), net(nn.Identity())
    recorder = Recorder(model)
    recorder.forward_began((inputs,), {})
    recorder.hold({"0.weight": math.nan})
    array[:] = 1.0
    found = recorder.find(0, gradients={"0.weight": math.nan}, loss=math.nan)
    assert (found.phase, found.subject) == ("data", "argument")


def test_several_forward_passes_of_which_one_is_kept() -> None:
    model, good = net(Log()), batch()
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(1.0)
    recorder = Recorder(model)
    for _ in range(2):
        recorder.forward_began((good,), {})
    found = recorder.find(0, loss=math.nan, updated=False)
    assert not found.known and "2 forward passes" in found.reason
    recorder.update_began()
    recorder.forward_began((good,), {})
    assert recorder.find(1, loss=math.nan, updated=False).phase == "loss"


def test_parameters_that_were_not_kept() -> None:
    model = spoilt(net(nn.Identity()), "0.weight", (0, 0))
    recorder = Recorder(model)
    recorder.forward_began((batch(),), {})
    found = recorder.find(0, loss=math.nan)
    assert not found.known and "0.weight was not kept as it was before the update" in found.reason


def test_a_state_that_may_be_of_an_earlier_pass() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.state = nn.Linear(8, 8), torch.zeros(8)

        def forward(self, x: Tensor) -> Tensor:
            output = self.layer(x) + self.state
            self.state = output.detach().mean(0) * 1e30
            return output

    model = Stateful()
    model.state = torch.full((8,), torch.nan)
    recorder = Recorder(model)
    recorder.forward_began((batch(),), {})
    found = recorder.find(0, loss=math.nan, updated=False)
    assert (found.phase, found.path) == ("forward", None) and "`state`" in found.reason
    assert bool(model.state.isnan().all())  # put back


def test_randomness_that_is_not_torchs() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) * random.random()

    recorder = Recorder(model := Noisy())
    recorder.forward_began((batch(),), {})
    state = random.getstate()
    found = recorder.find(0, loss=math.nan, updated=False)
    assert not found.known and "`random`" in found.reason and model.training
    assert random.getstate() == state


def test_a_model_that_fails_when_called_again() -> None:
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("the stream is over")

    recorder = Recorder(model := Once())
    recorder.forward_began((batch(),), {})
    found = recorder.find(0, loss=math.nan, updated=False)
    assert not found.known and "the stream is over" in found.reason
    model.eval()
    assert "training mode" in recorder.find(0, loss=math.nan, updated=False).reason
    assert Recorder(model).find(0, loss=math.nan).reason == "no training forward pass was seen"


def test_dropout_is_drawn_as_it_was() -> None:
    """One unit in ten survives; whether log sees a 0 in the unit that matters depends on the draw alone."""

    class Gamble(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.drop, self.log = nn.Linear(8, 8), nn.Dropout(0.5), Log()

        def forward(self, x: Tensor) -> Tensor:
            return self.log(self.drop(torch.ones(1))) + self.scale(x).mean()

    torch.manual_seed(0)
    seen = set[bool]()
    recorder = Recorder(model := Gamble())
    for _ in range(8):
        recorder.update_began()
        recorder.forward_began((batch(),), {})
        bad = not bool(model(batch()).isfinite())
        torch.rand(3)
        found = recorder.find(0, loss=-math.inf if bad else math.nan, updated=False)
        assert (found.path == "log") is bad and (found.phase == "loss") is not bad
        seen.add(bad)
    assert seen == {True, False}


def test_a_batch_of_a_class_of_its_own_is_no_fault_of_the_model() -> None:
    found = make(Step(Unpack(), (Record(with_value(torch.nan)),)), replay=False)  # type: ignore[arg-type]
    assert not found.known and "neither argument nor parameter" in found.reason


def test_a_loss_without_replay_is_not_said_to_come_from_finite_numbers() -> None:
    """The targets may have been the fault, and nobody saw them."""
    step = Step(
        net(nn.Identity()), (batch(),), loss=lambda output: functional.l1_loss(output, torch.full((32, 2), torch.nan))
    )
    found = make(step, replay=False)
    assert (found.phase, found.operation) == ("loss", "") and "from finite numbers" not in str(found)


def test_an_infinite_loss_is_not_called_nan_after_its_gradients() -> None:
    recorder = Recorder(model := net(nn.Identity()))
    recorder.forward_began((batch(),), {})
    found = recorder.find(0, gradients={"0.weight": math.nan}, loss=math.inf, updated=False)
    assert (found.phase, found.kind) == ("loss", "inf") and model.training


def test_a_mask_by_logarithm_is_not_blamed_for_a_bad_target() -> None:
    allowed = torch.tensor([1.0, 1.0, 1.0, 0.0])

    def loss(output: Tensor) -> Tensor:
        return (output.log_softmax(-1)[:, 0] * advantage).mean()

    advantage = torch.tensor(math.nan)
    assert not make(Step(LogMask(), (batch(), allowed), loss=loss), replay=False).known
    found = make(Step(LogMask(), (batch(), allowed), loss=loss), replay=True)
    assert (found.phase, found.subject) == ("data", "target")


# -- replay ------------------------------------------------------------------------------------------------------------


def test_replay_uses_the_loop_variables_of_its_step() -> None:
    model = net(nn.Identity())
    loss_fn = nn.CrossEntropyLoss()
    inputs = targets = torch.empty(0)
    recorder = Recorder(model, lambda model: loss_fn(model(inputs), targets) * weight)
    for number in range(2):
        inputs, targets = batch() + number, torch.randint(2, (32,), generator=torch.Generator().manual_seed(number))
        weight = torch.tensor(math.nan if number == 0 else 1.0)
        if number == 0:
            recorder.forward_began((inputs,), {})
            recorder.update_began()
    found = recorder.find(0, loss=math.nan, updated=False)
    assert (found.phase, found.subject) == ("data", "target")


def test_a_bad_target_is_told_from_a_bad_loss() -> None:
    targets = torch.zeros(32, 2)
    targets[3] = torch.nan
    step = Step(net(nn.Identity()), (batch(),), loss=lambda output: functional.mse_loss(output, targets))
    found = make(step, replay=True)
    assert (found.phase, found.subject, found.kind) == ("data", "target", "nan")
    assert "2 of its 64 elements, in row 3" in found.detail and "mse_loss" in found.detail


def test_an_infinity_that_the_loss_takes_out_again_is_not_blamed() -> None:
    def loss(output: Tensor) -> Tensor:
        share = torch.tensor([0.0, 1.0])
        entropy = torch.where(share > 0, share * share.log(), 0.0).sum()
        return entropy + torch.sqrt(-output.pow(2).sum())  # the fault

    found = make(Step(net(nn.Identity()), (batch(),), loss=loss), replay=True)
    assert (found.phase, found.operation, found.line) == ("loss", "sqrt", line_of("# the fault"))


def test_a_replay_that_contradicts_the_run_is_not_believed() -> None:
    """The loss was finite, only the gradients were not; made again with another setting, the loss is not."""
    model, epsilon = net(nn.Identity()), [0.0]
    recorder = Recorder(model, lambda model: (model(inputs) * 0 + epsilon[0]).log().mean())
    inputs = batch()
    recorder.forward_began((inputs,), {})
    recorder.update_began()
    found = recorder.find(0, gradients={"0.weight": math.nan}, loss=-1.0, updated=False)
    assert not found.known and "although it was in the run" in found.reason


def test_replay_on_another_batch_is_not_believed() -> None:
    model, inputs = net(nn.Identity()), batch()
    recorder = Recorder(model, lambda model: model(inputs + 1).mean())
    recorder.forward_began((inputs,), {})
    recorder.update_began()
    found = recorder.find(0, loss=math.nan, updated=False)
    assert not found.known and "another batch" in found.reason


def test_replay_must_return_a_loss() -> None:
    model, inputs = net(nn.Identity()), batch()
    recorder = Recorder(model, lambda model: model(inputs))
    recorder.forward_began((inputs,), {})
    recorder.update_began()
    found = recorder.find(0, loss=math.nan, updated=False)
    assert not found.known and "instead of a loss" in found.reason
    with pytest.raises(SetupError, match="replay=lambda model"):
        Recorder(model, "loss_fn")


# -- the run is not changed --------------------------------------------------------------------------------------------


class Busy(nn.Module):
    """Keeps state wherever a module can: buffers, attributes, containers, generators, hooks, two kinds of norms."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.utils.parametrizations.weight_norm(nn.Linear(8, 16))
        self.norm, self.drop = nn.BatchNorm1d(16), nn.Dropout(0.3)
        self.second = nn.utils.spectral_norm(nn.Linear(16, 16))
        self.rnn, self.head = nn.GRU(16, 8, batch_first=True), nn.Linear(8, 2)
        self.register_buffer("average", torch.zeros(16))
        self.register_buffer("rebound", torch.zeros(16))
        self.calls, self.history, self.cache = 0, [torch.zeros(2)], {"last": torch.zeros(16)}
        self.noise = torch.Generator().manual_seed(5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.drop(torch.relu(self.norm(self.first(x))))
        hidden = self.second(hidden) + 0.01 * torch.randn(16, generator=self.noise) + self.average
        self.average.mul_(0.9).add_(hidden.detach().mean(0), alpha=0.1)
        self.rebound = 0.9 * self.rebound + 0.1 * hidden.detach().mean(0)
        self.calls += 1
        self.history.append(hidden.detach().mean())
        self.history[0] += 1
        self.cache["last"] = hidden.detach()[0]
        random.random(), np.random.rand()  # noqa: NPY002
        return self.head(self.rnn(hidden[None])[0][0])


def train(searching: bool) -> list[Tensor]:
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    model, outside = Busy(), nn.Parameter(torch.ones(()))
    hooked: list[int] = []
    model.head.register_forward_hook(lambda *_: hooked.append(1))
    model.norm.weight.register_hook(lambda gradient: hooked.append(2))
    model.second.register_full_backward_hook(lambda *_: hooked.append(3))
    optimizer = torch.optim.AdamW([*model.parameters(), outside], lr=0.01)
    inputs = targets = torch.empty(0)
    recorder = Recorder(model, lambda model: functional.cross_entropy(model(inputs), targets) * outside)
    alone = Recorder(model)
    seen: list[Tensor] = []
    if searching:
        for each in (recorder, alone):
            model.register_forward_pre_hook(ModuleHook(model, each.forward_began), with_kwargs=True)
    for number in range(6):
        inputs = torch.randn(12, 8, generator=torch.Generator().manual_seed(number))
        targets = inputs[:, 0].gt(0).long()
        loss = functional.cross_entropy(model(inputs), targets) * outside
        loss.backward()
        torch.rand(number), random.random(), np.random.rand()  # noqa: NPY002
        seen += [loss.detach(), *(each.grad.clone() for each in model.parameters())]
        norms = {path: math.nan for path, _ in model.named_parameters()}
        if searching:
            for each in (recorder, alone):
                each.hold(norms)
                each.update_began()
                found = each.find(number, gradients=norms, loss=math.nan, updated=False)
                assert not found.known and "raised" not in found.reason, found
        optimizer.step()
        if searching:
            assert not recorder.find(number, gradients=norms, loss=1.0).known
        seen += [each.grad.clone() for each in (*model.parameters(), outside)]
        optimizer.zero_grad()
    seen += [*model.state_dict().values(), outside.detach(), torch.get_rng_state(), model.noise.get_state()]
    seen += [torch.tensor([model.calls, *hooked, random.random(), np.random.rand()]), *model.history]  # noqa: NPY002
    seen += [model.cache["last"], torch.rand(3)]
    return [each.detach().clone() for each in seen]


def test_training_is_bit_identical_with_searches_in_the_middle_of_it() -> None:
    bare, searched = train(False), train(True)
    assert len(bare) == len(searched) > 100
    assert all(torch.equal(a, b) for a, b in zip(bare, searched))


def test_communication_is_refused(tmp_path: Path) -> None:
    """A process that replays alone would wait for the others without end."""

    class Together(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.layer(x)
            torch.distributed.all_reduce(x.detach())
            return x

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = Together()
        recorder = Recorder(model)
        recorder.forward_began((batch(),), {})
        model(batch())  # in the run itself it works
        found = recorder.find(0, loss=math.nan, updated=False)
        assert not found.known and found.reason == "the pass communicates with other processes"
    finally:
        torch.distributed.destroy_process_group()
