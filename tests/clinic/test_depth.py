"""Depth: layers are numbered as the forward pass calls them, and a place is exact, next to it, or wrong."""

import pytest
import torch
from torch import Tensor, nn

import auscult
from auscult.clinic.depth import depths_of, near

DEPTHS = {"0": 0, "1": 0, "2": 1, "3": 1, "4": 2, "block.a": 3, "block.b": 4, "head": 5}


class Network(nn.Module):
    """Layers are defined in another order than they are called in; the model and a block hold bare parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 1)
        self.gain = nn.Parameter(torch.ones(3))
        self.body = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh())

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(self.gain * inputs))


def test_layers_are_numbered_in_the_order_of_the_forward_pass(tmp_path) -> None:
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, tmp_path / "run") as monitor:
        model(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
    assert depths_of(auscult.load(monitor.path)) == {
        "": 0, "body.0": 1, "body.1": 1, "body.2": 2, "body.3": 2, "head": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("place", "layers", "wanted"),
    [
        ("2.weight", ("2",), 1.0),
        ("3", ("2",), 1.0),  # the activation belongs to the layer before it
        ("4.bias", ("2",), 0.5),
        ("4.bias", ("0",), 0.0),
        ("2", ("0", "4"), 0.5),
        ("", ("2",), 0.0),
        ("elsewhere", ("2",), 0.0),
        ("block.b.weight", ("block",), 1.0),
        ("block", ("block.a", "block.b"), 1.0),
        ("block", ("block.a",), 0.5),  # says less than it should
        ("head", ("block",), 0.5),
        ("0", ("block",), 0.0),
        ("2", ("",), 0.0),
    ],
)
def test_places_are_exact_adjacent_or_wrong(place, layers, wanted) -> None:
    assert near(place, layers, DEPTHS) == wanted


def test_the_model_itself_is_its_own_parameters() -> None:
    depths = {"": 0, "body.0": 1, "head": 2}
    assert [near(place, ("",), depths) for place in ("gain", "body.0.weight", "head")] == [1.0, 0.5, 0.0]


def test_parameters_of_a_container_belong_to_it() -> None:
    depths = {"attention": 0, "attention.projection": 1, "norm": 2, "head": 3}
    assert near("attention.in_weight", ("attention",), depths) == 1.0
    assert near("attention.projection.bias", ("attention",), depths) == 1.0
    assert near("attention", ("attention.projection",), depths) == 0.5
    assert near("head", ("attention",), depths) == 0.0
