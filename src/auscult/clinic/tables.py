"""Tables: the data that the clinic's small trainings learn from, shipped with scikit-learn or made by a formula."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from auscult.core.errors import MissingExtra, SetupError

HELD_OUT = 0.25  # of the rows
FEWEST_TO_SPLIT = 40  # below, what is learnt is what is evaluated


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of features and targets.

    Attributes:
        inputs: float32 `(N, F)`.
        targets: int64 `(N,)` for classes; float32 `(N, K)` for K numbers or K yes-or-no labels.
        classes: Number of classes; 0 where the targets are numbers or labels.
        labels: Whether the targets are K yes-or-no labels.
    """

    inputs: Tensor
    targets: Tensor
    classes: int = 0
    labels: bool = False

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, chosen: Tensor) -> "Table":
        """Some rows, by position or by mask."""
        return replace(self, inputs=self.inputs[chosen], targets=self.targets[chosen])


def load_table(name: str, seed: int) -> tuple[Table, Table]:
    """A table by name, as rows to learn from and rows held out.

    Args:
        name: A name of `TABLES`.
        seed: Seeds what is drawn, and the split.

    Raises:
        SetupError: if there is no such table.
        MissingExtra: if scikit-learn, which ships the data, is not installed.
    """
    if name not in TABLES:
        raise SetupError(f"Expected a table of the clinic ({', '.join(TABLES)}), but got {name!r}.")
    generator = Generator().manual_seed(seed)
    whole = TABLES[name](generator)
    if len(whole) < FEWEST_TO_SPLIT:
        return whole, whole
    order = torch.randperm(len(whole), generator=generator)
    held = round(len(whole) * HELD_OUT)
    return whole.rows(order[held:]), whole.rows(order[:held])


def scale_inputs(train: Table, held: Table, norm: str | float) -> tuple[Table, Table]:
    """Both parts with scaled features.

    Args:
        train: Rows to learn from, which alone say how to scale.
        held: Rows held out.
        norm: `std` for mean 0 and standard deviation 1 of each feature, `unit` for a largest magnitude of 1 over all,
            or a factor.
    """
    shift, scale = torch.zeros(1), torch.ones(1)
    if norm == "std":
        shift, scale = train.inputs.mean(0), train.inputs.std(0).clamp_min(1e-8)
    elif norm == "unit":
        scale = train.inputs.abs().max()
    else:
        scale = scale / float(norm)
    first, second = (replace(each, inputs=(each.inputs - shift) / scale) for each in (train, held))
    return first, second


def scale_targets(train: Table, held: Table) -> tuple[Table, Table]:
    """Both parts with targets of mean 0 and standard deviation 1 by the rows to learn from; classes as they are."""
    if train.classes or train.labels:
        return train, held
    mean, std = train.targets.mean(0), train.targets.std(0).clamp_min(1e-8)
    first, second = (replace(each, targets=(each.targets - mean) / std) for each in (train, held))
    return first, second


def _bundled() -> Any:
    try:
        from sklearn import datasets
    except ImportError:
        raise MissingExtra(
            "Expected scikit-learn to be installed, which brings the data, but it is not. "
            "Install it: pip install 'auscult[demo]'."
        ) from None
    return datasets


def _classes(pair: tuple[Any, Any]) -> Table:
    inputs, labels = (np.asarray(each) for each in pair)
    targets = torch.tensor(labels, dtype=torch.int64)
    return Table(torch.tensor(inputs, dtype=torch.float32), targets, int(targets.max()) + 1)


def _digits(_: Generator) -> Table:
    return _classes(_bundled().load_digits(return_X_y=True))


def _digit_halves(generator: Generator) -> Table:
    digits = _digits(generator)
    return replace(digits, targets=(digits.targets >= 5).long(), classes=2)


def _cancer(_: Generator) -> Table:
    return _classes(_bundled().load_breast_cancer(return_X_y=True))


def _cancer_three(generator: Generator) -> Table:
    cancer = _cancer(generator)
    return replace(cancer, inputs=cancer.inputs[:, [1, 3, 4]])  # of the order of 20, 600 and 0.1


def _wine(_: Generator) -> Table:
    return _classes(_bundled().load_wine(return_X_y=True))


def _iris(_: Generator) -> Table:
    return _classes(_bundled().load_iris(return_X_y=True))


def _diabetes(_: Generator) -> Table:
    inputs, targets = _bundled().load_diabetes(return_X_y=True, scaled=False)
    return Table(torch.tensor(inputs, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32)[:, None])


def _state(generator: Generator) -> int:
    return int(torch.randint(0, 2**31, (1,), generator=generator))


def _circles(generator: Generator) -> Table:
    return _classes(_bundled().make_circles(600, noise=0.05, factor=0.5, random_state=_state(generator)))


def _moons(generator: Generator) -> Table:
    return _classes(_bundled().make_moons(1000, noise=0.1, random_state=_state(generator)))


def _blobs(generator: Generator) -> Table:
    drawn = _bundled().make_blobs(1000, n_features=8, centers=4, cluster_std=4.0, random_state=_state(generator))
    return _classes(drawn[:2])


def _islands(generator: Generator) -> Table:
    drawn = _bundled().make_blobs(600, n_features=8, centers=4, cluster_std=1.0, random_state=_state(generator))
    return _classes(drawn[:2])


def _multilabel(generator: Generator) -> Table:
    inputs, targets = _bundled().make_multilabel_classification(
        1000, n_features=20, n_classes=3, random_state=_state(generator)
    )
    return Table(torch.tensor(inputs, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32), labels=True)


def _xor(_: Generator) -> Table:
    return Table(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1, 1, 0]), 2)


def _plane(generator: Generator) -> Table:
    inputs = torch.randn(300, 2, generator=generator)
    return Table(inputs, inputs @ torch.tensor([[1.0], [-2.0]]) + 0.1 * torch.randn(300, 1, generator=generator) - 1)


def _thousands(generator: Generator) -> Table:
    inputs = 10_000 * torch.rand(500, 3, generator=generator)
    return Table(inputs, inputs @ torch.tensor([[2.0], [1.0], [0.5]]) + 2.2)


def _parabola(generator: Generator) -> Table:
    inputs = 5 * torch.rand(50, 1, generator=generator)
    return Table(inputs, 5 * inputs.square() + 2 * torch.randn(50, 1, generator=generator))


def _powers(_: Generator) -> Table:
    line = torch.arange(4.0)[:, None]
    return Table(torch.cat([line.square(), line], 1), line.square())


def _sine(generator: Generator) -> Table:
    inputs = 2 * torch.rand(400, 1, generator=generator) - 1
    return Table(inputs, torch.sin(4 * inputs))


def _line(generator: Generator) -> Table:
    inputs = 16 * torch.rand(100, 1, generator=generator) - 8
    return Table(inputs, 2 * inputs + 1 + 0.5 * torch.randn(100, 1, generator=generator))


def _long_line(generator: Generator) -> Table:
    inputs = torch.arange(100.0)[:, None]
    return Table(inputs, 2 * inputs + 4 + 2 * torch.randn(100, 1, generator=generator))


def _signed(generator: Generator) -> Table:
    hidden = torch.randn(600, 3, generator=generator)
    inputs = torch.tanh(hidden @ torch.randn(3, 8, generator=generator) / 2)
    return Table(inputs, inputs)


def _images_themselves(generator: Generator) -> Table:
    inputs = _digits(generator).inputs / 16
    return Table(inputs, inputs)


TABLES: dict[str, Callable[[Generator], Table]] = {
    "blobs": _blobs,
    "cancer": _cancer,
    "cancer-three": _cancer_three,
    "circles": _circles,
    "diabetes": _diabetes,
    "digit-halves": _digit_halves,
    "digits": _digits,
    "images-themselves": _images_themselves,
    "iris": _iris,
    "islands": _islands,
    "line": _line,
    "long-line": _long_line,
    "moons": _moons,
    "multilabel": _multilabel,
    "parabola": _parabola,
    "plane": _plane,
    "powers": _powers,
    "signed": _signed,
    "sine": _sine,
    "thousands": _thousands,
    "wine": _wine,
    "xor": _xor,
}
"""Name to what makes the table, given a generator for what is drawn."""


def as_numbers(table: Table, outputs: int) -> Tensor:
    """Targets as float32 `(N, outputs)`: classes as 0 or 1 for one output, else as one-hot rows."""
    if not table.classes:
        return table.targets
    if outputs == 1:
        return table.targets[:, None].float()
    return functional.one_hot(table.targets, table.classes).float()
