"""Networks: the plain networks of recipes, built the way a PyTorch user writes them."""

from collections.abc import Mapping, Sequence
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional


class RowSoftmax(nn.Module):
    """Softmax over the classes of each sample."""

    def forward(self, inputs: Tensor) -> Tensor:
        """`(N, C)` of the same."""
        return torch.softmax(inputs, dim=1)


class ColumnSoftmax(nn.Module):
    """Softmax over the samples of the batch, the wrong axis."""

    def forward(self, inputs: Tensor) -> Tensor:
        """`(N, C)` of the same."""
        return torch.softmax(inputs, dim=0)


class EndlessDropout(nn.Module):
    """Dropout that knows no evaluation mode, as `functional.dropout` is by default.

    Args:
        rate: Share of elements set to zero.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, inputs: Tensor) -> Tensor:
        """Elements of `inputs`, some zeroed and the others enlarged."""
        return functional.dropout(inputs, self.rate)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "softmax": RowSoftmax,
    "softmax-over-batch": ColumnSoftmax,
    "tanh": nn.Tanh,
}


def build_network(
    features: int,
    outputs: int,
    hidden: Sequence[int],
    *,
    channels: Sequence[int] = (),
    activation: str | None = "relu",
    activations: Mapping[int, str | None] | None = None,
    head: str | None = None,
    batch_norm: bool = False,
    dropout: float = 0.0,
    dropout_always: bool = False,
) -> nn.Sequential:
    """A chain of convolutions on square images, hidden layers and an output layer.

    Args:
        features: Numbers per sample; with `channels`, the pixels of a square image.
        outputs: Numbers per sample that come out.
        hidden: Width of each hidden layer.
        channels: Channels of each convolution, each followed by pooling by 2.
        activation: Name of the hidden layers' activation; None for none.
        activations: Those of single hidden layers, by position.
        head: Activation of the output layer; None leaves logits.
        batch_norm: Whether BatchNorm stands before each hidden layer's activation.
        dropout: Rate of dropout behind each hidden layer's activation; 0 for none.
        dropout_always: Whether that dropout ignores evaluation mode.
    """
    layers: list[nn.Module] = []
    width = features
    if channels:
        side, depth = isqrt(features), 1
        layers.append(nn.Unflatten(1, (1, side, side)))
        for each in channels:
            layers += [nn.Conv2d(depth, each, 3, padding=1), *_activation(activation), nn.MaxPool2d(2)]
            side, depth = side // 2, each
        layers.append(nn.Flatten())
        width = depth * side * side
    for position, units in enumerate(hidden):
        name = activations[position] if activations and position in activations else activation
        layers.append(nn.Linear(width, units))
        layers += [nn.BatchNorm1d(units)] if batch_norm else []
        layers += _activation(name)
        if dropout:
            layers.append(EndlessDropout(dropout) if dropout_always else nn.Dropout(dropout))
        width = units
    layers += [nn.Linear(width, outputs), *_activation(head)]
    return nn.Sequential(*layers)


def _activation(name: str | None) -> list[nn.Module]:
    return [] if name is None else [ACTIVATIONS[name]()]


@torch.no_grad()
def initialise(network: nn.Module, how: str, scale: float, bias_scale: float = 0.0) -> None:
    """Draw the weights of all linear layers and convolutions anew.

    Args:
        network: Changed in place.
        how: `normal` for N(0, scale²), `uniform` for U(-scale, scale), `constant`, or `fan` for N(0, scale² / fan_in).
        scale: As `how` says.
        bias_scale: Standard deviation of the biases; 0 sets them to 0.
    """
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            weight = module.weight
            if how == "normal":
                nn.init.normal_(weight, 0.0, scale)
            elif how == "uniform":
                nn.init.uniform_(weight, -scale, scale)
            elif how == "constant":
                nn.init.constant_(weight, scale)
            else:
                nn.init.normal_(weight, 0.0, scale / weight[0].numel() ** 0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0.0, bias_scale)
