"""Where non-finite numbers came from, end to end: ordinary training in which one step goes wrong on purpose."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import auscult
from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.monitor import Monitor

BAD = 5


class Middle(nn.Module):
    """Does something to its input that can go wrong."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.act = act
        self.factor = 1.0

    def forward(self, inputs: Tensor) -> Tensor:
        return self.act(inputs * self.factor)


class Network(nn.Module):
    """Two layers and what lies between."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.front = nn.Linear(8, 8)
        self.middle = Middle(act)
        self.back = nn.Linear(8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.back(self.middle(self.front(inputs)))


def train(
    path,
    act: Callable[[Tensor], Tensor] = torch.tanh,
    loss_of: Callable[[Tensor], Tensor] = lambda output: output.square().mean(),
    spoil: Callable[[Network, Tensor], object] | None = None,
    replays: bool = False,
    clip: bool = False,
    steps: int = 12,
    watched: bool = True,
) -> tuple[Network, Monitor | None]:
    """A dozen steps; `spoil` is called before step 5 with the model and its batch."""
    torch.manual_seed(0)
    model = Network(act)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs = torch.empty(0)
    replay = (lambda called: loss_of(called(inputs))) if replays else None
    monitor = auscult.watch(model, optimizer, path, every=1, replay=replay) if watched else None
    for step in range(steps):
        inputs = torch.randn(16, 8)
        model.middle.factor = 1.0
        if step == BAD and spoil is not None:
            spoil(model, inputs)
        loss = loss_of(model(inputs))
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if monitor is not None:
            monitor.log(loss=loss)
    if monitor is not None:
        monitor.close()
    assert monitor is None or isinstance(monitor, Monitor)
    return model, monitor


def non_finite(monitor: Monitor | None) -> tuple[Run, Finding]:
    """The run, and the one finding that says where its numbers stopped being finite."""
    assert monitor is not None and monitor.failures == []
    run = auscult.load(monitor.path)
    found = auscult.diagnose(run)
    assert found == monitor.findings
    return run, next(each for each in found if each.code == "L001")


def no_factor(model: Network, inputs: Tensor) -> None:
    model.middle.factor = 0.0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("clip", [False, True])
def test_a_logarithm_of_zero_is_named_with_its_module_and_line(tmp_path, clip) -> None:
    run, found = non_finite(train(tmp_path / "run", lambda x: x.square().log(), spoil=no_factor, clip=clip)[1])
    assert (found.step, found.phase, found.path) == (BAD, "forward", "middle")
    assert "by log at test_origin.py:" in found.summary
    assert found.advice[0].startswith("Look at test_origin.py:") and "clamp what log is given" in found.advice[0]
    assert [each.operation for each in run.origins] == ["log"]


def test_an_infinite_derivative_is_told_from_an_infinite_value(tmp_path) -> None:
    _, found = non_finite(train(tmp_path / "run", torch.Tensor.sqrt, spoil=no_factor)[1])
    # sqrt of negative numbers would be NaN in forward at the first step
    assert (found.phase, found.path) == ("forward", "middle")
    _, found = non_finite(train(tmp_path / "run", lambda x: x.square().sqrt(), spoil=no_factor)[1])
    assert (found.step, found.phase, found.path) == (BAD, "backward", "middle")


def test_a_bad_batch_is_named_as_data(tmp_path) -> None:
    run, found = non_finite(train(tmp_path / "run", spoil=lambda _, inputs: inputs[3, 2].fill_(torch.nan))[1])
    assert (found.step, found.phase, found.path) == (BAD, "data", "")
    assert "in row 3" in found.summary and run.origins[0].subject == "argument"


def test_a_parameter_that_was_spoilt_between_two_steps_is_named(tmp_path) -> None:
    def spoil(model: Network, inputs: Tensor) -> None:
        with torch.no_grad():
            model.front.weight[4, 1] = torch.inf

    _, found = non_finite(train(tmp_path / "run", spoil=spoil)[1])
    assert (found.step, found.phase, found.path) == (BAD, "forward", "front.weight")


def test_the_loss_is_named_where_it_can_be_made_again(tmp_path) -> None:
    def loss_of(output: Tensor) -> Tensor:
        return (output - output.detach()).mean() + output.square().sum().log()

    def spoil(model: Network, inputs: Tensor) -> None:
        with torch.no_grad():
            model.back.weight.zero_()
            model.back.bias.zero_()

    _, found = non_finite(train(tmp_path / "run", loss_of=loss_of, spoil=spoil, replays=True)[1])
    assert (found.step, found.phase, found.path) == (BAD, "loss", "")
    assert "by log at test_origin.py:" in found.summary


def test_without_replay_the_loss_is_told_by_exclusion(tmp_path) -> None:
    def spoil(model: Network, inputs: Tensor) -> None:
        with torch.no_grad():
            model.back.weight.zero_()
            model.back.bias.zero_()

    _, found = non_finite(train(tmp_path / "run", loss_of=lambda output: output.square().sum().log(), spoil=spoil)[1])
    assert (found.step, found.phase, found.path) == (BAD, "loss", "")
    assert "the output of the model was finite when it was made again" in found.summary and "replay" in found.summary


def test_a_run_that_stays_finite_is_not_searched(tmp_path) -> None:
    _, monitor = train(tmp_path / "run", replays=True)
    assert monitor is not None
    run = auscult.load(monitor.path)
    assert run.origins == () and auscult.diagnose(run) == []


def test_a_number_of_the_users_own_begins_no_search(tmp_path) -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, tmp_path / "run", every=1) as monitor:
        for step in range(4):
            model(torch.ones(3, 2)).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(score=torch.nan if step == 1 else 0.5)
    assert auscult.load(monitor.path).origins == ()


def test_the_search_changes_nothing(tmp_path) -> None:
    """Bit for bit, random numbers included, also when the run goes on with finite numbers afterwards."""

    def spoil(model: Network, inputs: Tensor) -> None:
        inputs[0, 0] = torch.nan

    def loss_of(output: Tensor) -> Tensor:
        return nn.functional.dropout(output, 0.5).nan_to_num().square().mean()

    ends: list[list[Tensor]] = []
    for watched in (False, True):
        model, monitor = train(
            tmp_path / "run", lambda x: nn.functional.dropout(x, 0.5), loss_of, spoil, replays=True, watched=watched
        )
        ends.append([*(each.detach() for each in model.parameters()), torch.get_rng_state()])
        if monitor is not None:
            assert len(auscult.load(monitor.path).origins) == 1
    assert all(torch.equal(one.nan_to_num(7), other.nan_to_num(7)) for one, other in zip(*ends, strict=True))


def test_a_run_is_searched_three_times_at_most(tmp_path) -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with auscult.watch(model, optimizer, tmp_path / "run", every=1) as monitor:
        for step in range(20):
            inputs = torch.full((3, 2), torch.nan if step % 2 else 1.0)
            loss = model(inputs).mean()
            loss.backward()
            for each in model.parameters():
                assert each.grad is not None
                each.grad.nan_to_num_(0.0)
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    assert [each.step for each in auscult.load(monitor.path).origins] == [1, 3, 5]


def test_a_resumed_run_still_names_it(tmp_path) -> None:
    """Live findings after a resume equal those of the run read back, also within the first block."""
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for part in range(2):
        with auscult.watch(model, optimizer, tmp_path / "run", every=1, if_exists="resume") as monitor:
            for step in range(4):
                loss = model(torch.full((3, 2), torch.nan if part == 0 and step == 2 else 1.0)).mean()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                monitor.log(loss=loss)
    assert isinstance(monitor, Monitor)
    found = auscult.diagnose(auscult.load(monitor.path))
    assert found == monitor.findings
    assert (found[0].code, found[0].phase, found[0].step) == ("L001", "data", 2)
