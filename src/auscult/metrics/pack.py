"""Pack: many small tensors side by side in one buffer, so that one call measures them all.

A model has a hundred biases for every large matrix; a call costs microseconds however small its tensor is.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auscult.metrics.norms import ROW, exact_norm, is_unsafe

LARGEST = 65_536
"""Elements from which on copying a tensor into the pack costs more than a call of its own."""


class Pack:
    """A float32 buffer on CPU with one place per tensor, each padded with zeros to whole rows of 512.

    Attributes:
        buffer: The elements, float32 1-D; zero where nothing was loaded.
        places: A view of each tensor's place, in the tensor's shape.
    """

    def __init__(self, shapes: Sequence[torch.Size]) -> None:
        rows = [-(-shape.numel() // ROW) for shape in shapes]
        self._starts = np.cumsum([0, *rows])[:-1]
        self._bounds = [row * ROW for row in (*self._starts.tolist(), sum(rows))]
        self.buffer = torch.zeros(sum(rows) * ROW)
        begins = (self._starts * ROW).tolist()
        self.places = [
            self.buffer[begin : begin + shape.numel()].view(shape) for begin, shape in zip(begins, shapes, strict=True)
        ]

    def load(self, places: Sequence[int], tensors: Sequence[Tensor]) -> None:
        """Copy tensors into their places."""
        targets = [self.places[place] for place in places]
        fused = getattr(torch, "_foreach_copy_", None)
        if fused is not None:
            fused(targets, list(tensors))
            return
        for target, tensor in zip(targets, tensors, strict=True):
            target.copy_(tensor)

    def norms(self, places: Sequence[int]) -> NDArray[np.float64]:
        """L2 norm of the tensors in some places, float64 `(len(places),)`; see `auscult.metrics.norms.norms`."""
        first, stop = min(places), max(places) + 1
        starts = self._starts[first:stop]
        rows = torch.linalg.vector_norm(self._between(first, stop).view(-1, ROW), dim=1).numpy().astype(np.float64)
        with np.errstate(invalid="ignore"):
            found = np.sqrt(np.add.reduceat(rows * rows, starts - starts[0]))[[place - first for place in places]]
        for number in np.flatnonzero(is_unsafe(found)).tolist():
            found[number] = float(exact_norm(self.places[places[number]]))
        return found

    def dots(self, other: "Pack", places: Sequence[int]) -> NDArray[np.float64]:
        """Inner products with the tensors of another pack of the same shapes, float64 `(len(places),)`.

        Rows of 512 elements are summed in float32, so norms must be safe; see `auscult.metrics.norms.is_unsafe`.
        """
        first, stop = min(places), max(places) + 1
        starts = self._starts[first:stop]
        left, right = (each._between(first, stop).view(-1, ROW) for each in (self, other))
        rows = torch.linalg.vecdot(left, right).numpy().astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.add.reduceat(rows, starts - starts[0])[[place - first for place in places]]

    def subtract(self, other: "Pack", places: Sequence[int]) -> None:
        """Subtract what another pack of the same tensors holds in some places, and in those between them."""
        first, stop = min(places), max(places) + 1
        self._between(first, stop).sub_(other._between(first, stop))

    def _between(self, first: int, stop: int) -> Tensor:
        """The elements of the places from `first` to before `stop`."""
        return self.buffer[self._bounds[first] : self._bounds[stop]]


def fits(tensor: Tensor) -> bool:
    """Whether a tensor may have a place in a pack."""
    return (
        tensor.is_cpu
        and tensor.dtype == torch.float32
        and tensor.layout == torch.strided
        and 0 < tensor.numel() <= LARGEST
    )
