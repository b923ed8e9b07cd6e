"""Increment: a page's charts and heat maps in some steps alone: those that are new, or those that are zoomed into."""

from dataclasses import replace
from typing import Any

import numpy as np

from auscult.core.run import Run
from auscult.core.series import Series
from auscult.live.window import window
from auscult.pages.charts import GIBIBYTE, Pictures, model_order
from auscult.pages.curve import Curve
from auscult.pages.heatmap import heatmap
from auscult.pages.sweep import Sweep, sweep

MAX_VALUES = 2**24
"""Steps times rows of a heat map that are read for a viewer who zooms in; with more in view the whole map stays."""


def chart_points(run: Run, drawn: Pictures, first: int, last: int) -> list[dict[str, Any]]:
    """The points of every chart, `{"name", "curves"}` with the curves in the order in which they are drawn.

    Where there are more than a curve may have, they are thinned; extremes and NaN stay.

    Args:
        run: The run.
        drawn: What the page shows.
        first: The first step.
        last: The last step.
    """
    seen = window(run, first, last)
    sweeps: dict[str, Sweep | None] = {}
    return [
        {"name": chart.name, "curves": [_points(seen, drawn, sweeps, chart.name, each) for each in chart.curves]}
        for chart in drawn.charts
    ]


def _points(seen: Run, drawn: Pictures, sweeps: dict[str, Sweep | None], chart: str, curve: Curve) -> dict[str, Any]:
    metric = curve.series.metric
    swept = drawn.sweeps.get(metric)
    if swept is not None and (curve.series is swept.lowest or curve.series is swept.highest):
        if metric not in sweeps:
            sweeps[metric] = sweep(seen, metric, model_order(seen, metric), every_step=True)
        new = sweeps[metric]
        if new is None:
            return Curve(curve.label, Series(metric, "")).to_dict()
        return Curve(curve.label, new.lowest if curve.series is swept.lowest else new.highest).to_dict()
    series = seen.series(metric, curve.series.path)
    return Curve(curve.label, series / GIBIBYTE if chart == "memory" else series).to_dict()


def map_cells(run: Run, drawn: Pictures, metric: str, first: int, last: int) -> dict[str, Any] | None:
    """A heat map in some steps alone: narrower columns, the rows, centres and colours of the whole map.

    Args:
        run: The run.
        drawn: What the page shows.
        metric: Of a heat map of the page.
        first: The first step.
        last: The last step.

    Returns:
        As `Heatmap.to_dict`; None where there is nothing finer to show, or too much to read for that.
    """
    whole = drawn.sweeps[metric]
    if (last + 1 - first) * len(whole.paths) > MAX_VALUES:
        return None
    found = sweep(window(run, first, last), metric, whole.paths)
    if found is None:
        return None
    centres = np.where(np.isnan(whole.centres), found.centres, whole.centres)
    reach = next(each.reach for each in drawn.heatmaps if each.metric == metric)
    return replace(heatmap(replace(found, centres=centres)), reach=reach).to_dict()
