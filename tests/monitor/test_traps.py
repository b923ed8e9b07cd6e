"""Habits of training loops that have fooled monitors: the run stays as it is, the numbers stay true."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import auscult


def norm(*tensors: torch.Tensor) -> float:
    return float(np.sqrt(sum(float((t.detach().double() ** 2).sum()) for t in tensors)))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4), nn.Tanh())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("order", ["watch the compiled model", "compile the watched model"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_stays_one_graph_and_its_numbers_are_true(order, backend, tmp_path) -> None:
    def train(path) -> tuple[list[torch.Tensor], list[float], int]:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        called = torch.compile(model, backend=backend, fullgraph=True) if "watch" in order else model
        monitor = auscult.watch(called, optimizer, path, every=(1, 1)) if path else None
        if "watch" not in order:
            called = torch.compile(model, backend=backend, fullgraph=True)
        norms = []
        for number in range(12):
            loss = called(torch.randn(8, 6)).square().mean()
            loss.backward()
            norms.append(norm(*(p.grad for p in model.parameters())))
            if monitor is not None:
                monitor.log(before=number)
            optimizer.step()
            optimizer.zero_grad()
            if monitor is not None:
                monitor.log(loss=loss)
        if monitor is not None:
            monitor.close()
            assert monitor.failures == []
        return (
            [p.detach().clone() for p in model.parameters()],
            norms,
            torch._dynamo.utils.counters["stats"]["unique_graphs"],
        )

    bare, _, graphs = train(None)
    watched, norms, watched_graphs = train(tmp_path / "run")
    assert all(torch.equal(a, b) for a, b in zip(bare, watched)) and graphs == watched_graphs == 1
    run = auscult.load(tmp_path / "run")
    np.testing.assert_allclose(run.series("grad_norm").values, norms, rtol=1e-6)
    assert run.series("before").values.tolist() == list(range(12)) and len(run.series("loss")) == 12
    assert not run.series("activation_std", "0").observed


def test_hooks_do_not_pile_up_on_a_module_that_returns_its_parameter(tmp_path) -> None:
    class Bias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.randn(6))

        def forward(self) -> torch.Tensor:
            return self.value

    model = nn.ModuleDict({"linear": nn.Linear(6, 6), "bias": Bias()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, tmp_path / "run", every=(1, 1)):
        for _ in range(20):
            (model["linear"](torch.randn(3, 6)) + model["bias"]()).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert not model["bias"].value._backward_hooks


def test_per_sample_gradients_with_vmap_before_the_first_step(tmp_path) -> None:
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parameters = dict(model.named_parameters())

    def loss(p: dict, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(torch.func.functional_call(model, p, (x[None],)), t[None])

    with auscult.watch(model, optimizer, tmp_path / "run", every=(1, 1)) as monitor:
        for _ in range(3):
            inputs, targets = torch.randn(4, 6), torch.randint(3, (4,))
            torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, inputs, targets)
            functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert len(auscult.load(monitor.path).series("grad_norm")) == 3


def test_a_skipped_update_does_not_leave_its_gradient_behind(tmp_path) -> None:
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    true = []
    with auscult.watch(model, optimizer, tmp_path / "run", every=(1, 1)) as monitor:
        for batch in range(6):
            (model(torch.randn(5, 4) * (1e4 if batch == 2 else 1.0)).square().mean()).backward()
            exact = norm(*(p.grad for p in model.parameters()))
            if float(monitor.clip_grad_norm_(1.0)) > 1e3:
                optimizer.zero_grad()
                continue
            true.append(exact)
            optimizer.step()
            optimizer.zero_grad()
    assert len(true) == 5
    np.testing.assert_allclose(auscult.load(monitor.path).series("grad_norm").values, true, rtol=1e-6)


def test_clipping_with_two_optimizers_takes_each_gradient_at_its_own_step(tmp_path) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"d": nn.Linear(4, 1), "g": nn.Linear(4, 4)})
    optimizers = {name: torch.optim.SGD(model[name].parameters(), lr=0.01) for name in ("d", "g")}
    true: dict[str, list[float]] = {"d": [], "g": []}
    with auscult.watch(model, optimizers, tmp_path / "run", every=(1, 1)) as monitor:
        for _ in range(5):
            for name in ("d", "g"):
                inputs = torch.randn(3, 4)
                hidden = model["g"](inputs).detach() if name == "d" else model["g"](inputs)
                optimizers[name].zero_grad()
                model["d"](hidden).square().mean().backward()
                true[name].append(norm(model[name].weight.grad))
                monitor.clip_grad_norm_(0.1)
                optimizers[name].step()
    run = auscult.load(monitor.path)
    for name in ("d", "g"):
        np.testing.assert_allclose(run.series("grad_norm", f"{name}.weight").values, true[name], rtol=1e-6)


def test_logging_between_backward_and_step_while_fine_tuning_in_eval_mode(tmp_path) -> None:
    model = network().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, tmp_path / "run", activations=False):
        pass
    with auscult.watch(model, optimizer, tmp_path / "run", activations=False) as monitor:
        for number in range(5):
            model(torch.randn(3, 6)).sum().backward()
            monitor.log(i=number)
            optimizer.step()
            optimizer.zero_grad()
    assert auscult.load(monitor.path).series("i").values.tolist() == [0, 1, 2, 3, 4]


def test_an_optimizer_without_a_learning_rate(tmp_path) -> None:
    class Plain(torch.optim.Optimizer):
        def __init__(self, parameters) -> None:
            super().__init__(parameters, {})

        @torch.no_grad()
        def step(self, closure=None) -> None:
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter -= 0.01 * parameter.grad

    model = nn.Linear(3, 1)
    optimizer = Plain(model.parameters())
    with auscult.watch(model, optimizer, tmp_path / "run") as monitor:
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(2, 3)).sum().backward()
            optimizer.step()
    run = auscult.load(monitor.path)
    assert len(run.series("update_norm")) == 3 and run.paths("lr") == ()


def test_logging_from_other_threads(tmp_path) -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    stop = threading.Event()
    with auscult.watch(model, optimizer, tmp_path / "run") as monitor:

        def chatter() -> None:
            while not stop.is_set():
                monitor.log(noise=1.0)

        threads = [threading.Thread(target=chatter) for _ in range(3)]
        [each.start() for each in threads]
        for _ in range(150):
            model(torch.randn(2, 3)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        stop.set()
        [each.join() for each in threads]
    assert monitor.failures == [] and len(auscult.load(monitor.path).steps) == 150


def test_a_resume_without_an_update_hides_nothing(tmp_path) -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train(steps: int, **options) -> None:
        with auscult.watch(model, optimizer, tmp_path / "run", **options) as monitor:
            if "load" in options:
                monitor.load_state_dict({"step": 8})
            for _ in range(steps):
                model(torch.randn(2, 3)).sum().backward()
                optimizer.step()
                optimizer.zero_grad()

    train(10)
    train(0, if_exists="resume", step=4)
    assert auscult.load(tmp_path / "run").steps.tolist() == list(range(10))
    with auscult.watch(model, optimizer, tmp_path / "run", if_exists="resume", step=4) as monitor:
        monitor.load_state_dict({"step": 8})
        model(torch.randn(2, 3)).sum().backward()
        optimizer.step()
    assert auscult.load(tmp_path / "run").steps.tolist() == list(range(9))


def test_the_loss_audit_leaves_the_mode_stack_in_the_end(tmp_path) -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, tmp_path / "run"):
        for number in range(3):
            loss = functional.cross_entropy(model(torch.randn(4, 3)), torch.randint(2, (4,)))
            if number == 0:
                with torch.device("cpu"):
                    loss.backward()
                    optimizer.step()
            else:
                loss.backward()
                optimizer.step()
            optimizer.zero_grad()
        assert torch.overrides._get_current_function_mode_stack() == []
    assert auscult.load(tmp_path / "run").audit.classes == 2


def test_sparse_gradients_count_every_element(tmp_path) -> None:
    embedding = nn.Embedding(50, 4, sparse=True)
    optimizer = torch.optim.SGD(embedding.parameters(), lr=0.1)
    with auscult.watch(embedding, optimizer, tmp_path / "run", every=(1, 1)):
        (embedding(torch.tensor([1, 1, 7])) ** 2).sum().backward()
        dense = embedding.weight.grad.to_dense().double().numpy()
        optimizer.step()
    run = auscult.load(tmp_path / "run")
    assert run.series("grad_norm", "weight").at(0) == pytest.approx(np.linalg.norm(dense), rel=1e-6)
    assert run.series("grad_mean", "weight").at(0) == pytest.approx(dense.mean(), rel=1e-6)
    assert run.series("grad_std", "weight").at(0) == pytest.approx(dense.std(ddof=1), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_activation_gradients_far_from_one(scale, tmp_path) -> None:
    model = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    holder = nn.Sequential(model)
    weights = torch.randn(5, 3)
    with auscult.watch(holder, optimizer, tmp_path / "run", every=(1, 1)):
        (holder(torch.randn(5, 3)) * weights * scale).sum().backward()
        optimizer.step()
    run = auscult.load(tmp_path / "run")
    exact = float((weights * scale).double().std())
    assert run.series("activation_grad_std", "0").at(0) == pytest.approx(exact, rel=1e-5)
    assert run.series("finite").at(0) == 1.0


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Conv1d(3, 4, 1), (6, 3, 5)), (nn.Linear(3, 4), (6, 2, 5, 3)), (nn.Conv2d(3, 4, 1), (6, 3, 5, 5))],
)
def test_units_are_channels_or_features_as_the_layer_has_it(layer, shape, tmp_path) -> None:
    with torch.no_grad():
        layer.weight.mul_(0.01)
        layer.bias[:] = torch.tensor([-10.0, 10.0, -10.0, 10.0])
    model = nn.Sequential(layer, nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with auscult.watch(model, optimizer, tmp_path / "run", every=(1, 1)):
        model(torch.randn(shape)).sum().backward()
        optimizer.step()
    assert auscult.load(tmp_path / "run").series("dead_fraction", "1").at(0) == 0.5


def test_several_plain_calls_all_close_at_exit(tmp_path) -> None:
    code = f"""
import torch, auscult
from torch import nn
kept = []
for name in ("a", "b"):
    model = nn.Linear(2, 1); optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kept.append((model, auscult.watch(model, optimizer, {str(tmp_path)!r} + "/" + name)))
    for _ in range(3):
        model(torch.ones(1, 2)).sum().backward(); optimizer.step(); optimizer.zero_grad()
kept[0][1].close()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in ("a", "b"):
        run = auscult.load(tmp_path / name)
        assert run.finished and run.steps.tolist() == [0, 1, 2]


@pytest.mark.provokes_failure
@pytest.mark.filterwarnings("ignore:auscult could not go on")
def test_one_bad_value_does_not_take_the_others_with_it(tmp_path) -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, tmp_path / "run") as monitor:
        for _ in range(3):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=1.0, accuracy=None, late=2.0)
    run = auscult.load(tmp_path / "run")
    assert len(run.series("loss")) == len(run.series("late")) == 3 and "accuracy" not in run.metrics


def test_a_closure_that_is_called_many_times_is_one_step_with_its_first_gradient(tmp_path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=5)
    inputs, first, calls = torch.randn(20, 4), [], []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(inputs)[:, 0] - inputs.sum(1)).square().mean()
        loss.backward()
        calls.append(norm(*(p.grad for p in model.parameters())))
        return loss

    with auscult.watch(model, optimizer, tmp_path / "run", every=(1, 1)) as monitor:
        for _ in range(4):
            begun = len(calls)
            optimizer.step(closure)
            first.append(calls[begun])
    assert len(calls) > 8
    run = auscult.load(monitor.path)
    np.testing.assert_allclose(run.series("grad_norm").values, first, rtol=1e-6)
