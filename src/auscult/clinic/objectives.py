"""Objectives: the losses of recipes as users write them, right and wrong, and the score of what was learnt."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from auscult.clinic.tables import Table, as_numbers

WORST = -99.0  # of a score, where R2 is lower or the outputs are not finite

Objective = Callable[[Tensor, Table], Tensor]


def label_smoothed(smoothing: float) -> Objective:
    """Cross-entropy of logits against smoothed labels."""
    return lambda output, batch: functional.cross_entropy(output, batch.targets, label_smoothing=smoothing)


def class_weighted(weights: Tensor) -> Objective:
    """Cross-entropy of logits with a weight per class."""
    return lambda output, batch: functional.cross_entropy(output, batch.targets, weight=weights)


def _cross_entropy(output: Tensor, batch: Table) -> Tensor:
    return functional.cross_entropy(output, batch.targets)


def _cross_entropy_sum(output: Tensor, batch: Table) -> Tensor:
    return functional.cross_entropy(output, batch.targets, reduction="sum")


def _cross_entropy_of_numbers(output: Tensor, batch: Table) -> Tensor:
    return functional.cross_entropy(output.squeeze(1), batch.targets.squeeze(1))


def _binary(output: Tensor, batch: Table) -> Tensor:
    return functional.binary_cross_entropy(output, as_numbers(batch, output.shape[1]))


def _binary_by_hand(output: Tensor, batch: Table) -> Tensor:
    share, wanted = output.clamp(1e-7, 1 - 1e-7), as_numbers(batch, output.shape[1])
    return -(wanted * share.log() + (1 - wanted) * (1 - share).log()).mean()


def _binary_logits(output: Tensor, batch: Table) -> Tensor:
    return functional.binary_cross_entropy_with_logits(output, as_numbers(batch, output.shape[1]))


def _squares(output: Tensor, batch: Table) -> Tensor:
    return functional.mse_loss(output, as_numbers(batch, output.shape[1]))


def _squares_sum(output: Tensor, batch: Table) -> Tensor:
    return functional.mse_loss(output, as_numbers(batch, output.shape[1]), reduction="sum")


def _absolute(output: Tensor, batch: Table) -> Tensor:
    return functional.l1_loss(output, as_numbers(batch, output.shape[1]))


def _log_clipped(output: Tensor, batch: Table) -> Tensor:
    chosen = output.gather(1, batch.targets[:, None])
    return -chosen.clamp(1e-7, 1.0).log().mean()


def _log_sum(output: Tensor, batch: Table) -> Tensor:
    return -(as_numbers(batch, output.shape[1]) * output.log()).sum()


OBJECTIVES: dict[str, Objective] = {
    "absolute": _absolute,
    "binary": _binary,
    "binary-by-hand": _binary_by_hand,
    "binary-logits": _binary_logits,
    "cross-entropy": _cross_entropy,
    "cross-entropy-of-numbers": _cross_entropy_of_numbers,
    "cross-entropy-sum": _cross_entropy_sum,
    "log-clipped": _log_clipped,
    "log-sum": _log_sum,
    "squares": _squares,
    "squares-sum": _squares_sum,
}
"""Name to loss, of the network's output and the batch's targets; by hand: clipped at 1e-7, or a bare sum of y log p."""


def usual_objective(table: Table, outputs: int) -> str:
    """The loss that fits the targets where a network gives logits."""
    if table.labels or (outputs == 1 and table.classes):
        return "binary-logits"
    return "cross-entropy" if table.classes else "squares"


def score_name(table: Table) -> str:
    """What `score` measures: `accuracy` or `r2`."""
    return "accuracy" if table.classes or table.labels else "r2"


@torch.no_grad()
def score(output: Tensor, table: Table, threshold: float) -> float:
    """Accuracy, of classes or of single labels, or R2 over all targets; -99 where that is lower or not a number.

    Args:
        output: `(N, K)`, what a network makes of the table's inputs.
        table: What it should have been.
        threshold: From which output on a yes-or-no label is a yes.
    """
    if table.classes or table.labels:
        if table.labels or output.shape[1] == 1:
            wanted = as_numbers(table, output.shape[1])
            return float(((output > threshold) == (wanted > 0.5)).float().mean())
        return float((output.argmax(1) == table.targets).float().mean())
    wanted = table.targets.double()
    unexplained = (output.double() - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum()
    found = 1.0 - float(unexplained)
    return max(found, WORST) if found == found else WORST
