"""Anchor: where on the page a figure is shown."""

from dataclasses import dataclass
from html import escape

from auscult.core.finding import Evidence
from auscult.pages.charts import Pictures


@dataclass(frozen=True, slots=True)
class Anchor:
    """A place on the page, with the step to mark there.

    Attributes:
        target: Id of the element to scroll to.
        step: The step to mark.
        metric: For a place in the heat map, the metric to choose.
        row: For a place in the heat map, the row to choose.
    """

    target: str
    step: int
    metric: str | None = None
    row: int | None = None

    def link(self, text: str) -> str:
        """An HTML link; `text` is escaped here."""
        row = "" if self.row is None else f' data-metric="{escape(self.metric or "")}" data-row="{self.row}"'
        return f'<a class="evidence" href="#{escape(self.target)}" data-step="{self.step}"{row}>{_breakable(text)}</a>'


def _breakable(text: str) -> str:
    """A name that breaks at its underscores where there is no room."""
    return escape(text).replace("_", "_<wbr>")


def anchor_of(evidence: Evidence, pictures: Pictures) -> Anchor | None:
    """Where an evidence is shown: the heat map row of its path, else the chart with its curve; None for no series."""
    for each in pictures.heatmaps:
        if each.metric == evidence.metric and evidence.path in each.rows:
            return Anchor("heatmap", evidence.step, each.metric, each.rows.index(evidence.path))
    for chart in pictures.charts:
        if chart.shows(evidence.metric, evidence.path):
            return Anchor(f"chart-{chart.name}", evidence.step)
    return None
