"""Singles: figures that findings rest on and no chart shows, as a table, so that a finding can lead to each of them."""

from collections.abc import Sequence
from html import escape

from auscult.core.catalogue import METRICS
from auscult.core.finding import Evidence, Finding, in_groups
from auscult.pages.anchor import Anchor, anchor_of
from auscult.pages.charts import Pictures
from auscult.pages.wording import figure, place, shown, shown_lines

CAPTION = "Figures of findings that no chart shows"
MEANINGS = {
    "affine_pairs": "pairs of affine modules with nothing between them",
    "columns_sum_to_one": "share of the columns, over the batch, that are probabilities",
    "compared_pairs": "pairs of a prediction and a target that the loss compares",
    "feature_scale": "largest / smallest standard deviation of the input's features",
    "input_mean": "mean of the model's input",
    "input_shape": "samples in the model's input",
    "input_std": "standard deviation of the model's input",
    "largest_output": "largest element of the model's output",
    "largest_prediction": "largest prediction of the first loss call",
    "largest_target": "largest target of the first loss call",
    "row_sum": "what the rows of the output sum to",
    "rows_log_sum_to_one": "share of the rows of predictions that are log-probabilities",
    "rows_sum_to_one": "share of the rows of predictions that are probabilities",
    "same_token": "share of the targets that are the model's input at their own position",
    "smallest_output": "smallest element of the model's output",
    "smallest_prediction": "smallest prediction of the first loss call",
    "smallest_target": "smallest target of the first loss call",
    "target_columns": "columns of the targets of the first loss call",
}
"""Figures of the first pass and the first loss call that are no metrics."""


def singles(findings: Sequence[Finding], pictures: Pictures) -> tuple[Evidence, ...]:
    """What findings rest on and nothing on the page draws, each figure once, in the order of the cards."""
    found = (each for finding in in_groups(findings) for each in finding.evidence)
    return tuple(dict.fromkeys(each for each in found if anchor_of(each, pictures) is None))


def single_anchor(evidence: Evidence, several: Sequence[Evidence]) -> Anchor:
    """Where one of them stands."""
    return Anchor(f"single-{several.index(evidence) + 1}", evidence.step)


def singles_table(findings: Sequence[Finding], pictures: Pictures) -> str:
    """The figures as HTML, each with what it means and the findings that rest on it."""
    several = singles(findings, pictures)
    if not several:
        return ""
    ordered = in_groups(findings)
    rows = "".join(_row(number, each, ordered) for number, each in enumerate(several, 1))
    head = "".join(f'<th scope="col">{each}</th>' for each in ("figure", "of", "step", "value", "bound", "findings"))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{CAPTION}"><table>'
        f"<caption>{CAPTION}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(number: int, evidence: Evidence, ordered: Sequence[Finding]) -> str:
    resting = [
        f'<a href="#finding-{position}">{escape(shown(each.code))}</a>'
        for position, each in enumerate(ordered, 1)
        if evidence in each.evidence
    ]
    return (
        f'<tr id="single-{number}"><th scope="row">{escape(shown_lines(evidence.metric))}{_meaning(evidence)}</th>'
        f'<td class="{"path" if evidence.path else "quiet"}">{escape(place(evidence.path, evidence.metric))}</td>'
        f"<td>{evidence.step:,}</td><td><strong>{figure(evidence.value)}</strong></td>"
        f"<td>{figure(evidence.bound)}</td><td>{', '.join(resting)}</td></tr>"
    )


def _meaning(evidence: Evidence) -> str:
    known = METRICS.get(evidence.metric)
    words = known.formula if known is not None else MEANINGS.get(evidence.metric, "")
    return f'<br><span class="quiet">{escape(words)}</span>' if words else ""
