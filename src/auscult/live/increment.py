"""Increment: the points of a page's charts in some steps alone: those that are new, or those that are zoomed into."""

from typing import Any

from auscult.core.run import Run
from auscult.core.series import Series
from auscult.live.window import window
from auscult.pages.charts import GIBIBYTE, Pictures, model_order
from auscult.pages.curve import Curve
from auscult.pages.sweep import Sweep, sweep


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
