"""Digits: the 1,797 real handwritten digits that scikit-learn ships, at the size of MNIST.

The pinned preprocessing of every image case: 8x8 pixels of 0 to 16 are scaled to [0, 1], enlarged to 28x28 bilinearly
(`align_corners=False`), and standardised by the mean and standard deviation of all pixels.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from auscult.core.errors import MissingExtra

SIDE = 28
CLASSES = 10


def load_digits() -> tuple[Tensor, Tensor]:
    """All digits: inputs float32 `(1797, 1, 28, 28)` of mean 0 and std 1, targets int64 `(1797,)`.

    Raises:
        MissingExtra: if scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise MissingExtra(
            "Expected scikit-learn to be installed, which brings the handwritten digits, but it is not. "
            "Install it: pip install 'auscult[demo]'."
        ) from None
    pixels, labels = datasets.load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    images = functional.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return (images - images.mean()) / images.std(), torch.tensor(labels, dtype=torch.int64)


def batches(inputs: Tensor, targets: Tensor, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches without end; every pass is a new permutation from `seed`, its last short batch left out."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(inputs), generator=generator)
        for start in range(0, len(order) - size + 1, size):
            some = order[start : start + size]
            yield inputs[some], targets[some]
