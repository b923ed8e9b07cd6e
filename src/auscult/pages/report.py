"""The report: one run as one self-contained HTML file that never touches the network.

Puts together what the other files of this room make; decides the order of the page, and names its parts.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.core.score import Score
from auscult.pages.cards import cards
from auscult.pages.charts import Pictures, pictures
from auscult.pages.facts import gaps, moment, reproduction
from auscult.pages.figures import chart_figures, heatmap_figure, spread_figure
from auscult.pages.layers import layers
from auscult.pages.marks import marks, marks_note, rate_curve
from auscult.pages.page import Page, navigation, page_html
from auscult.pages.player import sound_data, sound_parts
from auscult.pages.singles import singles_table
from auscult.pages.verdict import is_sick, state_words, verdict
from auscult.pages.wording import counted, ignored_line, shown

ONSETS = "▲ marks the onset of a finding."
TITLES = {
    "findings": "Findings",
    "sound": "Sound",
    "depth": "Depth over steps",
    "curves": "Curves",
    "spreads": "Distributions over time",
    "layers": "Layer by layer",
    "unobserved": "What was observed",
    "run": "The run",
}


def report_html(
    run: Run,
    findings: Sequence[Finding],
    scores: Sequence[Score] = (),
    ignored: Sequence[str] = (),
    drawn: Pictures | None = None,
) -> str:
    """The page of one run.

    Args:
        run: The run.
        findings: What the rules found in it, in any order.
        scores: The ways in which it can be heard, the first of them chosen; without one the page is silent.
        ignored: The pattern that each finding fits that the user ignores.
        drawn: What the page shows, where that was read before.
    """
    return page_html(report_page(run, findings, scores, ignored, drawn=drawn))


def report_page(
    run: Run,
    findings: Sequence[Finding],
    scores: Sequence[Score] = (),
    ignored: Sequence[str] = (),
    volume: float = 1.0,
    drawn: Pictures | None = None,
) -> Page:
    """The page of one run in parts.

    Args:
        run: As for `report_html`, like all but `volume`.
        findings: What the rules found in it.
        scores: The ways in which it can be heard.
        ignored: The pattern that each finding fits that the user ignores.
        volume: What the sound begins with, 0 to 1.
        drawn: What the page shows.
    """
    drawn, marked, rate = drawn or pictures(run, findings), marks(run), rate_curve(run)
    parts = {
        "top": _header(run, findings),
        "findings": cards(findings, drawn) + _ignored(ignored),
        **sound_parts(scores, volume),
        "depth": heatmap_figure(drawn),
        "curves": chart_figures(drawn.charts, f"{ONSETS} {marks_note(marked)}", rate is not None),
        "spreads": spread_figure(drawn.spreads),
        "layers": layers(run),
        "unobserved": singles_table(findings, drawn) + gaps(run),
        "run": reproduction(run),
    }
    data = {
        **_data(run, findings, drawn),
        "marks": [each.to_dict() for each in marked],
        "rate": rate,
        "sounds": sound_data(scores),
    }
    return Page(f"{shown(run.info.name)} – auscult report", parts, TITLES, data)


def _header(run: Run, findings: Sequence[Finding]) -> str:
    steps = run.steps
    ended = run.finished and (run.provenance is None or run.provenance.state == "finished")
    state = "finished" if ended else "unfinished"
    worst = min((each for each in findings), key=lambda each: each.rank, default=None)
    kind = worst.severity if worst is not None and is_sick([worst]) else "healthy" if len(steps) else "empty"
    parts = [
        f'<span class="state {state}">{state_words(run).removeprefix("is ").capitalize()}</span>',
        f"<span>{counted(len(steps), 'step')} recorded{_span(steps)}</span>",
        f"<span>{counted(len(run.parameters), 'parameter')}</span>" if run.parameters else "",
        f"<span>began {moment(run.info.created)}</span>",
    ]
    return (
        f'<p class="brand">auscult report</p><h1>{escape(shown(run.info.name))}</h1>'
        f'<p class="facts">{"".join(parts)}</p>'
        f'<p class="verdict {kind}">{escape(verdict(run, findings))}</p>'
        f"{navigation(TITLES)}"
    )


def _span(steps: np.ndarray[Any, Any]) -> str:
    return f" ({steps[0]:,} to {steps[-1]:,})" if len(steps) > 1 else ""


def _ignored(patterns: Sequence[str]) -> str:
    return f'<p class="quiet">{escape(ignored_line(patterns))}</p>' if patterns else ""


def _data(run: Run, findings: Sequence[Finding], drawn: Pictures) -> dict[str, Any]:
    """What is drawn of the run's numbers."""
    steps = run.steps
    ordered = sorted(findings, key=lambda each: each.rank)
    return {
        "steps": [int(steps[0]), int(steps[-1])] if len(steps) else [0, 0],
        "charts": [each.to_dict() for each in drawn.charts],
        "heatmaps": [each.to_dict() for each in drawn.heatmaps],
        "rows": {metric: {path: each.to_dict() for path, each in rows.items()} for metric, rows in drawn.rows.items()},
        "spreads": [each.to_dict() for each in drawn.spreads],
        "onsets": [
            {"step": each.step, "severity": each.severity, "text": shown(each.code)}
            for each in ordered[:5]
            if each.status == "active" and each.severity != "info"
        ],
    }
