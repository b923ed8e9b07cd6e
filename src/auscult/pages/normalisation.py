"""Normalisation: what each BatchNorm will use in evaluation against what it used in training, as HTML."""

from collections.abc import Sequence
from html import escape

import numpy as np

from auscult.core.detail import BatchStatistics
from auscult.pages.curve import evenly
from auscult.pages.tables import table
from auscult.pages.wording import counted, figure, shown

MAX_ROWS = 200
NOTE = (
    "How far the running statistics are from those of this batch. Healthy: once they have caught up, the shift is well "
    "below 1 and the ratio near 1; in the first steps they still hold their initial 0 and 1 (Ioffe and Szegedy, 2015)."
)


def normalisation_table(statistics: Sequence[BatchStatistics]) -> str:
    """The shift of the mean and the ratio of the variances, per BatchNorm.

    Args:
        statistics: At least one, in forward order. Channels whose batch has no variance, or is not finite, are left
            out and counted.
    """
    rows: list[tuple[str, ...]] = []
    for each in (statistics[index] for index in evenly(len(statistics), MAX_ROWS)):
        shift, ratio, left_out = disagreement(each)
        rows.append((shown(each.path), f"{len(each.batch_mean):,}", figure(shift), figure(ratio), f"{left_out:,}"))
    note = NOTE
    if len(rows) < len(statistics):
        note += f" Shown are {len(rows)} of {counted(len(statistics), 'module')}, evenly spread over depth."
    head = ("module", "channels", "shift, in batch stds", "running / batch variance", "channels left out")
    return f'<p class="note">{escape(note)}</p>{table("BatchNorm: running against batch statistics", head, rows)}'


def disagreement(statistics: BatchStatistics) -> tuple[float | None, float | None, int]:
    """How far running statistics are from those of the batch.

    Returns:
        Root-mean-square over channels of (running mean - batch mean) / sqrt(batch variance); median over channels of
        running variance / batch variance; number of channels left out, because their batch has no variance or
        something is not finite. None, None where no channel is left.
    """
    mean, var, running_mean, running_var = (
        array.astype(np.float64)
        for array in (statistics.batch_mean, statistics.batch_var, statistics.running_mean, statistics.running_var)
    )
    usable = (var > 0) & np.isfinite(mean) & np.isfinite(var) & np.isfinite(running_mean) & np.isfinite(running_var)
    left_out = int(np.count_nonzero(~usable))
    if not usable.any():
        return None, None, left_out
    shift = (running_mean[usable] - mean[usable]) / np.sqrt(var[usable])
    return float(np.sqrt(np.mean(shift**2))), float(np.median(running_var[usable] / var[usable])), left_out
