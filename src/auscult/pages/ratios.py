"""Ratios: how large gradient and update of each weight are beside the weight itself, as HTML."""

from collections.abc import Sequence
from html import escape

import numpy as np

from auscult.core.catalogue import METRICS
from auscult.core.detail import Detail
from auscult.core.run import Parameter
from auscult.pages.curve import evenly
from auscult.pages.tables import table
from auscult.pages.wording import counted, dimensions, figure, shown

MAX_ROWS = 200
NOTE = (
    "grad:data = std(gradient) / std(weight), update:data = std(update) / std(weight). Healthy: update:data about "
    "1e-3, and grad:data alike in all layers; a layer far above the others learns at a pace of its own under plain SGD "
    "(Karpathy, 2022)."
)


def ratio_table(detail: Detail, weights: Sequence[Parameter]) -> str:
    """The ratios of every weight at one step.

    Args:
        detail: Everything about that step.
        weights: The weights in forward order; those that have no gradient at this step are left out.
    """
    grads, params, updates = ({each.path: each for each in detail.of(kind)} for kind in ("grad", "param", "update"))
    seen = [each for each in weights if each.path in grads]
    if not seen:
        return '<p class="quiet">No gradient of a weight was observed at this step.</p>'
    rows: list[tuple[str, ...]] = []
    for each in (seen[index] for index in evenly(len(seen), MAX_ROWS)):
        grad, param, update = grads[each.path], params.get(each.path), updates.get(each.path)
        rows.append(
            (
                shown(each.path),
                dimensions(each.shape),
                figure(grad.mean),
                figure(grad.std),
                figure(None if param is None else param.std),
                figure(None if param is None else _ratio("grad_to_data", grad.std, param.std)),
                figure(None if param is None or update is None else _ratio("update_to_data", update.std, param.std)),
            )
        )
    note = NOTE
    if len(rows) < len(seen):
        note += f" Shown are {len(rows)} of {counted(len(seen), 'weight')}, evenly spread over depth."
    head = ("weight", "shape", "mean of gradient", "std of gradient", "std of weight", "grad:data", "update:data")
    return f'<p class="note">{escape(note)}</p>{table("Gradient and update beside the weight", head, rows)}'


def _ratio(metric: str, numerator: float, denominator: float) -> float:
    """As the catalogue defines it."""
    derive = METRICS[metric].derive
    assert derive is not None
    return float(derive(np.array(numerator), np.array(denominator)))
