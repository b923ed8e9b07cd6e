"""Plot: series on one pair of axes, drawn by matplotlib where that is installed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from auscult.core.errors import MissingExtra
from auscult.core.glance import is_wide
from auscult.core.series import UNITLESS, Series
from auscult.core.visible import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NAMED = 12
UNNAMED = "_"
"""matplotlib leaves what begins like this out of a legend."""


def draw_series(several: Sequence[Series], ax: "Axes | None" = None) -> "Axes":
    """Draw series of one metric over steps.

    The axis is logarithmic where all finite values are positive and the largest is more than a hundred times the
    smallest. A value that is NaN or infinite is a cross at the foot.

    Args:
        several: The curves; of more than a dozen only the first ones are named.
        ax: Where to draw; a figure of its own where there is none.

    Returns:
        The axes, to go on with.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    if ax is None:
        ax = _new_axes()
    for place, each in enumerate(several):
        name = _label(each.path or each.metric) if place < MAX_NAMED else UNNAMED
        (line,) = ax.plot(each.steps, each.values, label=name, marker="." if len(each) == 1 else "", linewidth=1.2)
        bad = each.steps[~np.isfinite(each.values)]
        if len(bad):
            foot = np.full(len(bad), 0.02)
            marks = ax.plot(bad, foot, "x", transform=ax.get_xaxis_transform(), color=line.get_color())
            marks[0].set_label(f"{name}: NaN or inf" if place < MAX_NAMED else UNNAMED)
    values = np.concatenate([each.values[np.isfinite(each.values)] for each in several])
    if len(values) and is_wide(values):
        ax.set_yscale("log")
    unit = several[0].unit
    ax.set_xlabel("step")
    ax.set_ylabel(_label(several[0].metric) + ("" if unit in UNITLESS else f" ({unit})"))
    if len(values) and (len(several) > 1 or several[0].path):
        ax.legend(fontsize="small")
    return ax


def _label(name: str) -> str:
    """A name as matplotlib takes it: a dollar would begin a formula, an underscore in front would hide it."""
    plain = shown(name).replace("$", r"\$")
    return f" {plain}" if plain.startswith(UNNAMED) else plain


def _new_axes() -> "Axes":
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingExtra(
            "Expected matplotlib to be installed, which `run.plot` draws with, but it is not. "
            "Install it: pip install 'auscult[plot]'."
        ) from None
    return pyplot.subplots()[1]
