"""Chart: some curves over steps on one pair of axes, with the lines that a reader compares them with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from auscult.core.catalogue import METRICS
from auscult.core.finding import Evidence
from auscult.core.run import Run
from auscult.pages.curve import MAX_POINTS, Curve
from auscult.pages.wording import shown

MAX_CURVES = 6
CHART_POINTS = 5000
"""Of all curves of a chart together: as many as can be drawn anew within a frame."""


@dataclass(frozen=True, slots=True)
class Guide:
    """A line, or a band between two values, that a reader compares a curve with."""

    low: float
    high: float
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """Some curves over steps on one pair of axes.

    Attributes:
        name: Unique on the page; its anchor is `chart-<name>`.
        title: Its heading.
        note: What is drawn, in a sentence or two.
        unit: Unit of the vertical axis.
        log: Whether that axis is logarithmic at first; only where positive values allow it.
        curves: At least one.
        guides: Lines and bands.
        by_depth: Whether the curves are layers in forward order, to be coloured so.
        groups: Which run each curve is of, where there are several: curves of one run share its colour.
    """

    name: str
    title: str
    note: str
    unit: str
    log: bool
    curves: tuple[Curve, ...]
    guides: tuple[Guide, ...] = ()
    by_depth: bool = False
    groups: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "log": self.log and has_positive(self.curves),
            "by_depth": self.by_depth,
            "groups": list(self.groups),
            "curves": [each.to_dict(min(MAX_POINTS, CHART_POINTS // max(1, len(self.curves)))) for each in self.curves],
            "guides": [{"low": each.low, "high": each.high, "text": each.text} for each in self.guides],
        }

    def shows(self, metric: str, path: str) -> bool:
        """Whether one of the curves is this metric of this path."""
        return any(each.series.metric == metric and each.series.path == path for each in self.curves)


def sentence(text: str) -> str:
    """With a capital in front; the rest keeps its own."""
    return text[:1].upper() + text[1:]


def has_positive(curves: Sequence[Curve]) -> bool:
    """Whether a logarithmic axis has anything to show."""
    return any((np.isfinite(each.series.values) & (each.series.values > 0)).any() for each in curves)


def is_wide(curves: Sequence[Curve]) -> bool:
    """Whether all finite values are positive and span more than a factor of 100."""
    finite = [each.series.values[np.isfinite(each.series.values)] for each in curves]
    values = np.concatenate(finite) if finite else np.empty(0)
    return bool(len(values)) and float(values.min()) > 0 and float(values.max()) > 100 * float(values.min())


def curves_of(run: Run, metric: str, paths: Sequence[str]) -> tuple[Curve, ...]:
    """Those of the paths that were observed, each with all of its values."""
    several = [run.series(metric, path) for path in paths] if metric in run.metrics else []
    whole = "whole model" if metric in METRICS and METRICS[metric].scope == "parameter" else shown(metric)
    return tuple(Curve(shown(each.path) or whole, each) for each in several if each.observed)


def each_or_few(run: Run, metric: str, evidence: Sequence[Evidence], limit: int = MAX_CURVES) -> tuple[Curve, ...]:
    """Every path where there are few; of many the ones that findings name, then the first."""
    paths = run.paths(metric)
    named = [each.path for each in evidence if each.metric == metric and each.path in paths]
    return curves_of(run, metric, list(dict.fromkeys((*named, *paths)))[:limit])
