"""Tables: the text twin of every chart and heat map, as HTML."""

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from auscult.core.series import Series
from auscult.pages.chart import Chart
from auscult.pages.curve import evenly, summary
from auscult.pages.spreads import NOT_OBSERVED, Spread
from auscult.pages.sweep import Sweep
from auscult.pages.wording import figure, shown

TABLE_STEPS = 24
TABLE_ROWS, TABLE_BROKEN = 600, 100
"""Of a heat map; tables of thousands of parameters would take a browser longer than everything else on the page."""


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table whose first column names its rows; every cell is escaped here."""
    header = "".join(f'<th scope="col">{escape(each)}</th>' for each in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(each)}</td>" for each in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table><caption>'
        f"{escape(caption)}</caption><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def folded(label: str, content: str) -> str:
    """Content behind a summary that opens it; `content` is HTML, `label` is escaped here."""
    return f"<details><summary>{escape(label)}</summary>{content}</details>"


def chart_tables(chart: Chart) -> str:
    """The figures of every curve of a chart, and its values at evenly spaced steps."""
    head = ("curve", "values", "first", "last", "smallest", "at step", "largest", "at step", "NaN or inf", "first at")
    several = [(each.label, summary(each.series)) for each in chart.curves]
    figures = table(
        f"{chart.title}: figures",
        head,
        (
            (
                label,
                f"{each.count:,}",
                figure(each.first),
                figure(each.last),
                figure(each.minimum),
                _step(each.minimum_at),
                figure(each.maximum),
                _step(each.maximum_at),
                f"{each.nonfinite:,}",
                _step(each.nonfinite_at),
            )
            for label, each in several
            if each is not None
        ),
    )
    return folded("Figures as a table", figures + _values(chart))


def heatmap_table(swept: Sweep) -> str:
    """The figures of every row of a heat map."""
    lowest, highest = swept.low.min(1), swept.high.max(1)
    none = swept.count == 0
    broken: list[int] = np.flatnonzero(swept.nonfinite)[:TABLE_BROKEN].tolist()
    listed = sorted({*evenly(len(swept.paths), TABLE_ROWS), *broken})
    rows = (
        (
            shown(path),
            "not observed" if none[row] else f"{swept.count[row]:,}",
            figure(None if np.isnan(swept.centres[row]) else float(swept.centres[row])),
            figure(float(lowest[row]) if np.isfinite(lowest[row]) else None),
            figure(float(highest[row]) if np.isfinite(highest[row]) else None),
            figure(None if none[row] else float(swept.last[row])),
            "yes" if swept.zero[row].any() else "no",
            f"{swept.nonfinite[row]:,}",
            _step(None if swept.nonfinite_at[row] < 0 else int(swept.nonfinite_at[row])),
        )
        for row, path in ((row, swept.paths[row]) for row in listed)
    )
    head = ("path", "values", "median", "smallest > 0", "largest", "last", "exact zeros", "NaN or inf", "first at step")
    caption = f"{swept.metric} of every row"
    if len(listed) < len(swept.paths):
        caption = (
            f"{swept.metric} of {len(listed):,} of {len(swept.paths):,} rows: some evenly spread over depth, and of "
            f"those with a NaN or an infinity the first {TABLE_BROKEN}"
        )
    return folded(f"{swept.metric} as a table", table(caption, head, rows))


def spread_table(spread: Spread) -> str:
    """Mean and standard deviation of every tensor at the first, the middle and the last column."""
    places = sorted({0, len(spread.starts) // 2, len(spread.starts) - 1})
    head = ["path", *(f"{name} at step {spread.starts[at]:,}" for at in places for name in ("mean", "std"))]
    rows = (
        (
            shown(path),
            *(
                "not observed" if spread.std[row, at] == NOT_OBSERVED else figure(float(values[row, at]), 3)
                for at in places
                for values in (spread.mean, spread.std)
            ),
        )
        for row, path in enumerate(spread.paths)
    )
    caption = f"{spread.title}: mean and std"
    if len(spread.paths) < spread.total:
        caption += f" of {len(spread.paths):,} of {spread.total:,}, evenly spread over depth"
    return folded(f"{spread.title} as a table", table(caption, head, rows))


def _values(chart: Chart) -> str:
    several = [each.series.steps for each in chart.curves]
    alike = all(np.array_equal(several[0], each) for each in several[1:])
    steps = several[0] if alike else np.unique(np.concatenate(several))
    if len(steps) > TABLE_STEPS:
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, TABLE_STEPS).astype(int))]
    return table(
        f"{chart.title}: values at {len(steps)} steps",
        ("step", *(each.label for each in chart.curves)),
        ((f"{step:,}", *(_at(each.series, step) for each in chart.curves)) for step in steps.tolist()),
    )


def _at(series: Series, step: int) -> str:
    """The value at a step, or an en dash where it was not observed."""
    position = int(np.searchsorted(series.steps, step))
    found = position < len(series.steps) and series.steps[position] == step
    return figure(float(series.values[position]) if found else None)


def _step(step: int | None) -> str:
    return "–" if step is None else f"{step:,}"
