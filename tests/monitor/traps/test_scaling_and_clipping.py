"""Traps between the backward pass and the update: loss scaling, skipped updates, clipping in every order."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import SGD, Adam, AdamW


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))


def loss_of(model: nn.Module) -> torch.Tensor:
    return 30 * model(torch.randn(8, 6)).square().mean()


OPTIMIZERS = {
    "plain SGD": lambda p: SGD(p, lr=0.01),
    "fused SGD": lambda p: SGD(p, lr=0.01, momentum=0.9, fused=True),
    "plain Adam": lambda p: Adam(p, lr=0.01),
    "fused AdamW": lambda p: AdamW(p, lr=0.01, fused=True),
}
ORDERS = {
    "as it comes": (),
    "unscaled first": ("unscale",),
    "clipped after unscaling": ("unscale", "clip"),
    "clipped before unscaling": ("clip", "unscale"),
    "clipped and never unscaled by hand": ("clip",),
}


def scaled(optimizer_name: str, order: str, micro_batches: int = 1):
    """A loop with a GradScaler whose fourth loss is infinite."""

    def script(twin) -> None:
        model = network()
        optimizer = OPTIMIZERS[optimizer_name](model.parameters())
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        fused = "fused" in optimizer_name
        with twin.watch(model, optimizer):
            for attempt in range(6):
                optimizer.zero_grad()
                bad, scale = attempt == 3, scaler.get_scale()
                for _ in range(micro_batches):
                    scaler.scale(loss_of(model) * (math.inf if bad else 1 / micro_batches)).backward()
                if not bad:
                    twin.gradients(model, scale)
                for each in ORDERS[order]:
                    if each == "unscale":
                        scaler.unscale_(optimizer)
                    else:
                        clip_grad_norm_(model.parameters(), 0.5)
                twin.before(model)
                scaler.step(optimizer)
                scaler.update()
                if bad and not fused:
                    twin.expect("skipped_updates", "", 1.0)  # belongs to the update that comes next
                    continue
                twin.expect("loss_scale", "", scale)
                if bad:  # a fused optimizer is called, and decides on the device: a step without an update
                    twin.expect("skipped_updates", "", 1.0)
                twin.after(model)

    return script


def two_scalers_and_two_optimizers(twin) -> None:
    model = nn.ModuleDict({"a": network(), "b": network()})
    optimizers = {name: SGD(model[name].parameters(), lr=0.01) for name in model}
    scalers = {"a": torch.amp.GradScaler("cpu", init_scale=64.0), "b": torch.amp.GradScaler("cpu", init_scale=4096.0)}
    with twin.watch(model, optimizers):
        for _ in range(3):
            model.zero_grad()
            for name in model:
                scalers[name].scale(loss_of(model[name])).backward()
            for name in model:
                for path, each in model[name].named_parameters():
                    scale = scalers[name].get_scale()
                    rel = 1e-6 if twin.step else math.inf  # before its first step it is not known which scaler is whose
                    twin.expect("grad_norm", f"{name}.{path}", twin.norm(each.grad) / scale, rel)
            for name in model:
                scalers[name].step(optimizers[name])
                scalers[name].update()
            twin.step += 1


def clipped(clip, calls: int):
    """A loop that clips in some way, all gradients alike so many times (0: not alike); norms are those before."""

    def script(twin) -> None:
        model = network()
        optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
        with twin.watch(model, optimizer):
            for _ in range(4):
                optimizer.zero_grad()
                loss_of(model).backward()
                twin.gradients(model)
                whole = twin.truth["grad_norm", "", twin.step][0]
                clip(model)
                after = twin.norm(*(each.grad for each in model.parameters()))
                if calls == 1:
                    twin.expect("clip_ratio", "", whole / 0.5, 1e-5)
                if calls:
                    twin.expect("clip_coefficient", "", after / whole, 1e-5)
                    twin.expect("grad_norm_clipped", "", after, 1e-5)
                else:
                    twin.unobserved("clip_coefficient", "")
                    twin.unobserved("grad_norm_clipped", "")
                twin.expect("grad_changed", "", 0)
                twin.before(model)
                optimizer.step()
                twin.after(model)

    return script


def halves(model: nn.Sequential) -> None:
    clip_grad_norm_(model[0].parameters(), 0.5)
    clip_grad_norm_(model[2].parameters(), 0.1)


def twice(model: nn.Module) -> None:
    clip_grad_norm_(model.parameters(), 0.5)
    clip_grad_norm_(model.parameters(), 0.1)


def by_value_and_then_by_norm(model: nn.Module) -> None:
    clip_grad_value_(model.parameters(), 0.05)
    clip_grad_norm_(model.parameters(), 0.5)


def in_two_calls(model: nn.Module) -> None:
    parameters = list(model.parameters())
    total = nn.utils.get_total_norm([each.grad for each in parameters])
    nn.utils.clip_grads_with_norm_(parameters, 0.5, total)


def changed_by_hand(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        for number in range(4):
            optimizer.zero_grad()
            loss_of(model).backward()
            if number != 2:
                twin.gradients(model)
            else:  # nobody can know what they were: what is recorded is what they are, and the step says so
                with torch.no_grad():
                    for each in model.parameters():
                        each.grad.mul_(0.25)
                twin.gradients(model)
            twin.expect("grad_changed", "", 4 if number == 2 else 0)
            optimizer.step()
            twin.step += 1


def changed_by_hand_between_backward_and_clip(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model).backward()
            for each in model[0].parameters():
                each.grad.add_(torch.randn_like(each))  # as differentially private training does
            twin.gradients(model)
            clip_grad_norm_(model.parameters(), 0.5)
            twin.expect("grad_changed", "", 2)
            optimizer.step()
            twin.step += 1


def clipping_a_gradient_with_nan(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    healthy = copy.deepcopy(model.state_dict())
    with twin.watch(model, optimizer):
        for flaw in (math.nan, math.inf):
            model.load_state_dict(healthy)
            optimizer.zero_grad()
            loss_of(model).backward()
            model[2].bias.grad[1] = flaw
            twin.gradients(model)
            assert math.isfinite(twin.truth["grad_norm", "0.weight", twin.step][0])  # the culprit alone is named
            clip_grad_norm_(model.parameters(), 0.5)
            twin.expect("finite", "", 0.0)
            optimizer.step()
            twin.step += 1


def clipping_that_raises(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        for number in range(4):
            optimizer.zero_grad()
            loss_of(model).backward()
            if number == 1:
                model[0].bias.grad.fill_(math.nan)
                with pytest.raises(RuntimeError, match="non-finite"):
                    clip_grad_norm_(model.parameters(), 0.5, error_if_nonfinite=True)
                continue
            twin.gradients(model)
            clip_grad_norm_(model.parameters(), 0.5, error_if_nonfinite=True)
            twin.before(model)
            optimizer.step()
            twin.after(model)


def clipping_by_the_monitor(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer) as monitor:
        for number in range(4):
            optimizer.zero_grad()
            loss_of(model).backward()
            twin.gradients(model)
            order = 2.0 if number < 3 else math.inf
            if monitor is None:
                total = clip_grad_norm_(model.parameters(), 0.5, order)
            else:
                total = monitor.clip_grad_norm_(0.5, order)
            twin.keep(total)
            twin.expect("clip_ratio", "", float(total) / 0.5)
            twin.before(model)
            optimizer.step()
            twin.after(model)


def clipping_inside_a_closure(twin) -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5)
    inputs = torch.randn(20, 6)
    calls = 0

    def closure() -> torch.Tensor:
        nonlocal calls
        optimizer.zero_grad()
        loss = 30 * model(inputs).square().mean()
        loss.backward()
        if not calls:
            twin.gradients(model)
        clip_grad_norm_(model.parameters(), 0.5)
        if not calls:
            twin.expect("grad_norm_clipped", "", twin.norm(*(each.grad for each in model.parameters())), 1e-5)
        calls += 1
        return loss

    with twin.watch(model, optimizer):
        for _ in range(3):
            calls = 0
            twin.before(model)
            optimizer.step(closure)
            twin.after(model)


def clipping_and_then_no_update(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        for number in range(6):
            optimizer.zero_grad()
            loss_of(model).backward()
            if number % 2 == 0:
                clip_grad_value_(model.parameters(), 0.01)
                continue  # the user thinks better of it
            twin.gradients(model)
            twin.expect("clip_coefficient", "", 1.0)
            twin.before(model)
            optimizer.step()
            twin.after(model)


def clipping_each_micro_batch(twin) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            for _ in range(3):
                loss_of(model).backward()
                twin.gradients(model)  # those before the last clipping are those that count
                clip_grad_norm_(model.parameters(), 0.5)
            twin.expect("grad_norm_clipped", "", twin.norm(*(each.grad for each in model.parameters())), 1e-5)
            optimizer.step()
            twin.step += 1


TRAPS = [
    *(
        pytest.param(scaled(name, order), id=f"{name}, {order}")
        for name in OPTIMIZERS
        for order in ORDERS
        if name != "plain Adam" or not order.startswith("clipped")
    ),
    pytest.param(scaled("plain SGD", "clipped after unscaling", 3), id="scaled and accumulated"),
    pytest.param(scaled("fused AdamW", "as it comes", 3), id="fused, scaled and accumulated"),
    two_scalers_and_two_optimizers,
    pytest.param(clipped(lambda model: clip_grad_norm_(model.parameters(), 0.5), 1), id="by norm"),
    pytest.param(clipped(lambda model: clip_grad_norm_((p for p in model.parameters()), 0.5), 1), id="a generator"),
    pytest.param(clipped(in_two_calls, 1), id="in two calls"),
    pytest.param(clipped(lambda model: clip_grad_value_(model.parameters(), 0.01), 0), id="by value"),
    pytest.param(clipped(lambda model: clip_grad_norm_(model[0].parameters(), 0.5), 0), id="a part"),
    pytest.param(clipped(halves, 0), id="part by part"),
    pytest.param(clipped(twice, 2), id="twice"),
    pytest.param(clipped(by_value_and_then_by_norm, 0), id="by value and then by norm"),
    changed_by_hand,
    changed_by_hand_between_backward_and_clip,
    clipping_a_gradient_with_nan,
    clipping_that_raises,
    clipping_by_the_monitor,
    clipping_each_micro_batch,
    clipping_inside_a_closure,
    clipping_and_then_no_update,
]


@pytest.mark.parametrize("script", TRAPS, ids=lambda script: script.__name__)
def test_trap(script, train) -> None:
    train(script)
