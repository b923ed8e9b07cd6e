"""The report: one run as one self-contained HTML file that never touches the network.

Puts together what the other files of this room make; decides the order of the page, its script and its policy.
"""

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from auscult.core.audio import Audio
from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.core.score import Score
from auscult.pages.cards import cards
from auscult.pages.charts import Chart, Pictures, pictures
from auscult.pages.clip import wav_bytes
from auscult.pages.facts import gaps, moment, reproduction
from auscult.pages.layers import layers
from auscult.pages.tables import chart_tables, folded, heatmap_table
from auscult.pages.verdict import is_sick, state_words, verdict
from auscult.pages.wording import counted, ignored_line, shown, shown_lines

MODULES = ("timeline.js", "palette.js", "curves.js", "raster.js", "heatmap.js", "layers.js", "player.js", "report.js")
"""The browser side, each file after those it imports."""

MAX_MOMENTS = 4000
UNSAFE = {ord(each): f"\\u{ord(each):04x}" for each in "<>&"}


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
    drawn = pictures(run, findings)
    style = "".join(_asset(each) for each in ("vendor/uPlot.min.css", "report.css", "charts.css", "layers.css"))
    scripts = (_asset("vendor/uPlot.iife.min.js"), _bundle())
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            _head(shown(run.info.name), style, scripts),
            "<body>",
            '<a class="skip" href="#findings">Skip to the findings</a>',
            _header(run, findings),
            "<main>",
            _section("findings", "Findings", cards(findings, drawn) + _ignored(ignored)),
            *_sound(score, audio),
            _section("depth", "Depth over steps", _heatmaps(drawn)),
            _section("curves", "Curves", _curves(drawn)),
            _section("layers", "Layer by layer", layers(run)),
            _section("unobserved", "What was observed, and what was not", gaps(run)),
            _section("run", "The run", reproduction(run)),
            "</main>",
            "<footer>Made by auscult. This file is complete in itself and loads nothing from elsewhere.</footer>",
            f'<script type="application/json" id="data">{_json(_data(run, findings, drawn, score))}</script>',
            f"<script>{scripts[0]}</script>",
            f'<script type="module">{scripts[1]}</script>',
            "</body>",
            "</html>",
            "",
        )
    )


def _head(title: str, style: str, scripts: Sequence[str]) -> str:
    allowed = " ".join(_source_hash(each) for each in scripts)
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src {_source_hash(style)}; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        f'<head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f'<link rel="icon" href="data:,"><title>{escape(title)} – auscult report</title><style>{style}</style></head>'
    )


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
    links = (("findings", "Findings"), ("sound", "Sound"), ("depth", "Depth"), ("curves", "Curves"),
             ("layers", "Layers"), ("unobserved", "Observed"), ("run", "Run"))  # fmt: skip
    navigation = "".join(f'<a href="#{target}">{text}</a>' for target, text in links)
    return (
        f'<header class="top"><p class="brand">auscult report</p><h1>{escape(shown(run.info.name))}</h1>'
        f'<p class="facts">{"".join(parts)}</p>'
        f'<p class="verdict {kind}">{escape(verdict(run, findings))}</p>'
        f'<nav aria-label="Sections">{navigation}</nav></header>'
    )


def _span(steps: np.ndarray[Any, Any]) -> str:
    return f" ({steps[0]:,} to {steps[-1]:,})" if len(steps) > 1 else ""


def _section(name: str, title: str, content: str) -> str:
    return f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{content}</section>'


def _ignored(patterns: Sequence[str]) -> str:
    return f'<p class="quiet">{escape(ignored_line(patterns))}</p>' if patterns else ""


def _sound(score: Score | None, audio: Audio | None) -> tuple[str, ...]:
    """The heading, the player (which stays in sight while the page scrolls), and the text twin."""
    if audio is None and score is None:
        return (_section("sound", "Sound", '<p class="quiet">No sound was made for this report.</p>'),)
    mapping = "" if score is None else f" Mapping: {escape(shown(score.mapping))}."
    intro = (
        f'<p class="quiet">A line runs over every chart while it plays; a click on a chart moves it there.{mapping}</p>'
    )
    twin = "" if score is None else folded(f"Transcript: {counted(len(score.events), 'event')}", _transcript(score))
    if audio is None:
        return (_section("sound", "Sound", '<p class="quiet">Only the score was made, no audio.</p>' + twin),)
    return (_section("sound", "Sound", intro), _player(audio), f'<div class="twin">{twin}</div>')


def _player(audio: Audio) -> str:
    source = "data:audio/wav;base64," + b64encode(wav_bytes(audio)).decode("ascii")
    speeds = "".join(
        f'<option value="{each}"{" selected" if each == 1 else ""}>{each}×</option>' for each in (0.5, 1, 1.5, 2, 4)
    )
    return (
        '<div class="player" role="group" aria-label="Sound of the run">'
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


def _heatmaps(drawn: Pictures) -> str:
    if not drawn.heatmaps:
        return '<p class="quiet">No metric of parameters or modules was observed.</p>'
    options = "".join(f'<option value="{index}">{each.metric}</option>' for index, each in enumerate(drawn.heatmaps))
    twins = "".join(heatmap_table(drawn.sweeps[each.metric]) for each in drawn.heatmaps)
    return (
        '<figure id="heatmap"><figcaption>Each row is compared with its own healthy centre, the median of its values; '
        "a column shows the value farthest from it. Early layers are on top.</figcaption>"
        f'<div class="controls"><label>Metric <select id="heatmap-metric">{options}</select></label>'
        '<div id="heatmap-legend" class="legend"></div></div>'
        '<div id="heatmap-plot"></div><p id="heatmap-readout" class="readout" aria-live="polite">'
        "Point at a cell, or focus the map and use the arrow keys; Enter opens the row’s curve.</p>"
        f'<div id="heatmap-row" hidden></div>{twins}</figure>'
    )


def _curves(drawn: Pictures) -> str:
    html = "".join(_figure(each) for each in drawn.charts)
    hint = (
        '<p class="quiet">▲ marks the onset of a finding. Drag over a chart to see fewer steps in all of them, '
        "double-click to see every step again; a click marks a step.</p>"
    )
    return f'{hint}<div class="grid">{html}</div>' if html else '<p class="quiet">No value was recorded over steps.</p>'


def _figure(chart: Chart) -> str:
    unit = "" if chart.unit in ("1", "as logged") else f" <small>{escape(chart.unit)}</small>"
    return (
        f'<figure id="chart-{chart.name}" class="chart"><h3>{escape(chart.title)}{unit}</h3>'
        f'<figcaption>{escape(chart.note)}</figcaption><div class="plot"></div>{chart_tables(chart)}</figure>'
    )


def _data(run: Run, findings: Sequence[Finding], drawn: Pictures, score: Score | None) -> dict[str, Any]:
    """Everything the script draws."""
    steps = run.steps
    ordered = sorted(findings, key=lambda each: each.rank)
    return {
        "steps": [int(steps[0]), int(steps[-1])] if len(steps) else [0, 0],
        "charts": [each.to_dict() for each in drawn.charts],
        "heatmaps": [each.to_dict() for each in drawn.heatmaps],
        "onsets": [
            {"step": each.step, "severity": each.severity, "text": shown(each.code)}
            for each in ordered[:5]
            if each.status == "active" and each.severity != "info"
        ],
        "sound": None if score is None else _moments(score),
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


def _json(data: dict[str, Any]) -> str:
    """Strict JSON that cannot end the script element it stands in."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).translate(UNSAFE)


def _bundle() -> str:
    """The modules of the browser side as one script: their imports of each other are taken out."""
    source = "\n".join(_asset(each) for each in MODULES)
    source = re.sub(r"^import [^;]*;\n", "", source, flags=re.MULTILINE)
    return re.sub(r"^export ", "", source, flags=re.MULTILINE)


def _asset(name: str) -> str:
    return files("auscult.pages").joinpath("assets", *name.split("/")).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    """How a Content-Security-Policy names an inline script or style."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode('ascii')}'"
