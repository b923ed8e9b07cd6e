"""Units: which units of a module's output are saturated or exactly zero, sample by sample."""

from typing import NamedTuple

import torch
from torch import Tensor

from auscult.core.detail import UnitKind, UnitMap

SATURATED = 0.97
"""|output| above which a bounded activation passes hardly any gradient: that of tanh is 0.06 there."""
SHOWN_UNITS = 256
SHOWN_SAMPLES = 64


class Units(NamedTuple):
    """The units of one output, still on its device.

    Attributes:
        bounds: `(2,)`: smallest and largest element.
        saturated: `(U,)` and `(V, S)`: shares over the batch, and over the positions of some samples.
        zero: Likewise.
        shown: `(V,)`, the units of the second of each pair.
    """

    bounds: Tensor
    saturated: tuple[Tensor, Tensor]
    zero: tuple[Tensor, Tensor]
    shown: Tensor

    def describe(self, path: str) -> UnitMap | None:
        """Bring it to the host; None where an output could be neither saturated nor dead."""
        low, high = self.bounds.tolist()
        kind: UnitKind
        if low >= 0 and high > 1:
            kind, (fractions, grid) = "zero", self.zero
        elif -1 <= low < 0 <= high <= 1:
            kind, (fractions, grid) = "saturated", self.saturated
        elif low >= 0:  # a sigmoid is never exactly 0, a quiet ReLU often is
            kind = "zero" if bool((self.zero[0] > 0).any()) else "saturated"
            fractions, grid = self.zero if kind == "zero" else self.saturated
        else:
            return None
        arrays = (each.cpu().numpy() for each in (fractions.float(), self.shown.int(), grid.float()))
        return UnitMap(kind, path, *arrays)


def map_units(output: Tensor, axis: int) -> Units | None:
    """Find saturated and zero units.

    Args:
        output: `(N, ...)` floating-point, N samples.
        axis: The dimension that counts units; all others but the first are positions, or, where it is the first,
            there are none.

    Returns:
        The units; None for an output without units or samples.
    """
    axis %= max(output.ndim, 1)
    if output.ndim < 2 or axis == 0:
        return None
    units = output.detach().movedim(axis, -1).flatten(1, -2) if output.ndim > 2 else output.detach().unsqueeze(1)
    shown = _spread(units.shape[-1], SHOWN_UNITS, units.device)
    samples = _spread(units.shape[0], SHOWN_SAMPLES, units.device)
    some = units[samples][:, :, shown]

    def shares(test: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
        return test.float().mean((0, 1)), part.float().mean(1).T

    saturated = shares(units.abs() > SATURATED, some.abs() > SATURATED)
    return Units(torch.stack(output.detach().aminmax()), saturated, shares(units == 0, some == 0), shown)


def _spread(count: int, most: int, device: torch.device) -> Tensor:
    """At most so many indices, evenly over all of them."""
    if count <= most:
        return torch.arange(count, device=device)
    return (torch.arange(most, device=device) * count) // most
