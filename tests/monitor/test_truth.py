"""What is recorded against what the training loop itself sees, in float64."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import auscult


def norm(*tensors: torch.Tensor) -> float:
    return float(np.sqrt(sum(float((t.detach().double() ** 2).sum()) for t in tensors)))


def test_every_recorded_norm_is_the_norm_of_the_very_same_tensors(tmp_path, small, batches) -> None:
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in small.parameters() if p.ndim > 1]}, {"params": [small.scale], "lr": 0.1}], lr=0.02
    )
    monitor = auscult.watch(small, optimizer, tmp_path / "run", every=(1, 1))
    truth: dict[tuple[str, str, int], float] = {}
    owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for step, (inputs, targets) in enumerate(batches(20)):
        loss = functional.cross_entropy(small(inputs), targets)
        loss.backward()
        grads = {name: p.grad.clone() for name, p in small.named_parameters()}
        total = monitor.clip_grad_norm_(0.5)
        before = {name: p.detach().clone() for name, p in small.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
        monitor.log(loss=loss)
        for name, parameter in small.named_parameters():
            truth["grad_norm", name, step] = norm(grads[name])
            if id(parameter) in owned:
                truth["param_norm", name, step] = norm(parameter)
                truth["update_norm", name, step] = norm(parameter.detach().double() - before[name].double())
        truth["grad_norm", "", step] = norm(*grads.values())
        truth["grad_norm", "second", step] = norm(grads["second.weight"], grads["second.bias"])
        truth["clip_ratio", "", step] = float(total) / 0.5
        truth["clip_coefficient", "", step] = min(1.0, 0.5 / (float(total) + 1e-6))
        truth["loss", "", step] = float(loss.detach())
        truth["lr", "0", step], truth["lr", "1", step] = 0.02, 0.1
    monitor.close()
    run = auscult.load(tmp_path / "run")
    assert run.steps.tolist() == list(range(20)) and monitor.failures == []
    for (metric, path, step), value in truth.items():
        assert run.series(metric, path).at(step) == pytest.approx(value, rel=1e-6), (metric, path, step)
    clipped = run.series("grad_norm_clipped", "head.weight").values
    np.testing.assert_allclose(
        clipped, run.series("grad_norm", "head.weight").values * run.series("clip_coefficient").values, rtol=1e-12
    )
    ratio = run.series("update_norm", "first.weight").values / run.series("param_norm", "first.weight").values
    np.testing.assert_array_equal(run.series("update_ratio", "first.weight").values, ratio)


def test_tied_weights_and_bare_root_parameters_count_once(tmp_path, small, batches, step) -> None:
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    with auscult.watch(small, optimizer, tmp_path / "run") as monitor:
        for batch in batches(2):
            step(small, optimizer, batch)
    run = auscult.load(monitor.path)
    assert "scale" in run.paths("grad_norm") and "third.weight" not in run.paths("grad_norm")
    weight = next(each for each in run.parameters if each.path == "second.weight")
    assert weight.aliases == ("third.weight",)
    assert len(run.paths("grad_norm")) == len(list(small.parameters()))
    squares = [run.series("grad_norm", path).values ** 2 for path in run.paths("grad_norm")]
    np.testing.assert_allclose(run.series("grad_norm").values, np.sqrt(np.sum(squares, axis=0)), rtol=1e-12)


def test_unused_and_frozen_parameters_are_not_observed(tmp_path) -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused, self.frozen = nn.Linear(3, 1), nn.Linear(3, 1), nn.Linear(3, 3)
            self.frozen.requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(self.frozen(x))

    model = Partly()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, tmp_path / "run"):
        for _ in range(3):
            model(torch.randn(4, 3)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    run = auscult.load(tmp_path / "run")
    assert run.series("grad_norm", "used.weight").observed
    assert not run.series("grad_norm", "unused.weight").observed
    assert not run.series("grad_norm", "frozen.weight").observed
    assert run.series("grad_norm").at(2) == pytest.approx(
        np.hypot(run.series("grad_norm", "used.weight").at(2), run.series("grad_norm", "used.bias").at(2))
    )


def test_norms_of_huge_and_tiny_gradients_survive_the_store(tmp_path) -> None:
    parameter = nn.ParameterList([nn.Parameter(torch.zeros(1000)) for _ in range(4)])
    optimizer = torch.optim.SGD(parameter.parameters(), lr=0.0)
    scales = (1e-30, 1e30, 3e36, 1e-44)
    with auscult.watch(parameter, optimizer, tmp_path / "run"):
        for each, scale in zip(parameter, scales):
            each.grad = torch.full((1000,), scale)
        optimizer.step()
    run = auscult.load(tmp_path / "run")
    for number, scale in enumerate(scales[:3]):
        exact = float(np.float64(np.float32(scale)) * np.sqrt(1000))
        assert run.series("grad_norm", str(number)).at(0) == pytest.approx(exact, rel=1e-6)
    assert run.series("grad_norm", "3").at(0) > 0


def test_several_optimizers_make_one_step_together(tmp_path) -> None:
    torch.manual_seed(0)
    generator, critic = nn.Linear(4, 4), nn.Linear(4, 1)
    both = nn.ModuleDict({"generator": generator, "critic": critic})
    optimizers = {"g": torch.optim.SGD(generator.parameters(), 0.1), "c": torch.optim.SGD(critic.parameters(), 0.2)}
    with auscult.watch(both, optimizers, tmp_path / "run") as monitor:
        for _ in range(5):
            critic(generator(torch.randn(3, 4))).sum().backward()
            for optimizer in optimizers.values():
                optimizer.step()
                optimizer.zero_grad()
        assert monitor.step == 5
    run = auscult.load(tmp_path / "run")
    assert run.steps.tolist() == [0, 1, 2, 3, 4]
    assert set(run.paths("lr")) == {"g.0", "c.0"}
    assert len(run.series("update_norm", "generator.weight")) == len(run.series("update_norm", "critic.weight")) == 5


def test_step_time_throughput_and_memory(tmp_path, small, batches, step) -> None:
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    with auscult.watch(small, optimizer, tmp_path / "run", every=(1, 1)):
        for batch in batches(6):
            step(small, optimizer, batch)
    run = auscult.load(tmp_path / "run")
    step_time, throughput = run.series("step_time"), run.series("throughput")
    assert step_time.steps.tolist() == [1, 2, 3, 4, 5] and (step_time.values > 0).all()
    np.testing.assert_allclose(throughput.values * step_time.values, 12, rtol=1e-5)
    assert (run.series("memory").values > 1e6).all()
    assert (run.series("overhead_time").values[1:] < step_time.values).all()


def test_totals_while_optimizers_take_turns(tmp_path) -> None:
    torch.manual_seed(0)
    left, right = nn.Linear(4, 4), nn.Linear(4, 4)
    both = nn.ModuleDict({"left": left, "right": right})
    optimizers = {"left": torch.optim.SGD(left.parameters(), 0.1), "right": torch.optim.SGD(right.parameters(), 0.1)}
    exact = []
    with auscult.watch(both, optimizers, tmp_path / "run"):
        for turn in range(12):
            right(left(torch.randn(3, 4))).square().sum().backward()
            optimizers["left"].step()
            if turn % 3 == 0:
                optimizers["right"].step()
            exact.append(norm(*both.parameters()))
            both.zero_grad()
    run = auscult.load(tmp_path / "run")
    total = run.series("param_norm")
    np.testing.assert_allclose(total.values, np.array(exact)[: len(total)], rtol=1e-6)
    assert len(total) == len(run.steps) >= 11


def test_what_has_one_element_has_no_std_and_is_finite_all_the_same(tmp_path) -> None:
    model = nn.Sequential(nn.Linear(3, 1), nn.PReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, tmp_path / "run", every=(1, 1)) as monitor:
        for _ in range(3):
            model(torch.ones(1, 3)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    run = auscult.load(monitor.path)
    assert run.series("finite").values.tolist() == [1, 1, 1]
    for path in ("0.bias", "1.weight"):
        assert run.series("param_mean", path).observed and not run.series("param_std", path).observed
    assert run.series("activation_mean", "0").observed and not run.series("activation_std", "0").observed


def test_where_updates_point_and_what_decays(tmp_path, small, batches) -> None:
    """The cosines of the updates made, on sampled steps; weight decay only of the groups that have one."""
    wide, narrow = [[p for p in small.parameters() if (p.ndim > 1) is matrix] for matrix in (True, False)]
    optimizer = torch.optim.AdamW(
        [{"params": wide, "weight_decay": 2.0}, {"params": narrow, "weight_decay": 0.0}], lr=0.01
    )
    monitor = auscult.watch(small, optimizer, tmp_path / "run", every=(1, 4))
    truth: dict[tuple[str, str, int], float] = {}
    for step, (inputs, targets) in enumerate(batches(9)):
        functional.cross_entropy(small(inputs), targets).backward()
        grads = {name: p.grad.double().clone() for name, p in small.named_parameters()}
        monitor.clip_grad_norm_(0.1)
        before = {name: p.detach().double().clone() for name, p in small.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
        for name, parameter in small.named_parameters():
            update = parameter.detach().double() - before[name]
            for metric, other in (("descent_cosine", grads[name]), ("decay_cosine", parameter.detach().double())):
                truth[metric, name, step] = -float((update * other).sum()) / (norm(update) * norm(other))
        truth["weight_decay", "0", step] = 2.0
    monitor.log(weight_decay=3.0)
    monitor.close()
    run = auscult.load(tmp_path / "run")
    for (metric, path, step), value in truth.items():
        if metric == "weight_decay" or step % 4 == 0:
            assert run.series(metric, path).at(step) == pytest.approx(value, abs=2e-6), (metric, path, step)
    assert run.series("descent_cosine", "head.weight").steps.tolist() == [0, 4, 8]
    assert set(run.paths("weight_decay")) == {"0", ""} and run.series("weight_decay").at(8) == 3.0  # the user's own
    assert run.series("twin_fraction", "head.weight").at(0) == pytest.approx(1 / 5)
    assert "head.bias" not in run.paths("twin_fraction")
