"""Images: real handwritten digits at the size of MNIST, from scikit-learn or from MNIST's own files.

The pinned preprocessing and sampler of every image case. scikit-learn's 8x8 pixels of 0 to 16 are scaled to [0, 1] and
enlarged to 28x28 bilinearly (`align_corners=False`); MNIST's pixels of 0 to 255 are scaled to [0, 1]. Both are then
standardised by the mean and standard deviation of all their pixels, which for MNIST's 60,000 training images are the
usual 0.1307 and 0.3081. Batches are drawn without replacement, every pass in a new order, short batches left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from auscult.clinic.idx import read_idx
from auscult.core.errors import MissingExtra, SetupError

SIDE = 28
CLASSES = 10


@dataclass(frozen=True, slots=True)
class Images:
    """Labelled images.

    Attributes:
        name: `digits` or `mnist`.
        inputs: float32 `(N, 1, 28, 28)` of mean 0 and standard deviation 1.
        targets: int64 `(N,)`, from 0 to 9.
    """

    name: str
    inputs: Tensor
    targets: Tensor


def load_digits() -> Images:
    """The 1,797 digits that scikit-learn ships.

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
    return Images("digits", _standardise(images), torch.tensor(labels, dtype=torch.int64))


def load_mnist(directory: str | PathLike[str]) -> Images:
    """MNIST's training images, from `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, plain or `.gz`.

    Raises:
        SetupError: if a file is missing, damaged or of another shape, or the two do not belong together.
    """
    folder = Path(directory)
    pixels = read_idx(folder, "train-images-idx3-ubyte", axes=3)
    labels = read_idx(folder, "train-labels-idx1-ubyte", axes=1)
    count, height, width = pixels.shape
    if (height, width) != (SIDE, SIDE):
        raise SetupError(
            f"Expected images of {SIDE} x {SIDE} pixels in {str(folder)!r}, but got {height} x {width}. "
            "The clinic's networks are made for MNIST's size."
        )
    if count != len(labels):
        raise SetupError(
            f"Expected as many labels as images in {str(folder)!r}, but got {len(labels)} labels for {count} images. "
            "Are they files of two data sets, or of training and test?"
        )
    if count == 0 or labels.max() >= CLASSES or pixels.min() == pixels.max():
        highest = labels.max() if count else "none"
        raise SetupError(
            f"Expected images of digits in {str(folder)!r}, with labels from 0 to {CLASSES - 1}, but got {count} "
            f"images, the highest label {highest}. Point --data at MNIST's own files."
        )
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, SIDE, SIDE).div_(255)
    return Images("mnist", _standardise(images), torch.tensor(labels, dtype=torch.int64))


def batches(images: Images, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end, every pass over the data a new permutation from `seed`, its last short batch left out.

    Raises:
        SetupError: if there are fewer images than one batch takes.
    """
    count = len(images.inputs)
    if count < size:
        raise SetupError(f"Expected at least {size} images, one batch, but got {count}. Use more images.")
    generator = torch.Generator().manual_seed(seed)
    return _endless(images, size, generator)


def _endless(images: Images, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        order = torch.randperm(len(images.inputs), generator=generator)
        for start in range(0, len(order) - size + 1, size):
            some = order[start : start + size]
            yield images.inputs[some], images.targets[some]


def _standardise(images: Tensor) -> Tensor:
    mean, std = images.mean(), images.std()
    return images.sub_(mean).div_(std)
