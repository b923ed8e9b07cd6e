"""Unit maps: the units of modules against samples of the batch as small pictures, as HTML."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape

import numpy as np

from auscult.core.detail import UnitKind, UnitMap
from auscult.pages.curve import evenly
from auscult.pages.png import png_bytes
from auscult.pages.tables import folded, table
from auscult.pages.wording import counted, percent, shown

MAX_MAPS = 24
STATES: dict[UnitKind, str] = {"saturated": "saturated", "zero": "exactly 0"}


def unit_maps(maps: Sequence[UnitMap]) -> str:
    """The maps of one step, at most 24 of them as pictures and all of them as a table.

    Args:
        maps: At least one, in forward order.
    """
    drawn = [maps[index] for index in evenly(len(maps), MAX_MAPS)]
    note = (
        "Across: units. Down: samples of the batch. White: saturated (|output| > 0.97) or, where outputs are never "
        "negative, exactly 0; black: not; grey: at some positions of a sample. Healthy: scattered white; a white line "
        "from top to bottom is a unit that learns nothing from this batch (Karpathy, 2022)."
    )
    if len(drawn) < len(maps):
        note += f" Shown are {len(drawn)} of {counted(len(maps), 'module')}, evenly spread over depth."
    rows = (
        (
            shown(each.path),
            STATES[each.kind],
            f"{len(each.fractions):,}",
            percent(each.stuck),
            percent(_share(each)),
            f"{each.map.shape[0]:,} × {each.map.shape[1]:,}",
        )
        for each in maps
    )
    head = ("module", "white means", "units", "white for the whole batch", "white outputs", "shown: units × samples")
    return (
        f'<figure class="unit-maps"><h4>Saturated and dead units</h4><figcaption>{escape(note)}</figcaption>'
        f'<div class="maps">{"".join(_map(each) for each in drawn)}</div>'
        f"{folded('Figures as a table', table('Saturated and dead units: figures', head, rows))}</figure>"
    )


def _map(units: UnitMap) -> str:
    state = STATES[units.kind]
    text = (
        f"{percent(units.stuck)} of {counted(len(units.fractions), 'unit')} {state} for the whole batch; "
        f"{percent(_share(units))} of outputs"
    )
    name = escape(shown(units.path))
    image = (
        f'<img src="data:image/png;base64,{b64encode(png_bytes(_pixels(units))).decode("ascii")}" '
        f'alt="Units of {name} across, samples down, white where {state}">'
        if units.map.size
        else ""
    )
    return f'<div class="map"><h5 class="path">{name}</h5>{image}<p>{escape(text)}</p></div>'


def _pixels(units: UnitMap) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Samples `S` down, units `V` across."""
    return np.rint(np.clip(units.map.T, 0, 1) * 255).astype(np.uint8)


def _share(units: UnitMap) -> float:
    """Share of all outputs that are saturated or zero."""
    return float(units.fractions.mean(dtype=np.float64)) if len(units.fractions) else float("nan")
