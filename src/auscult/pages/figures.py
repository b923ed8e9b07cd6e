"""Figures: where curves, heat maps and distributions are drawn, as HTML, each with its text twin.

What carries `data-keep` stays in an open page when its section is replaced; the script draws the new data into it.
"""

from collections.abc import Sequence
from html import escape

from auscult.pages.chart import Chart
from auscult.pages.charts import Pictures
from auscult.pages.spreads import Spread
from auscult.pages.tables import chart_tables, heatmap_table, spread_table

DEPTH_NOTE = (
    "Early layers are on top. Colours say how many times a value is above or below its healthy centre: that of the row "
    "itself (the median of its values), of all rows, or the one of the literature where there is one; a column shows "
    "the value farthest from it. NaN, exact zeros and what was not observed have patterns of their own."
)
SPREAD_NOTE = (
    "Mean of all elements, with one and two standard deviations around it. Where a column stands for several measured "
    "steps it shows the widest of them. Choose what, and the layer."
)


def heatmap_figure(drawn: Pictures, note: str = DEPTH_NOTE) -> str:
    """One map at a time, of the metric chosen, and the tables of all of them."""
    if not drawn.heatmaps:
        return '<p class="quiet">No metric of parameters or modules was observed.</p>'
    twins = "".join(heatmap_table(drawn.sweeps[each.metric]) for each in drawn.heatmaps)
    return heatmap_stage(note, twins)


def heatmap_stage(note: str, twins: str) -> str:
    """The map's place on the page; the script fills it and the list of metrics."""
    return (
        f'<figure id="heatmap"><figcaption>{escape(note)}</figcaption><div id="heatmap-stage" data-keep>'
        '<div class="controls"><label>Metric <select id="heatmap-metric"></select></label>'
        '<label>Centre <select id="heatmap-centre"></select></label>'
        '<div id="heatmap-legend" class="legend"></div></div>'
        '<div id="heatmap-plot"></div><p id="heatmap-readout" class="readout" aria-live="polite">'
        "Point at a cell, or focus the map and use the arrow keys; a click or Enter opens the row’s curve, dragging "
        'shows fewer steps.</p><div id="heatmap-row" hidden></div></div>'
        f'<div id="heatmap-tables">{twins}</div></figure>'
    )


def chart_figures(charts: Sequence[Chart], marked: str = "", rate: bool = False) -> str:
    """Every chart with its tables.

    Args:
        charts: The charts.
        marked: What the charts mark, in sentences.
        rate: Whether the learning rate can be drawn behind them.
    """
    if not charts:
        return '<p class="quiet">No value was recorded over steps.</p>'
    behind = (
        '<label id="rate-choice" data-keep><input type="checkbox" id="rate"> Learning rate behind every chart</label>'
    )
    hint = (
        f'<p class="quiet">{escape(marked)} Drag over a chart to see fewer steps in '
        "all of them, double-click to see every step again; a click marks a step.</p>"
    )
    figures = "".join(_figure(each) for each in charts)
    return f'{hint}<div class="controls">{behind if rate else ""}</div><div class="grid">{figures}</div>'


def _figure(chart: Chart) -> str:
    unit = "" if chart.unit in ("1", "as logged") else f" <small>{escape(chart.unit)}</small>"
    return (
        f'<figure id="chart-{chart.name}" class="chart"><h3>{escape(chart.title)}{unit}</h3>'
        f'<figcaption>{escape(chart.note)}</figcaption><div class="plot" id="plot-{chart.name}" data-keep></div>'
        f"{chart_tables(chart)}</figure>"
    )


def spread_figure(several: Sequence[Spread]) -> str:
    """One tensor at a time, and the tables of all of them."""
    if not several:
        return '<p class="quiet">Mean and standard deviation of tensors were not observed.</p>'
    return (
        f'<figure id="spread"><figcaption>{escape(SPREAD_NOTE)}</figcaption><div id="spread-stage" data-keep>'
        '<div class="controls"><label>Of <select id="spread-kind"></select></label>'
        '<label>Layer <select id="spread-path"></select></label></div><div class="plot" id="spread-plot"></div></div>'
        f'<div id="spread-tables">{"".join(map(spread_table, several))}</div></figure>'
    )
