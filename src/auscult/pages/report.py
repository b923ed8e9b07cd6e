"""The report: one run as one self-contained HTML file that never touches the network.

Puts together what the other files of this room make; decides the order of the page, and names its parts.
"""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from auscult.core.audio import Audio
from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.core.score import Score
from auscult.pages.cards import cards
from auscult.pages.charts import Pictures, pictures
from auscult.pages.clip import wav_bytes
from auscult.pages.facts import gaps, moment, reproduction
from auscult.pages.figures import chart_figures, heatmap_figure, spread_figure
from auscult.pages.layers import layers
from auscult.pages.marks import marks, marks_note, rate_curve
from auscult.pages.page import Page, navigation, page_html
from auscult.pages.tables import folded
from auscult.pages.verdict import is_sick, verdict
from auscult.pages.wording import counted, ignored_line, shown, shown_lines

MAX_MOMENTS = 4000
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
    run: Run, findings: Sequence[Finding], score: Score | None, audio: Audio | None, ignored: Sequence[str] = ()
) -> str:
    """The page of one run.

    Args:
        run: The run.
        findings: What the rules found in it, in any order.
        score: What to hear; without it no playhead moves.
        audio: The same rendered; without it the page is silent.
        ignored: The pattern that each finding fits that the user ignores.
    """
    return page_html(report_page(run, findings, score, audio, ignored))


def report_page(
    run: Run, findings: Sequence[Finding], score: Score | None, audio: Audio | None, ignored: Sequence[str] = ()
) -> Page:
    """The page of one run in parts; arguments as for `report_html`."""
    drawn, marked, rate = pictures(run, findings), marks(run), rate_curve(run)
    parts = {
        "top": _header(run, findings),
        "findings": cards(findings, drawn) + _ignored(ignored),
        **_sound(score, audio),
        "depth": heatmap_figure(drawn),
        "curves": chart_figures(drawn.charts, marks_note(marked), rate is not None),
        "spreads": spread_figure(drawn.spreads),
        "layers": layers(run),
        "unobserved": gaps(run),
        "run": reproduction(run),
    }
    data = {
        **_data(run, findings, drawn),
        "marks": [each.to_dict() for each in marked],
        "rate": rate,
        "sound": None if score is None else _moments(score),
    }
    return Page(f"{shown(run.info.name)} – auscult report", parts, TITLES, data)


def _header(run: Run, findings: Sequence[Finding]) -> str:
    steps = run.steps
    state = "finished" if run.finished else "unfinished"
    worst = min((each for each in findings), key=lambda each: each.rank, default=None)
    kind = worst.severity if worst is not None and is_sick([worst]) else "healthy" if len(steps) else "empty"
    parts = [
        f'<span class="state {state}">{state.capitalize()}</span>',
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


def _sound(score: Score | None, audio: Audio | None) -> dict[str, str]:
    """The heading, the player (which stays in sight while the page scrolls), and the text twin."""
    if audio is None and score is None:
        return {"sound": '<p class="quiet">No sound was made for this report.</p>'}
    mapping = "" if score is None else f" Mapping: {escape(shown(score.mapping))}."
    intro = (
        f'<p class="quiet">A line runs over every chart while it plays; a click on a chart moves it there.{mapping}</p>'
    )
    twin = "" if score is None else folded(f"Transcript: {counted(len(score.events), 'event')}", _transcript(score))
    if audio is None:
        return {"sound": '<p class="quiet">Only the score was made, no audio.</p>' + twin}
    return {"sound": intro, "player": _player(audio), "twin": f'<div class="twin" id="twin">{twin}</div>'}


def _player(audio: Audio) -> str:
    source = "data:audio/wav;base64," + b64encode(wav_bytes(audio)).decode("ascii")
    speeds = "".join(
        f'<option value="{each}"{" selected" if each == 1 else ""}>{each}×</option>' for each in (0.5, 1, 1.5, 2, 4)
    )
    return (
        '<div class="player" id="player" role="group" aria-label="Sound of the run">'
        '<button type="button" id="stop">Stop</button><button type="button" id="play">Play</button>'
        f'<audio id="audio" controls preload="auto" src="{source}"></audio>'
        f'<label><span class="hint">Speed </span><select id="speed" aria-label="Speed">{speeds}</select></label>'
        f'<output id="now" aria-live="off">{audio.duration:.1f} s</output></div>'
    )


def _transcript(score: Score) -> str:
    voices = ", ".join(shown(each.name) for each in score.voices)
    items = "".join(
        f'<li><button type="button" class="moment" data-time="{each.time:.3f}">{each.time:.1f} s</button> '
        f"<span>step {each.step:,}</span> {escape(shown_lines(each.text))}</li>"
        for each in score.events
    )
    listing = f'<ol class="transcript">{items}</ol>' if items else "<p>Nothing happens that has a sound of its own.</p>"
    return f"<p>Voices: {escape(voices or 'none')}. Length: {score.duration:.1f} s.</p>{listing}"


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


def _moments(score: Score) -> dict[str, Any]:
    """When each step is heard, thinned evenly: the map between the two is piecewise linear."""
    count = len(score.steps)
    kept = np.unique(np.linspace(0, count - 1, min(count, MAX_MOMENTS)).astype(int)) if count else np.empty(0, int)
    return {
        "times": np.round(score.step_times[kept], 4).tolist(),
        "steps": score.steps[kept].tolist(),
        "duration": score.duration,
        "events": [
            {"time": round(each.time, 4), "text": f"step {each.step:,}: {shown_lines(each.text)}"}
            for each in score.events
        ],
    }
