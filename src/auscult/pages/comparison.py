"""Comparison: two or more runs on one page: where they part, what was set differently, their curves and heat maps."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.pages.chart import Chart
from auscult.pages.charts import Pictures, pictures
from auscult.pages.curve import Curve, evenly
from auscult.pages.differences import divided, divided_table, finding_table, legend, parameter_table, setting_table
from auscult.pages.figures import chart_figures, heatmap_stage
from auscult.pages.heatmap import Heatmap
from auscult.pages.page import Page, navigation, page_html
from auscult.pages.parting import Parting, parting_sentence, partings
from auscult.pages.sweep import shared_edges
from auscult.pages.tables import table
from auscult.pages.verdict import verdict
from auscult.pages.wording import counted, figure, listed, place, shown

MAX_RUNS = 6
"""As many as there are colours that can be told apart."""
MAX_CURVES = 12
TITLES = {
    "parting": "Where they part",
    "settings": "What was set differently",
    "findings": "Findings",
    "depth": "Differences over depth and steps",
    "curves": "Curves",
}
DEPTH_NOTE = (
    "How many times the value of one run is that of the first, row by row and column by column, early layers on top. "
    "A column shows the ratio farthest from 1. A zero in one of the two, a NaN in either and what one of them did not "
    "observe have patterns of their own."
)


def comparison_html(runs: Sequence[Run], found: Sequence[Sequence[Finding]]) -> str:
    """The page of several runs; arguments as for `comparison_page`."""
    return page_html(comparison_page(runs, found))


def comparison_page(runs: Sequence[Run], found: Sequence[Sequence[Finding]]) -> Page:
    """The page of several runs in parts.

    Args:
        runs: Between two and six; all are compared with the first.
        found: What the rules found in each.
    """
    names = _names(runs)
    recorded = [run.steps for run in runs if len(run.steps)]
    edges = shared_edges(recorded) if recorded else None
    drawn = [pictures(run, findings, edges) for run, findings in zip(runs, found)]
    charts = overlaid(drawn, names)
    maps = _differences(drawn, names)
    verdicts = [verdict(run, findings) for run, findings in zip(runs, found)]
    title = listed(names, MAX_RUNS)
    parts = {
        "top": (
            f'<p class="brand">auscult report, {counted(len(runs), "run")}</p><h1>{escape(title)}</h1>'
            f"{legend(names, verdicts)}{navigation(TITLES)}"
        ),
        "parting": "".join(_parting(runs[0], run, (names[0], name)) for run, name in zip(runs[1:], names[1:])),
        "settings": setting_table(runs, names) + parameter_table(runs, names),
        "findings": finding_table(found, names),
        "depth": heatmap_stage(DEPTH_NOTE, "".join(map(divided_table, maps)))
        if maps
        else '<p class="quiet">No metric was observed of the same parameters or modules at the same steps.</p>',
        "curves": chart_figures(charts),
    }
    ends = [(int(steps[0]), int(steps[-1])) for steps in recorded]
    data: dict[str, Any] = {
        "steps": [min(first for first, _ in ends), max(last for _, last in ends)] if ends else [0, 0],
        "charts": [each.to_dict() for each in charts],
        "heatmaps": [each.to_dict() for each in maps],
        "rows": {},
        "spreads": [],
        "onsets": [],
        "marks": [],
        "rate": None,
        "sounds": [],
    }
    return Page(f"{title} – auscult report", parts, TITLES, data)


def overlaid(drawn: Sequence[Pictures], names: Sequence[str]) -> list[Chart]:
    """Charts of one title as one, with a colour for each run."""
    titles = list(dict.fromkeys(chart.title for each in drawn for chart in each.charts))
    charts: list[Chart] = []
    for position, title in enumerate(titles):
        several = [next((chart for chart in each.charts if chart.title == title), None) for each in drawn]
        curves: list[Curve] = []
        groups: list[int] = []
        for group, chart in enumerate(several):
            some = () if chart is None else chart.curves
            kept = [some[index] for index in evenly(len(some), max(1, MAX_CURVES // len(drawn)))]
            curves += [Curve(names[group] if len(some) == 1 else f"{names[group]}: {each.label}", each.series)
                       for each in kept]  # fmt: skip
            groups += [group] * len(kept)
        first = next(chart for chart in several if chart is not None)
        left_out = sum(len(chart.curves) for chart in several if chart is not None) - len(curves)
        note = f" {counted(left_out, 'further curve')} not drawn." if left_out else ""
        note = f"{first.title} of {listed([name for name, chart in zip(names, several) if chart], MAX_RUNS)}.{note}"
        log = any(chart.log for chart in several if chart is not None)
        charts.append(
            replace(first, name=f"both-{position}", note=note, log=log, curves=tuple(curves), by_depth=False,
                    groups=tuple(groups))
        )  # fmt: skip
    return charts


def _differences(drawn: Sequence[Pictures], names: Sequence[str]) -> list[Heatmap]:
    maps: list[Heatmap] = []
    for metric, left in drawn[0].sweeps.items():
        for each, name in zip(drawn[1:], names[1:]):
            right = each.sweeps.get(metric)
            found = None if right is None else divided(left, right, (names[0], name))
            if found is not None:
                maps.append(found if len(drawn) == 2 else replace(found, metric=f"{metric}, {name}"))
    return maps


def _parting(left: Run, right: Run, names: tuple[str, str]) -> str:
    compared = partings(left, right)
    said = f"<p><strong>{escape(parting_sentence(compared, names))}</strong></p>"
    if not compared.found:
        return said
    head = ("they differ", "from step", "farthest there", "of", shown(names[0]), shown(names[1]), "differ so")
    return said + table(f"{shown(names[0])} and {shown(names[1])}", head, map(_row, compared.found))


def _row(parting: Parting) -> tuple[str, ...]:
    return (
        parting.level,
        f"{parting.step:,}",
        shown(parting.channel.metric),
        place(parting.channel.path, parting.channel.metric),
        figure(parting.left, 6),
        figure(parting.right, 6),
        counted(parting.count, "number"),
    )


def _names(runs: Sequence[Run]) -> list[str]:
    """What the runs are called; those of one name are numbered."""
    names = [shown(run.info.name) for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, 1)]
