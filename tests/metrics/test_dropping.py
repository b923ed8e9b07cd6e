"""Dropout in evaluation: it drops where two evaluations of the same input differ."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import auscult
from auscult.metrics.dropping import PASSES, Dropping


class Net(nn.Module):
    """A hidden layer with some dropout of its own."""

    def __init__(self, drop) -> None:
        super().__init__()
        self.inner, self.outer, self.drop = nn.Linear(6, 32), nn.Linear(32, 3), drop

    def forward(self, inputs: Tensor) -> Tensor:
        return self.outer(self.drop(self, self.inner(inputs)))


def attend(dropped: bool):
    """Attention of each row over itself in 4 positions, with dropout."""

    def call(net: Net, x: Tensor) -> Tensor:
        parts = x.unflatten(-1, (1, 4, 8))
        rate = 0.5 if dropped or net.training else 0.0
        return functional.scaled_dot_product_attention(parts, parts, parts, None, rate).flatten(1)

    return call


DROPS = {
    "always, by default": lambda net, x: functional.dropout(x, 0.5),
    "always, by name": lambda net, x: functional.dropout(input=x, p=0.5, training=True),
    "features": lambda net, x: functional.dropout1d(x[:, :, None], 0.5).squeeze(2),
    "alpha": lambda net, x: functional.alpha_dropout(x, 0.5, True),
    "attention": attend(True),
    "in training": lambda net, x: functional.dropout(x, 0.5, net.training),
    "at rate 0": lambda net, x: functional.dropout(x, 0.0),
    "alpha, by default": lambda net, x: functional.alpha_dropout(x, 0.5),
    "attention in training": attend(False),
    "none": lambda net, x: torch.relu(x),
}


@pytest.mark.parametrize("name", DROPS)
def test_it_counts_where_evaluations_are_random(name) -> None:
    torch.manual_seed(0)
    net, inputs = Net(DROPS[name]).eval(), torch.randn(5, 6)
    dropping = Dropping(net)
    with torch.no_grad():
        random = not torch.equal(net(inputs), net(inputs))
        torch.manual_seed(1)
        alone = net(inputs)
        torch.manual_seed(1)
        dropping.evaluation_began()
        heard = net(inputs)
    assert torch.equal(alone, heard)
    assert (dropping.told() == 1.0) == random
    assert dropping.told() is None
    with torch.no_grad():
        net(inputs)
    assert dropping.told() is None  # it was not told that an evaluation began
    assert not net._forward_hooks


def test_it_listens_a_few_times_only_and_ends_with_an_exception() -> None:
    net = Net(lambda net, x: functional.dropout(x))
    dropping = Dropping(net.eval())
    for number in range(PASSES + 2):
        dropping.evaluation_began()
        with torch.no_grad():
            net(torch.zeros(2, 6))
        assert dropping.told() == (1.0 if number < PASSES else None)
    broken = Dropping(net)
    broken.evaluation_began()
    with pytest.raises(RuntimeError):
        net(torch.zeros(2, 7))
    assert torch.overrides._get_current_function_mode_stack() == []
    broken.close()


@pytest.mark.parametrize("layer", [nn.MultiheadAttention(8, 2), nn.TransformerEncoderLayer(8, 2, 16)])
def test_what_evaluates_otherwise_beside_a_listener_is_left_alone(layer) -> None:
    dropping = Dropping(nn.Sequential(layer))
    dropping.evaluation_began()
    assert torch.overrides._get_current_function_mode_stack() == []
    assert dropping.told() is None


@pytest.mark.parametrize("always", [True, False])
def test_a_run_is_told_of_it(tmp_path, always) -> None:
    torch.manual_seed(0)
    net = Net(lambda net, x: functional.dropout(torch.relu(x), 0.5, always or net.training))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    inputs = torch.randn(256, 6)
    targets = inputs[:, :3].argmax(1)
    with auscult.watch(net, optimizer, tmp_path / "run", every=1) as monitor:
        for step in range(96):
            net.train()
            rows = torch.randint(0, 256, (32,))
            loss = functional.cross_entropy(net(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
            if step % 32 == 31:
                net.eval()
                with torch.no_grad():
                    monitor.log_evaluation("val", loss=functional.cross_entropy(net(inputs), targets))
    run = auscult.load(monitor.path)
    drops = run.series("evaluation_dropout")
    assert drops.steps.tolist() == [32, 64]
    assert drops.values.tolist() == [float(always)] * 2
    found = [each for each in auscult.diagnose(run) if each.code == "N001"]
    assert [(each.severity, each.step) for each in found] == ([("warning", 32)] if always else [])
