"""Shell: the HTML around what is shown live: the listing, a run's page, and one for a run that cannot be read.

All addresses are relative, so that the pages work behind any prefix. No script and no style stands in the HTML itself.
"""

from collections.abc import Mapping
from html import escape

from auscult.live.mark import Mark
from auscult.pages.page import LIBRARY, STYLES, Page, body, json_text
from auscult.pages.wording import shown

LISTING = "runs.js"
RUN = "live.js"
STYLE = "live.css"
UP = "../../"


FOOTER = "Made by auscult, from what this run has written so far."

COLUMNS = {
    "place": "Run",
    "word": "State",
    "step": "Step",
    "severity": "Worst finding",
    "written": "Last written",
    "began": "Began",
}
"""What the listing can be sorted by, and what it says."""

WORDS = {"": "all"} | {each: each for each in ("training", "stalled", "crashed", "finished", "unreadable")}
SEVERITIES = {"": "all", "critical": "critical", "warning": "warning or worse", "info": "note or worse", "none": "none"}


def listing_html(title: str) -> str:
    """The listing; its script fills it."""
    heads = "".join(
        f'<th scope="col" aria-sort="none"><button type="button" data-key="{key}">{text}</button></th>'
        for key, text in COLUMNS.items()
    )
    content = (
        f'<header class="top" id="top"><p class="brand">auscult live</p><h1>{escape(shown(title))}</h1>'
        '<p class="facts"><span id="counts" role="status">Looking for runs …</span>'
        '<span id="connection" role="status"></span></p></header><main><section aria-label="Runs">'
        '<div class="controls" role="search">'
        '<label>Name contains <input type="search" id="text" autocomplete="off"></label>'
        f"{_select('word', 'State', WORDS)}{_select('severity', 'Worst finding', SEVERITIES)}</div>"
        '<div class="scroll listing" tabindex="0" role="region" aria-label="Table of runs">'
        f'<table class="runs" id="runs"><thead><tr>{heads}</tr></thead><tbody></tbody></table></div>'
        '<p id="nothing" class="quiet" hidden></p>'
        "<noscript><p>This page needs JavaScript. <code>auscult runs</code> says the same in a terminal.</p></noscript>"
        "</section></main>"
    )
    return _document(f"{shown(title)} – auscult live", "", LISTING, content)


def run_html(page: Page, mark: Mark) -> str:
    """The page of a run as it is now; its script keeps it so."""
    opened = "\n".join(body(page, FOOTER)).replace("<body>", f'<body data-mark="{mark}">', 1)
    data = f'<script type="application/json" id="data">{json_text(page.data)}</script>'
    return _document(page.title, UP, RUN, f"{opened}{data}", library=True)


def unreadable_html(title: str, reason: str) -> str:
    """The page of a run that cannot be read; its script loads it again when it can."""
    content = (
        '<body data-mark=""><header class="top" id="top"><p class="brand">auscult live</p>'
        f"<h1>{escape(shown(title))}</h1>"
        f'<p class="verdict warning">This run cannot be read: {escape(reason)}</p></header>'
        "<main><p>The page shows it as soon as it can be read.</p></main>"
    )
    return _document(f"{shown(title)} – auscult live", UP, RUN, content, library=True)


def _select(name: str, label: str, options: Mapping[str, str]) -> str:
    choices = "".join(f'<option value="{value}">{text}</option>' for value, text in options.items())
    return f'<label>{label} <select id="{name}">{choices}</select></label>'


def _document(title: str, up: str, script: str, content: str, library: bool = False) -> str:
    styles = "".join(f'<link rel="stylesheet" href="{up}assets/{each}">' for each in (*STYLES, STYLE))
    drawing = f'<script src="{up}assets/{LIBRARY}"></script>' if library else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title>{styles}</head>"
        f"{content if library else f'<body>{content}'}{drawing}"
        f'<script type="module" src="{up}assets/{script}"></script></body></html>'
    )
