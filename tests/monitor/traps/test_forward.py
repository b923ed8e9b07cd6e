"""Traps in the forward pass: what is called how often, in which mode, and what a hook may do to it."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import SGD, AdamW
from torch.utils.checkpoint import checkpoint

import auscult


def std(tensor: torch.Tensor) -> float:
    return float(tensor.detach().double().std())


def mean(tensor: torch.Tensor) -> float:
    return float(tensor.detach().double().mean())


def train_steps(twin, model: nn.Module, optimizer, loss_of, count: int = 3) -> None:
    """The loop of every tutorial."""
    for _ in range(count):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        twin.gradients(model)
        twin.before(model)
        optimizer.step()
        twin.after(model)
        twin.keep(loss)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8))
        self.head = nn.Linear(8, 3)
        self.reentrant = reentrant

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.stem(inputs))
        return self.head(checkpoint(self.block, hidden, use_reentrant=self.reentrant))


def a_checkpointed_block(reentrant: bool):
    def script(twin) -> None:
        model = Checkpointed(reentrant)
        optimizer = SGD(model.parameters(), lr=0.1)

        def loss_of() -> torch.Tensor:
            inputs = torch.randn(7, 6)
            first = functional.linear(torch.tanh(model.stem.weight @ inputs.t() + model.stem.bias[:, None]).t(), *inner)
            if reentrant:  # the first pass does not train, and the second is a recomputation
                twin.unobserved("activation_std", "block.0")
            else:
                twin.expect("activation_std", "block.0", std(first), 1e-5)
                twin.expect("activation_mean", "block.0", mean(first), 1e-4)
            return model(inputs).square().mean()

        inner = (model.block[0].weight, model.block[0].bias)
        with twin.watch(model, optimizer):
            train_steps(twin, model, optimizer, loss_of)

    return script


def a_model_checkpointed_as_a_whole(reentrant: bool):
    def script(twin) -> None:
        model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Linear(8, 3))
        optimizer = SGD(model.parameters(), lr=0.1)
        with twin.watch(model, optimizer) as monitor:
            train_steps(
                twin,
                model,
                optimizer,
                lambda: (
                    checkpoint(model, torch.randn(7, 6, requires_grad=True), use_reentrant=reentrant).square().mean()
                ),
            )
            if monitor is not None:
                monitor.close()
                samples_per_step(monitor.path, 7)

    return script


def samples_per_step(path, expected: int) -> None:
    run = auscult.load(path)
    found = run.series("throughput").values * run.series("step_time").values
    assert found.tolist() == pytest.approx([expected] * len(found), rel=1e-5)
    assert len(found) > 0


def a_module_called_twice(twin) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(5, 5)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            one = self.cell(inputs)
            two = self.cell(torch.tanh(one))
            if self.training:
                both = torch.cat([one, two])
                twin.expect("activation_mean", "cell", mean(both), 1e-4)
                twin.expect("activation_std", "cell", std(both), 1e-6)
            return two

    model = Recurrent()
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        train_steps(twin, model, optimizer, lambda: model(torch.randn(6, 5)).square().mean())


def attention_and_transformer_layers(twin) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 2))
    optimizer = AdamW(model.parameters(), lr=0.01)
    with twin.watch(model, optimizer):
        train_steps(twin, model, optimizer, lambda: model(torch.randn(3, 5, 8)).square().mean())
        for step in range(3):  # attention uses its weights without calling the module that holds them
            twin.unobserved("activation_std", "0.layers.0.self_attn.out_proj", step)


def evaluation_of_a_transformer(twin) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 2))
    optimizer = SGD(model.parameters(), lr=0.01)
    calls = []
    fused = torch._transformer_encoder_layer_fwd
    torch._transformer_encoder_layer_fwd = lambda *args: (calls.append(1), fused(*args))[1]
    try:
        with twin.watch(model, optimizer):
            for _ in range(2):
                train_steps(twin, model, optimizer, lambda: model(torch.randn(3, 5, 8)).square().mean(), 1)
                model.eval()
                with torch.no_grad():
                    twin.keep(model(torch.randn(3, 5, 8)), torch.tensor(len(calls)))  # torch has a fast path for this
                model.train()
    finally:
        torch._transformer_encoder_layer_fwd = fused
    assert len(calls) == 4


def evaluation_between_steps(twin) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))
    optimizer = SGD(model.parameters(), lr=0.1)

    def loss_of() -> torch.Tensor:
        inputs = torch.randn(7, 6)
        out = functional.linear(inputs, model[0].weight, model[0].bias)
        twin.expect("activation_std", "0", std(out), 1e-6)
        return model(inputs).square().mean()

    with twin.watch(model, optimizer) as monitor:
        for _ in range(3):
            train_steps(twin, model, optimizer, loss_of, 2)
            model.eval()
            with torch.no_grad():
                twin.keep(model(torch.full((9, 6), 1e6)))
            twin.keep(model(torch.full((9, 6), 1e6)))  # with autograd on, and no update
            with torch.inference_mode():
                twin.keep(model(torch.full((9, 6), 1e6)).clone())
            model.train()
            with torch.no_grad():
                twin.keep(model(torch.randn(9, 6)))  # as for the statistics of BatchNorm
        if monitor is not None:
            monitor.close()
            samples_per_step(monitor.path, 7)


def modules_that_work_in_place(twin) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3), nn.Dropout(0.5, inplace=True))
    optimizer = SGD(model.parameters(), lr=0.1)

    def loss_of() -> torch.Tensor:
        inputs = torch.randn(7, 6)
        out = functional.linear(inputs, model[0].weight, model[0].bias)
        twin.expect("activation_std", "0", std(out), 1e-6)
        twin.expect("activation_std", "1", std(out.relu()), 1e-6)
        return model(inputs).square().mean()

    with twin.watch(model, optimizer):
        train_steps(twin, model, optimizer, loss_of)


def the_gradient_at_an_output_that_is_changed_in_place(twin) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True))
    optimizer = SGD(model.parameters(), lr=0.1)
    weights = torch.randn(7, 8)

    def loss_of() -> torch.Tensor:
        inputs = torch.randn(7, 6)
        out = functional.linear(inputs, model[0].weight, model[0].bias)
        twin.expect("activation_grad_std", "0", std(weights * (out > 0)), 1e-6)  # before the ReLU
        twin.expect("activation_grad_std", "1", std(weights), 1e-6)
        return (model(inputs) * weights).sum()

    with twin.watch(model, optimizer):
        train_steps(twin, model, optimizer, loss_of)


def hooks_of_the_users_own(twin) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = SGD(model.parameters(), lr=0.1)
    seen: list[torch.Tensor] = []
    model[1].register_forward_hook(lambda module, inputs, output: output * 1.5)
    model[2].register_full_backward_hook(lambda module, given, taken: seen.append(taken[0]))
    model[2].weight.register_hook(lambda grad: grad * 2)

    def triple(parameter: torch.Tensor) -> None:
        parameter.grad.mul_(3)

    model[2].bias.register_post_accumulate_grad_hook(triple)
    with twin.watch(model, optimizer):
        model[0].register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
        train_steps(twin, model, optimizer, lambda: model(torch.randn(7, 6)).square().mean())
    twin.keep(*seen)


def autocast(twin) -> None:
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = AdamW(model.parameters(), lr=0.01)

    def loss_of() -> torch.Tensor:
        inputs = torch.randn(32, 6)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = functional.linear(inputs, model[0].weight, model[0].bias)
            assert out.dtype == torch.bfloat16
            twin.expect("activation_std", "0", std(out), 1e-6)
            twin.expect("activation_mean", "0", mean(out), 1e-6)
            return model(inputs).float().square().mean()

    with twin.watch(model, optimizer):
        train_steps(twin, model, optimizer, loss_of)


def outputs_of_every_kind(twin) -> None:
    class Tuple(nn.Module):
        def forward(self, inputs: torch.Tensor):
            return {"hidden": inputs}, (None, [inputs * 2]), 3

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(6, 5, batch_first=True)
            self.odd = Tuple()
            self.none = nn.Identity()
            self.head = nn.Linear(5, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            hidden, _ = self.rnn(inputs)
            self.none(None)
            self.none(hidden[:0])
            self.none(torch.arange(3))
            found, _, _ = self.odd(hidden)
            return self.head(found["hidden"])

    model = Odd()
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        train_steps(twin, model, optimizer, lambda: model(torch.randn(3, 4, 6)).square().mean())
        twin.unobserved("activation_std", "none", 0)


def batch_norm_and_a_bias_before_it(twin) -> None:
    model = nn.Sequential(nn.Linear(6, 8).double(), nn.BatchNorm1d(8).double(), nn.ReLU(), nn.Linear(8, 1).double())
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(32, 6, dtype=torch.float64)).square().mean().backward()
            twin.gradients(model)
            assert twin.norm(model[0].bias.grad) < 1e-15  # by construction: what is left is rounding
            optimizer.step()
            twin.step += 1


def a_loss_that_is_logged_each_way(twin) -> None:
    model = nn.Linear(6, 2)
    optimizer = SGD(model.parameters(), lr=0.1)
    with twin.watch(model, optimizer) as monitor:
        for _ in range(3):
            optimizer.zero_grad()
            losses = model(torch.randn(4, 6)).square().mean(1)
            lengths, kinds = torch.tensor([1.0, 2.0, 3.0, 4.0]), ["a", "b", "a", "b"]
            loss = losses.mean()
            loss.backward()
            if monitor is not None:
                monitor.log_categories(losses, kinds, lengths)
                monitor.log({"value": loss, "bad": math.nan})
            exact = losses.detach().double()
            twin.expect("category_loss", "a", float((exact[0] / 1 + exact[2] / 3) / 2))
            twin.expect("category_loss_per_token", "a", float((exact[0] + exact[2]) / 4))
            twin.expect("value", "", float(loss.detach()))
            twin.expect("bad", "", math.nan)
            optimizer.step()
            twin.step += 1


TRAPS = [
    pytest.param(a_checkpointed_block(False), id="a checkpointed block"),
    pytest.param(a_checkpointed_block(True), id="a checkpointed block, reentrant"),
    pytest.param(a_model_checkpointed_as_a_whole(False), id="a model checkpointed as a whole"),
    pytest.param(a_model_checkpointed_as_a_whole(True), id="a model checkpointed as a whole, reentrant"),
    a_module_called_twice,
    attention_and_transformer_layers,
    evaluation_of_a_transformer,
    evaluation_between_steps,
    modules_that_work_in_place,
    the_gradient_at_an_output_that_is_changed_in_place,
    hooks_of_the_users_own,
    autocast,
    outputs_of_every_kind,
    batch_norm_and_a_bias_before_it,
    a_loss_that_is_logged_each_way,
]


@pytest.mark.parametrize("script", TRAPS, ids=lambda script: script.__name__)
def test_trap(script, train) -> None:
    train(script)
