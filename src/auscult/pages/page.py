"""Page: named sections and the data that a script draws, as one HTML file that never touches the network.

A page is made of parts, each of which can be replaced by itself while the page is open: sections by name, charts by
name, heat maps and distributions by metric. `openPage` in `assets/page.js` draws them, and its `update` takes any
subset of what `Page.to_dict` gives.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

STYLES = ("vendor/uPlot.min.css", "report.css", "charts.css", "layers.css")
LIBRARY = "vendor/uPlot.iife.min.js"
MODULES = (
    "timeline.js",
    "palette.js",
    "packed.js",
    "turns.js",
    "strokes.js",
    "marks.js",
    "curves.js",
    "raster.js",
    "closeup.js",
    "heatmap.js",
    "spreads.js",
    "layers.js",
    "sound.js",
    "player.js",
    "page.js",
)
"""The browser side, each file after those it imports."""

ENTRY = "report.js"
"""What opens the page once all of these are there."""

FOOTER = "Made by auscult. This file is complete in itself and loads nothing from elsewhere."
UNSAFE = {ord(each): f"\\u{ord(each):04x}" for each in "<>&"}


@dataclass(frozen=True, slots=True)
class Page:
    """What is shown.

    Attributes:
        title: Of the window.
        parts: HTML by name, in order. `top` comes before the others; one with a title becomes a section with its name
            for id; one without is an element that has this id itself.
        titles: The headings of the sections by name.
        data: What the script draws, as plain JSON types.
    """

    title: str
    parts: Mapping[str, str]
    titles: Mapping[str, str]
    data: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As `update` of the open page takes it, whole or in part: `{"sections": {name: HTML}, "data": {...}}`."""
        return {"sections": dict(self.parts), "data": dict(self.data)}


def page_html(page: Page) -> str:
    """The page as a file."""
    style = "".join(map(asset, STYLES))
    scripts = (asset(LIBRARY), bundle((*MODULES, ENTRY)))
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            _head(page.title, style, scripts),
            *body(page, FOOTER),
            f'<script type="application/json" id="data">{json_text(page.data)}</script>',
            f"<script>{scripts[0]}</script>",
            f'<script type="module">{scripts[1]}</script>',
            "</body>",
            "</html>",
            "",
        )
    )


def body(page: Page, footer: str) -> tuple[str, ...]:
    """The body's opening tag and all of its content but the scripts; `footer` is a sentence."""
    rest = {name: content for name, content in page.parts.items() if name != "top"}
    return (
        "<body>",
        f'<a class="skip" href="#{next(iter(page.titles), "")}">Skip to the content</a>',
        f'<header class="top" id="top">{page.parts["top"]}</header>',
        "<main>",
        *(_part(name, page.titles.get(name), content) for name, content in rest.items()),
        "</main>",
        f"<footer>{footer}</footer>",
    )


def navigation(titles: Mapping[str, str]) -> str:
    """Links to the sections, by what they are called there."""
    links = "".join(f'<a href="#{name}">{escape(text)}</a>' for name, text in titles.items())
    return f'<nav aria-label="Sections">{links}</nav>'


def bundle(modules: Sequence[str]) -> str:
    """Modules of the browser side as one script: their imports of each other are taken out."""
    source = "\n".join(map(asset, modules))
    source = re.sub(r"^import [^;]*;\n", "", source, flags=re.MULTILINE)
    return re.sub(r"^export ", "", source, flags=re.MULTILINE)


def asset(name: str) -> str:
    """The text of a file of the browser side."""
    return files("auscult.pages").joinpath("assets", *name.split("/")).read_text(encoding="utf-8")


def json_text(data: Mapping[str, Any]) -> str:
    """Strict JSON that cannot end the script element it stands in."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).translate(UNSAFE)


def _head(title: str, style: str, scripts: Sequence[str]) -> str:
    allowed = " ".join(_source_hash(each) for each in scripts)
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src {_source_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        f'<head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{style}</style></head>'
    )


def _part(name: str, title: str | None, content: str) -> str:
    if title is None:
        return content
    heading = f'<h2 id="{name}-title">{escape(title)}</h2>'
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">{heading}<div class="content">{content}</div></section>'
    )


def _source_hash(text: str) -> str:
    """How a Content-Security-Policy names an inline script or style."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode('ascii')}'"
