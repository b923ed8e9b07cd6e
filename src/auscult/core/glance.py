"""Glance: a noun as a few lines of HTML, for notebooks.

Colours are the notebook's own, so that it reads in dark and in light; nothing in it is a script, a link or a class.
"""

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from auscult.core.visible import shown_lines

WIDTH = 320
HEIGHT = 48
COLUMNS = 160
MAX_LETTERS = 300
WIDE = 100.0

LEFT = "text-align:left;vertical-align:top"
BORDERS = {"critical": "#d9382e", "warning": "#b87400", "info": "#2f7fd0", "recovered": "#7f858c"}


def glance(title: str, facts: Iterable[tuple[str, str]], *further: str) -> str:
    """A noun: its title, what is to be said of it, and what is drawn of it.

    Args:
        title: One line; escaped here, as are the facts.
        facts: Names and values.
        further: HTML that follows.
    """
    rows = "".join(
        f'<tr><th scope="row" style="{LEFT}">{text(name)}</th><td style="{LEFT}">{text(value)}</td></tr>'
        for name, value in facts
    )
    body = f"<table><tbody>{rows}</tbody></table>" if rows else ""
    return f"<div><p><strong>{text(title)}</strong></p>{body}{''.join(further)}</div>"


def text(value: str) -> str:
    """Text from a run as HTML: escaped, with nothing hidden in it, and cut where it is very long."""
    visible = shown_lines(value)
    return escape(visible if len(visible) <= MAX_LETTERS else f"{visible[:MAX_LETTERS]}…")


def listing(items: Sequence[str], limit: int) -> str:
    """Sentences one below the other, the rest counted."""
    kept = "".join(f"<li>{text(each)}</li>" for each in items[:limit])
    rest = f"<li>and {len(items) - limit:,} more</li>" if len(items) > limit else ""
    return f"<ul>{kept}{rest}</ul>" if items else ""


def folded(title: str, kind: str, content: str, unfolded: bool = False) -> str:
    """HTML behind one line, with a bar in the colour of a severity (or of `recovered`); `title` is escaped here."""
    bar = f"border-left:4px solid {BORDERS[kind]};padding-left:0.6em;margin:0.4em 0"
    state = " open" if unfolded else ""
    return f'<details style="{bar}"{state}><summary>{text(title)}</summary>{content}</details>'


def is_wide(finite: NDArray[np.float64]) -> bool:
    """Whether values want a logarithmic axis: all are positive, the largest more than a hundred times the smallest."""
    low = float(finite.min())
    return low > 0 and float(finite.max()) > WIDE * low


def sparkline(values: NDArray[np.float64], label: str) -> str:
    """A curve as a small picture that loses no extreme.

    Args:
        values: `(N,)`; where one is not finite the line is broken. Drawn on a logarithmic axis where all of the
            finite ones are positive and the largest is more than a hundred times the smallest.
        label: What it shows, for those who do not see it.
    """
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return ""
    if is_wide(finite):
        values, finite = np.log10(np.where(values > 0, values, np.nan)), np.log10(finite)
    low = float(finite.min()) / 2  # of halves, because the whole may be too large for a float
    span = float(finite.max()) / 2 - low or 1.0
    columns = np.array_split(values, min(COLUMNS, len(values)))
    points: list[str] = []
    pen = "M"
    for position, column in enumerate(columns):
        x = WIDTH * (position + 0.5) / len(columns)
        inside = column[np.isfinite(column)]
        if not len(inside):
            pen = "M"
            continue
        for extreme in dict.fromkeys((float(inside.min()), float(inside.max()))):
            points.append(f"{pen}{x:.1f} {2 + (HEIGHT - 4) * (1 - (extreme / 2 - low) / span):.1f}")
            pen = "L"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{text(label)}" '
        f'style="max-width:100%"><path d="{"".join(points)}" fill="none" stroke="currentColor"/></svg>'
    )
