"""Traps around the update: who calls it, how often, with what, and what stops it half-way."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))


def loss_of(model: nn.Module, size: int = 8) -> torch.Tensor:
    return model(torch.randn(size, 6)).square().mean()


def ordinary_steps(twin, model: nn.Module, optimizer, count: int = 3, rel: float = 1e-6) -> None:
    """The loop of every tutorial."""
    for _ in range(count):
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        twin.gradients(model, rel=rel)
        twin.before(model)
        optimizer.step()
        twin.after(model, rel=rel)
        twin.keep(loss)
        twin.log(loss=loss)


def a_subclass_that_calls_super(twin) -> None:
    class Decayed(SGD):
        def step(self, closure=None):
            with torch.no_grad():
                for group in self.param_groups:
                    for each in group["params"]:
                        each.mul_(0.99)
            return super().step(closure)

    model = network()
    optimizer = Decayed(model.parameters(), lr=0.1, momentum=0.9)
    with twin.watch(model, optimizer):
        ordinary_steps(twin, model, optimizer)


def an_exception_inside_the_update(twin) -> None:
    class Fragile(SGD):
        broken = False

        def step(self, closure=None):
            if self.broken:
                raise MemoryError
            return super().step(closure)

    model = network()
    optimizer = Fragile(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        ordinary_steps(twin, model, optimizer, 2)
        optimizer.broken = True
        for _ in range(2):
            optimizer.zero_grad()
            (100 * loss_of(model)).backward()
            with pytest.raises(MemoryError):
                optimizer.step()
        optimizer.broken = False
        ordinary_steps(twin, model, optimizer, 2)


def an_exception_inside_the_closure(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)

    def fails() -> float:
        optimizer.zero_grad()
        (100 * loss_of(model)).backward()
        raise FloatingPointError

    with twin.watch(model, optimizer):
        for number in range(4):
            if number % 2:
                with pytest.raises(FloatingPointError):
                    optimizer.step(fails)
            closure_steps(twin, model, optimizer, 1)


def an_exception_inside_the_forward_pass(twin) -> None:
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Linear(12, 3))
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        for _ in range(2):
            ordinary_steps(twin, model, optimizer, 2)
            with pytest.raises(ValueError, match="more than 1 value per channel"):
                model(torch.randn(1, 6))
        ordinary_steps(twin, model, optimizer, 2)


def closure_steps(twin, model: nn.Module, optimizer: Optimizer, count: int, keyword: bool = False) -> None:
    """The loop that hands the optimizer a closure; what counts is its first evaluation."""
    inputs = torch.randn(20, 6)
    calls = 0

    def closure() -> torch.Tensor:
        nonlocal calls
        optimizer.zero_grad()
        loss = model(inputs).square().mean()
        loss.backward()
        if not calls:
            twin.gradients(model)
        calls += 1
        return loss

    for _ in range(count):
        calls = 0
        twin.before(model)
        twin.keep(optimizer.step(closure=closure) if keyword else optimizer.step(closure))
        twin.after(model)


def a_closure(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        closure_steps(twin, model, optimizer, 3)
        closure_steps(twin, model, optimizer, 3, keyword=True)


def a_closure_that_is_called_many_times(twin) -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=6, line_search_fn="strong_wolfe")
    with twin.watch(model, optimizer):
        closure_steps(twin, model, optimizer, 4)


class Wrapper(Optimizer):
    """As Accelerate has it: an Optimizer by inheritance that was never initialised as one."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.sync = True

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups) -> None:
        self.optimizer.param_groups = groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        if self.sync:
            self.optimizer.zero_grad(set_to_none)

    def step(self, closure=None) -> None:
        if self.sync:
            self.optimizer.step(closure)


def a_wrapper_that_steps_when_it_sees_fit(twin) -> None:
    model = network()
    optimizer = Wrapper(AdamW(model.parameters(), lr=0.01))
    with twin.watch(model, optimizer):
        ordinary_steps(twin, model, optimizer)
        optimizer.sync = False
        loss_of(model).backward()
        optimizer.step()
        optimizer.zero_grad()
        optimizer.sync = True
        loss_of(model).backward()
        twin.gradients(model)
        twin.before(model)
        optimizer.step()
        twin.after(model)


def gradient_accumulation(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    with twin.watch(model, optimizer):
        for _ in range(3):
            for _ in range(4):
                (loss_of(model) / 4).backward()
            twin.gradients(model)
            twin.before(model)
            optimizer.step()
            twin.after(model)
            optimizer.zero_grad()


def an_optimizer_for_each_parameter_inside_the_backward_pass(twin) -> None:
    updates_inside_the_backward_pass(twin, watch_first=True)


def the_same_with_hooks_that_were_there_first(twin) -> None:
    updates_inside_the_backward_pass(twin, watch_first=False)


def updates_inside_the_backward_pass(twin, watch_first: bool) -> None:
    model = network()
    optimizers = {path: SGD([each], lr=0.1) for path, each in model.named_parameters()}
    paths = {id(each): path for path, each in model.named_parameters()}

    def update(parameter: torch.Tensor) -> None:
        path = paths[id(parameter)]
        twin.expect("grad_norm", path, twin.norm(parameter.grad))
        squares.append(twin.norm(parameter.grad) ** 2)
        optimizers[path].step()
        optimizers[path].zero_grad()

    def hook() -> None:
        for each in model.parameters():
            each.register_post_accumulate_grad_hook(update)

    if not watch_first:
        hook()
    with twin.watch(model, optimizers):
        if watch_first:
            hook()
        for _ in range(4):
            squares: list[float] = []
            twin.before(model)
            loss = loss_of(model)
            loss.backward()
            twin.expect("grad_norm", "", sum(squares) ** 0.5)
            twin.unobserved("grad_changed", "")  # when the pass is over, the gradients are gone
            twin.after(model)
            twin.log(loss=loss)


def optimizers_that_take_turns(twin) -> None:
    model = nn.ModuleDict({"d": nn.Linear(4, 1), "g": nn.Linear(4, 4)})
    optimizers = {"d": Adam(model["d"].parameters(), 0.01), "g": Adam(model["g"].parameters(), 0.01)}

    def turn(name: str) -> None:
        inputs = torch.randn(8, 4)
        optimizers[name].zero_grad()
        fake = model["g"](inputs)
        loss = model["d"](fake.detach() if name == "d" else fake).square().mean()
        loss.backward()
        for path, each in model[name].named_parameters():
            twin.expect("grad_norm", f"{name}.{path}", twin.norm(each.grad))
        twin.keep(loss)
        optimizers[name].step()

    with twin.watch(model, optimizers):
        for _ in range(3):
            for _ in range(2):  # two steps of the critic alone, and a third with the generator's
                turn("d")
                for path, _ in model["g"].named_parameters():
                    twin.unobserved("update_norm", f"g.{path}")
                twin.step += 1
            turn("d")
            turn("g")
            twin.step += 1


def a_parameter_in_no_optimizer(twin) -> None:
    model = network()
    optimizer = SGD(model[2].parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        for _ in range(3):
            model.zero_grad()
            loss_of(model).backward()
            twin.gradients(model)
            twin.before(model)
            optimizer.step()
            twin.after(model)


def a_parameter_in_two_optimizers(twin) -> None:
    model = network()
    optimizers = {"all": SGD(model.parameters(), lr=0.1), "head": SGD(model[2].parameters(), lr=0.3)}
    with twin.watch(model, optimizers):
        for _ in range(3):
            model.zero_grad()
            loss_of(model).backward()
            twin.gradients(model)
            twin.before(model)
            for each in optimizers.values():
                each.step()
            twin.after(model)


def a_parameter_in_two_optimizers_of_which_one_rests(twin) -> None:
    model = network()
    optimizers = {"all": SGD(model.parameters(), lr=0.1), "head": SGD(model[2].parameters(), lr=0.3)}
    with twin.watch(model, optimizers):
        for turn in range(6):
            model.zero_grad()
            loss_of(model).backward()
            twin.gradients(model)
            twin.before(model)
            optimizers["all"].step()
            if turn % 3 == 2:
                optimizers["head"].step()
            twin.after(model)


def a_rate_that_a_scheduler_has_moved_on(twin) -> None:
    model = network()
    optimizer = SGD([{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.5}], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    with twin.watch(model, optimizer):
        for step in range(4):
            twin.expect("lr", "0", 0.1 * 0.5**step)
            twin.expect("lr", "1", 0.5 * 0.5**step)
            ordinary_steps(twin, model, optimizer, 1)
            scheduler.step()


def a_rate_that_is_a_tensor_written_in_place(twin) -> None:
    model = network()
    rate = torch.tensor(0.125)
    optimizer = AdamW(model.parameters(), lr=rate, foreach=False)
    with twin.watch(model, optimizer):
        for _ in range(3):
            twin.expect("lr", "0", float(rate))
            ordinary_steps(twin, model, optimizer, 1)
            rate.mul_(0.5)


def a_rate_that_is_learned_itself(twin) -> None:
    model = network()
    rate = torch.tensor(0.1, requires_grad=True)
    optimizer = SGD(model.parameters(), lr=rate)
    with twin.watch(model, optimizer):
        twin.expect("lr", "0", 0.1)
        ordinary_steps(twin, model, optimizer)


def foreach_and_fused_and_maximised(twin) -> None:
    model = network()
    groups = [
        {"params": [model[0].weight], "foreach": True},
        {"params": [model[0].bias], "fused": True, "foreach": False},
        {"params": [model[2].weight], "foreach": False, "amsgrad": True},
        {"params": [model[2].bias], "maximize": True},
    ]
    optimizer = AdamW(groups, lr=0.01)
    with twin.watch(model, optimizer):
        ordinary_steps(twin, model, optimizer)


def gradients_that_were_zeroed_too_early(twin) -> None:
    model = network()
    optimizer = AdamW(model.parameters(), lr=0.01)
    with twin.watch(model, optimizer):
        ordinary_steps(twin, model, optimizer, 1)
        loss_of(model).backward()
        optimizer.zero_grad(set_to_none=True)  # no gradient at all: not observed, and no update
        twin.gradients(model)
        twin.truth.pop(("grad_norm", "", twin.step))
        twin.unobserved("grad_norm", "")
        twin.before(model)
        optimizer.step()
        twin.after(model)
        loss_of(model).backward()
        optimizer.zero_grad(set_to_none=False)  # exact zeros: observed, and AdamW moves the parameters all the same
        twin.gradients(model)
        assert twin.truth["grad_norm", "", twin.step][0] == 0.0
        twin.before(model)
        optimizer.step()
        twin.after(model)
        assert twin.truth["update_norm", "0.weight", twin.step - 1][0] > 0


def parameters_edited_between_updates(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    ema = copy.deepcopy(model.state_dict())
    with twin.watch(model, optimizer):
        for _ in range(2):
            ordinary_steps(twin, model, optimizer, 2)
            with torch.no_grad():
                for each in model.parameters():
                    each.clamp_(-0.1, 0.1)
            ordinary_steps(twin, model, optimizer, 2)
            model.load_state_dict(ema)
            model[0].weight.data = model[0].weight.data * 3
            ordinary_steps(twin, model, optimizer, 1)


def gradients_computed_without_a_backward_pass(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        for _ in range(3):
            found = torch.autograd.grad(loss_of(model), list(model.parameters()))
            for each, grad in zip(model.parameters(), found):
                each.grad = grad
            twin.gradients(model)
            twin.before(model)
            optimizer.step()
            twin.after(model)


def a_gradient_penalty(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        for _ in range(3):
            inputs = torch.randn(8, 6, requires_grad=True)
            loss = model(inputs).square().mean()
            (slope,) = torch.autograd.grad(loss, inputs, create_graph=True)
            optimizer.zero_grad()
            (loss + slope.square().sum()).backward()
            twin.gradients(model)
            twin.before(model)
            optimizer.step()
            twin.after(model)


def a_copy_of_the_optimizer(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    with twin.watch(model, optimizer):
        ordinary_steps(twin, model, optimizer, 2)
        copied = copy.deepcopy(optimizer)
        for each in copied.param_groups[0]["params"]:
            each.grad = torch.ones_like(each)
        copied.step()  # nobody watches it
        ordinary_steps(twin, model, optimizer, 2)


def a_resumed_run(twin) -> None:
    model = network()
    optimizer = AdamW(model.parameters(), lr=0.01)
    with twin.watch(model, optimizer) as monitor:
        ordinary_steps(twin, model, optimizer, 5)
        state = monitor.state_dict() if monitor is not None else {}
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    model, optimizer = network(), AdamW(model.parameters(), lr=0.5)
    optimizer = AdamW(model.parameters(), lr=0.5)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    with twin.watch(model, optimizer, if_exists="resume") as monitor:
        if monitor is not None:
            monitor.load_state_dict(state)
        twin.expect("lr", "0", 0.01)
        ordinary_steps(twin, model, optimizer, 5)


TRAPS = [
    a_subclass_that_calls_super,
    an_exception_inside_the_update,
    an_exception_inside_the_closure,
    an_exception_inside_the_forward_pass,
    a_closure,
    a_closure_that_is_called_many_times,
    a_wrapper_that_steps_when_it_sees_fit,
    gradient_accumulation,
    an_optimizer_for_each_parameter_inside_the_backward_pass,
    the_same_with_hooks_that_were_there_first,
    optimizers_that_take_turns,
    a_parameter_in_no_optimizer,
    a_parameter_in_two_optimizers,
    a_parameter_in_two_optimizers_of_which_one_rests,
    a_rate_that_a_scheduler_has_moved_on,
    a_rate_that_is_a_tensor_written_in_place,
    a_rate_that_is_learned_itself,
    foreach_and_fused_and_maximised,
    gradients_that_were_zeroed_too_early,
    parameters_edited_between_updates,
    gradients_computed_without_a_backward_pass,
    a_gradient_penalty,
    a_copy_of_the_optimizer,
    a_resumed_run,
]


@pytest.mark.parametrize("script", TRAPS, ids=lambda script: script.__name__)
def test_trap(script, train) -> None:
    train(script)


def test_the_order_of_events_is_the_one_that_is_relied_on() -> None:
    """The root's own parameter comes last, outside of any leaf module; then the clip, the update, and what follows."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(6))
            self.body = nn.Linear(6, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.body(inputs * self.scale)

    model, events = Scaled(), []
    optimizer = SGD(model.parameters(), lr=0.1)
    for path, each in model.named_parameters():
        each.register_post_accumulate_grad_hook(lambda _, path=path: events.append(path))
    optimizer.register_step_pre_hook(lambda *_: events.append("before"))
    optimizer.register_step_post_hook(lambda *_: events.append("after"))
    loss_of(model).backward()
    optimizer.step()
    assert events == ["body.bias", "body.weight", "scale", "before", "after"]
