"""The parameter table: every tensor once, wrappers' prefixes gone, ownership told."""

import pytest
import torch
from torch import nn

from auscult.core.errors import SetupError
from auscult.core.run import Segment
from auscult.metrics.parameters import module_table, parameter_table


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(x) * self.scale)


def test_tied_and_bare_parameters_are_listed_once() -> None:
    model = Tied()
    tensors, table = parameter_table(model, {"": torch.optim.SGD([model.scale], lr=0.1)})
    assert [(each.path, each.aliases, each.group) for each in table] == [
        ("scale", (), "0"),
        ("embedding.weight", ("head.weight",), None),
    ]
    assert tensors[1] is model.head.weight


def test_names_of_a_compiled_model_are_the_users_own() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    names = [name for name, _ in model.named_parameters()]
    compiled = torch.compile(model, backend="eager")
    _, table = parameter_table(compiled, {"": torch.optim.SGD(model.parameters(), lr=0.1)})
    assert [each.path for each in table] == names
    assert [each.path for each in module_table(compiled)][-1] == "1.0"


def test_include_and_exclude() -> None:
    model = Tied()
    optimizers = {"": torch.optim.SGD(model.parameters(), lr=0.1)}
    assert [p.path for p in parameter_table(model, optimizers, include=["head.*"])[1]] == ["embedding.weight"]
    assert [p.path for p in parameter_table(model, optimizers, exclude=["scale"])[1]] == ["embedding.weight"]


def test_nothing_to_train() -> None:
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(SetupError, match=r"at least one parameter that requires grad, but got 0 of 2.*unfreezing"):
        parameter_table(model, {})


def test_forward_order() -> None:
    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 1)
            self.body = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
            self.scale = nn.Parameter(torch.ones(3))

    model = Reversed()
    _, table = parameter_table(model, {"": torch.optim.SGD(model.parameters(), lr=0.1)})
    ordered = Segment(0, 0.0, table, module_table(model)).in_forward_order(["body.0", "body.1", "body.2", "head"])
    paths = [each.path for each in ordered.parameters]
    assert paths == [
        "scale",
        "body.0.weight",
        "body.0.bias",
        "body.2.weight",
        "body.2.bias",
        "head.weight",
        "head.bias",
    ]
    assert [each.path for each in ordered.modules] == ["", "body", "body.0", "body.1", "body.2", "head"]
