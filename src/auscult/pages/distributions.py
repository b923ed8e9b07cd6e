"""Distributions: the elements of a tensor, layer over layer in one picture, with its legend of figures, as HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from auscult.core.detail import TensorDetail
from auscult.pages.curve import evenly
from auscult.pages.density import Densities, Density, densities
from auscult.pages.wording import counted, figure, percent, shown

MAX_LINES = 24
TONES = 12
"""Colours by depth that the style sheet has."""
WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 30, 8, 14, 22


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture is of.

    Attributes:
        title: Its heading.
        note: What is drawn, and what a healthy run looks like.
        noun: What one line is of, as `module`.
    """

    title: str
    note: str
    noun: str


def distribution(picture: Picture, tensors: Sequence[TensorDetail], saturated: Mapping[str, float]) -> str:
    """One picture with its legend.

    Args:
        picture: What it is of.
        tensors: At least one, in forward order; of more than 24 some, evenly spread over depth, are shown.
        saturated: Share of saturated elements by path, where it was observed.
    """
    chosen = [tensors[index] for index in evenly(len(tensors), MAX_LINES)]
    drawn = densities(chosen)
    note = picture.note
    if len(chosen) < len(tensors):
        note += f" Shown are {len(chosen)} of {counted(len(tensors), picture.noun)}, evenly spread over depth."
    return (
        f'<figure class="distribution"><h4>{escape(picture.title)}</h4><figcaption>{escape(note)}</figcaption>'
        f"{_drawing(picture, drawn)}{_legend(picture, drawn, saturated)}</figure>"
    )


def _tone(place: int, count: int) -> str:
    """The class of a line: its colour by depth, dashed for every second one where colours are shared."""
    tone = 1 + round(place * (TONES - 1) / max(1, count - 1))
    return f"tone-{tone} dashed" if count > TONES and place % 2 else f"tone-{tone}"


def _drawing(picture: Picture, drawn: Densities) -> str:
    if not any(len(each.heights) for each in drawn.several):
        return '<p class="quiet">Nothing to draw: no element is finite and other than 0, or all are equal.</p>'
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    label = f"{picture.title}: density over value, {counted(len(drawn.several), 'line')}; figures in the table below"
    lines = "".join(
        f'<path class="{_tone(place, len(drawn.several))}" d="{_path(each, drawn, width, height)}">'
        f"<title>{escape(shown(each.tensor.path))}</title></path>"
        for place, each in enumerate(drawn.several)
        if len(each.heights)
    )
    area = f'x="{LEFT}" y="{TOP}" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return (
        f'<svg class="densities" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{_axes(drawn, width, height)}<svg {area}>{lines}</svg></svg>"
    )


def _path(density: Density, drawn: Densities, width: int, height: int) -> str:
    """Through the middle of each bin; down to 0 at both ends where the tensor ends there, not the picture."""
    middles = (density.edges[1:] + density.edges[:-1]) / 2
    x = np.concatenate((density.edges[:1], middles, density.edges[-1:]))
    y = np.concatenate((density.heights[:1], density.heights, density.heights[-1:]))
    across = (x / drawn.reach + 1) / 2 * width
    down = height - np.minimum(y / drawn.top, 2.0) * height / 1.05
    points = [f"{left:.1f} {top:.1f}" for left, top in zip(across.tolist(), down.tolist())]
    before = [f"{across[0]:.1f} {height}"] if density.edges[0] > -drawn.reach else []
    after = [f"{across[-1]:.1f} {height}"] if density.edges[-1] < drawn.reach else []
    return "M" + "L".join((*before, *points, *after))


def _axes(drawn: Densities, width: int, height: int) -> str:
    """Three values across, two densities up, and a line at 0."""
    middle, foot = LEFT + width / 2, TOP + height
    step = _round_below(drawn.reach * 0.9)
    across = "".join(
        f'<path d="M{middle + share * width / 2:.1f} {TOP}V{foot}"/>'
        f'<text x="{middle + share * width / 2:.1f}" y="{foot + 15}" text-anchor="middle">{_tick(value)}</text>'
        for value in (-step, 0.0, step)
        for share in (value / drawn.reach,)
    )
    peak = _round_below(drawn.top)
    level = foot - peak / drawn.top * height / 1.05
    up = (
        f'<path d="M{LEFT} {foot}H{LEFT + width}M{LEFT} {level:.1f}H{LEFT + width}"/>'
        f'<text x="{LEFT - 4}" y="{foot}" text-anchor="end">0</text>'
        f'<text x="{LEFT - 4}" y="{level + 4:.1f}" text-anchor="end">{_tick(peak)}</text>'
    )
    return f'<g class="axes">{across}{up}</g>'


def _round_below(value: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not above a positive value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next((factor * power for factor in (5, 2, 1) if factor * power <= value), power))


def _tick(value: float) -> str:
    """A round number, short enough for an axis."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:g}"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def _legend(picture: Picture, drawn: Densities, saturated: Mapping[str, float]) -> str:
    """The figures of every line, each beside the colour it is drawn in."""
    bounded = any(each.tensor.path in saturated for each in drawn.several)
    head = [picture.noun, "mean", "std", *(["saturated"] if bounded else []), "exactly 0", "smallest", "largest",
            "beyond the axis", "NaN or inf"]  # fmt: skip
    rows: list[str] = []
    for place, each in enumerate(drawn.several):
        tensor = each.tensor
        finite = tensor.histogram.total > 0
        cells = [
            figure(tensor.mean, 3) if finite else "nothing finite",
            figure(tensor.std, 3) if finite else "–",
            *([percent(saturated.get(tensor.path, np.nan))] if bounded else []),
            percent(each.zeros),
            figure(tensor.minimum, 3) if finite else "–",
            figure(tensor.maximum, 3) if finite else "–",
            percent(each.outside),
            f"{tensor.histogram.nonfinite:,}",
        ]
        swatch = (
            f'<svg class="swatch" viewBox="0 0 20 10" aria-hidden="true">'
            f'<path class="{_tone(place, len(drawn.several))}" d="M0 5H20"/></svg>'
        )
        body = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{swatch}<span>{escape(shown(tensor.path))}</span></th>{body}</tr>')
    header = "".join(f'<th scope="col">{escape(each)}</th>' for each in head)
    label = escape(f"{picture.title}: figures")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table class="legend-table">'
        f"<caption>{label}</caption><thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
