"""GradScaler on CPU, plain and fused: what gradients are multiplied by at each moment, and which updates were made."""

import copy
import gc
import inspect
import pickle
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, AdamW, Optimizer

from auscult.metrics.clipping import Clip, ClipTap
from auscult.metrics.hooks import OptimizerHooks
from auscult.metrics.scaling import ScalerStep, ScaleTap

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "plain SGD": lambda p: SGD(p, lr=0.1),
    "plain AdamW": lambda p: AdamW(p, lr=0.1),
    "fused AdamW": lambda p: AdamW(p, lr=0.1, fused=True),
    "fused SGD": lambda p: SGD(p, lr=0.1, fused=True),
}
STEPS, BAD = 6, 3


@pytest.fixture(autouse=True)
def torch_is_left_as_it_was() -> Iterator[None]:
    before = dict(vars(GradScaler))
    yield
    assert dict(vars(GradScaler)) == before


def make() -> nn.Linear:
    made = nn.Linear(6, 3)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made.weight.copy_(torch.randn(3, 6, generator=noise))
        made.bias.zero_()
    return made


def loss_of(model: nn.Module, step: int) -> Tensor:
    inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
    return model(inputs).square().mean() * (torch.inf if step == BAD else 1.0)


def true_norms(model: nn.Linear, step: int) -> list[float]:
    """Norms of the gradients of the loss itself, in float64, without any scaler."""
    twin = copy.deepcopy(model).double()
    twin.zero_grad()
    inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step)).double()
    (twin(inputs).square().mean() * (torch.inf if step == BAD else 1.0)).backward()
    return [float(np.linalg.norm(each.grad.numpy().ravel())) for each in twin.parameters()]


def unscaled(norms: list[float], factor: Tensor | None) -> list[float]:
    return [each / (1.0 if factor is None else float(factor)) for each in norms]


def norms_of(model: nn.Module) -> list[float]:
    return [float(each.grad.double().norm()) for each in model.parameters()]


class Loop:
    """An ordinary loop with a scaler; notes what a monitor would learn at the clip, at the update and after it."""

    def __init__(self, kind: str, order: str, scaler: GradScaler | None = None) -> None:
        self.model = make()
        self.optimizer = OPTIMIZERS[kind](self.model.parameters())
        self.scaler = scaler or GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        self.told: list[ScalerStep] = []
        self.true: list[list[float]] = []
        self.at_clip: list[list[float]] = []
        self.clip_factors: list[float | None] = []
        self.at_update: list[list[float]] = []
        self.scales: list[float] = []
        self.moved: list[bool] = []
        self.tap = ScaleTap([self.optimizer], self.told.append)
        self.clip_tap = ClipTap(self.model.parameters(), self._on_clip, lambda clip: None)
        self.clip_tap.sharing = True
        self.hooks = OptimizerHooks(self.optimizer, self._on_update, lambda: None)
        for step in range(STEPS):
            self._train(step, order)
        self.hooks.close()
        self.clip_tap.close()
        self.tap.close()

    def _train(self, step: int, order: str) -> None:
        self.optimizer.zero_grad()
        self.true.append(true_norms(self.model, step))
        self.scaler.scale(loss_of(self.model, step)).backward()
        for each in order.split():
            if each == "unscale":
                self.scaler.unscale_(self.optimizer)
            else:
                clip_grad_norm_(self.model.parameters(), 1e-2)
        before = copy.deepcopy(self.model.state_dict())
        self.scales.append(self.scaler.get_scale())
        self.scaler.step(self.optimizer)
        self.moved.append(any(not torch.equal(a, b) for a, b in zip(before.values(), self.model.state_dict().values())))
        self.scaler.update()

    def _on_clip(self, clip: Clip) -> None:
        factor = self.tap.factor(self.optimizer)
        self.clip_factors.append(None if factor is None else float(factor))
        known, norms = clip.shared()
        assert len(known) == len(clip.parameters()) == 2
        self.at_clip.append(unscaled(norms.tolist(), factor))

    def _on_update(self) -> None:
        self.at_update.append(unscaled(norms_of(self.model), self.tap.factor(self.optimizer)))


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("order", ["", "unscale"])
def test_true_norms_at_the_update_and_which_updates_were_made(kind: str, order: str) -> None:
    loop = Loop(kind, order)
    made = [step for step in range(STEPS) if step != BAD]
    reached = range(STEPS) if "fused" in kind else made  # a fused optimizer is called and decides by itself
    np.testing.assert_allclose(loop.at_update, [loop.true[step] for step in reached], rtol=1e-5)
    assert loop.moved == [step in made for step in range(STEPS)]
    assert [bool(each.skipped) for each in loop.told] == [step == BAD for step in range(STEPS)]
    assert [float(each.scale) for each in loop.told] == loop.scales
    assert loop.scales == [1024, 1024, 2048, 2048, 1024, 1024]  # grown after two steps, halved after the skipped one
    assert [each.unscaled for each in loop.told] == [bool(order)] * STEPS
    assert all(each.optimizer is loop.optimizer for each in loop.told)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_clipping_after_unscale_is_of_true_gradients(kind: str) -> None:
    loop = Loop(kind, "unscale clip")
    assert loop.clip_factors == [None] * STEPS
    np.testing.assert_allclose(loop.at_clip, loop.true, rtol=1e-5)
    assert all(each.unscaled for each in loop.told)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("order", ["clip", "clip unscale"])
def test_clipping_before_unscale_is_said_and_the_norms_are_true_all_the_same(kind: str, order: str) -> None:
    loop = Loop(kind, order)
    assert loop.clip_factors == loop.scales  # from the very first step on
    np.testing.assert_allclose(loop.at_clip, loop.true, rtol=1e-5)


def test_the_scale_that_was_told_does_not_change_with_the_scaler() -> None:
    model = make()
    optimizer, told, scaler = SGD(model.parameters(), lr=0.1), [], GradScaler("cpu", init_scale=8.0)
    tap = ScaleTap([optimizer], told.append)
    scaler.scale(loss_of(model, 0)).backward()
    factor = tap.factor(optimizer)
    scaler.step(optimizer)
    scaler.update(64.0)
    assert (float(factor), float(told[0].scale), scaler.get_scale()) == (8.0, 8.0, 64.0)
    tap.close()


def test_a_disabled_scaler_scales_nothing_and_tells_nothing() -> None:
    loop = Loop("plain SGD", "clip", GradScaler("cpu", enabled=False))
    assert loop.told == []
    assert loop.clip_factors == [None] * STEPS
    np.testing.assert_allclose(loop.at_clip, loop.true, rtol=1e-5)


def test_without_a_scaler_the_factor_is_none() -> None:
    model = make()
    optimizer, told = SGD(model.parameters(), lr=0.1), []
    tap = ScaleTap([optimizer], told.append)
    loss_of(model, 0).backward()
    assert tap.factor(optimizer) is None
    optimizer.step()
    assert tap.factor(optimizer) is None
    assert told == []
    assert tap.factor(SGD(model.parameters(), lr=0.1)) is None  # another one
    tap.close()


def test_an_optimizer_that_steps_by_itself_beside_one_with_a_scaler() -> None:
    one, two = make(), make()
    first, second = SGD(one.parameters(), lr=0.01), SGD(two.parameters(), lr=0.01)
    told, factors, scaler = [], [], GradScaler("cpu", init_scale=1024.0)
    tap = ScaleTap([first, second], told.append)
    hooks = OptimizerHooks(second, lambda: factors.append(tap.factor(second)), lambda: None)
    for step in range(2):
        first.zero_grad()
        second.zero_grad()
        scaler.scale(loss_of(one, step)).backward()
        loss_of(two, step).backward()
        assert float(tap.factor(first)) == 1024.0
        scaler.step(first)
        assert tap.factor(first) is None
        second.step()
        scaler.update()
        assert tap.factor(second) is None
    assert factors == [None, None]  # in the first step as well
    assert [each.optimizer for each in told] == [first, first]
    hooks.close()
    tap.close()


class Wrapper:
    """An optimizer in the manner of Accelerate's."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups

    def step(self) -> None:
        self.optimizer.step()


@pytest.mark.parametrize("called_with", ["wrapper", "inner"])
def test_a_wrapped_optimizer_by_either_name(called_with: str) -> None:
    model, told = make(), []
    inner = SGD(model.parameters(), lr=0.1)
    wrapper, scaler = Wrapper(inner), GradScaler("cpu", init_scale=16.0)
    tap = ScaleTap([wrapper], told.append)
    target = wrapper if called_with == "wrapper" else inner
    for step in (0, BAD):
        wrapper.optimizer.zero_grad()
        scaler.scale(loss_of(model, step)).backward()
        assert float(tap.factor(wrapper)) == 16.0
        scaler.unscale_(target)
        assert tap.factor(wrapper) is None
        scaler.step(target)
        scaler.update()
    assert [(each.unscaled, each.skipped) for each in told] == [(True, False), (True, True)]
    tap.close()


def test_a_step_that_raises_is_not_told_and_does_not_spoil_the_next() -> None:
    model, told = make(), []
    optimizer, scaler = SGD(model.parameters(), lr=0.1), GradScaler("cpu")
    tap = ScaleTap([optimizer], told.append)
    scaler.scale(torch.ones(()))
    with pytest.raises(AssertionError, match="No inf checks"):
        scaler.step(optimizer)  # there are no gradients
    assert told == []
    scaler = GradScaler("cpu")
    scaler.scale(loss_of(model, 0)).backward()
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.step(optimizer)
    assert [each.skipped for each in told] == [False]
    tap.close()


def test_several_taps_each_told_once_also_through_a_subclass() -> None:
    class Louder(GradScaler):
        def step(self, optimizer: Optimizer, *args: object, **kwargs: object) -> object:
            return super().step(optimizer, *args, **kwargs)

    model, first, second = make(), [], []
    optimizer, scaler = SGD(model.parameters(), lr=0.1), Louder("cpu")
    taps = [ScaleTap([optimizer], first.append), ScaleTap([optimizer], second.append)]
    scaler.scale(loss_of(model, 0)).backward()
    scaler.step(optimizer)
    assert (len(first), len(second)) == (1, 1)
    taps[0].close()
    scaler.update()
    scaler.scale(loss_of(model, 1)).backward()
    scaler.step(optimizer)
    assert (len(first), len(second)) == (1, 2)
    taps[1].close()


def test_the_result_and_the_parameters_are_bit_identical() -> None:
    results = []
    for watched in (False, True):
        model = make()
        optimizer, scaler = AdamW(model.parameters(), lr=0.1, fused=True), GradScaler("cpu", growth_interval=2)
        tap = ScaleTap([optimizer], lambda step: None) if watched else None
        for step in range(STEPS):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, step)).backward()
            scaler.step(optimizer)
            scaler.update()
        results.append([each.clone() for each in model.parameters()] + [torch.tensor(scaler.get_scale())])
        if tap is not None:
            tap.close()
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_methods_keep_name_signature_and_pickle_and_a_later_patch_stays() -> None:
    before = [
        (each.__name__, each.__qualname__, inspect.signature(each)) for each in (GradScaler.scale, GradScaler.step)
    ]
    own, optimizer = GradScaler.step, SGD(make().parameters(), lr=0.1)
    tap = ScaleTap([optimizer], lambda step: None)
    now = [(each.__name__, each.__qualname__, inspect.signature(each)) for each in (GradScaler.scale, GradScaler.step)]
    assert now == before
    assert GradScaler.step.__wrapped__ is own
    assert pickle.loads(pickle.dumps(GradScaler.step)) is GradScaler.step
    assert pickle.loads(pickle.dumps(GradScaler("cpu", init_scale=4.0))).get_scale() == 4.0
    ours = GradScaler.step

    def theirs(self: GradScaler, *args: object, **kwargs: object) -> object:
        return ours(self, *args, **kwargs)

    GradScaler.step = theirs
    tap.close()
    assert GradScaler.step is theirs
    GradScaler.step = own


def test_a_tap_that_is_garbage_is_gone() -> None:
    before = GradScaler.step
    optimizer = SGD(make().parameters(), lr=0.1)
    tap = ScaleTap([optimizer], lambda step: None)
    assert GradScaler.step is not before
    del tap, optimizer  # the optimizer's hook keeps the tap
    gc.collect()
    assert GradScaler.step is before
