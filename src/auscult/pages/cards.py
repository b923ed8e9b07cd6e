"""Cards: findings as HTML, each figure linked to the place on the page that shows it."""

from collections.abc import Sequence
from html import escape

from auscult.core.finding import Evidence, Finding, in_groups
from auscult.pages.anchor import anchor_of
from auscult.pages.charts import Pictures
from auscult.pages.singles import single_anchor, singles
from auscult.pages.wording import SEVERITY_WORDS, counted, figure, place, shown, shown_lines

OPEN_CARDS = 12


def cards(findings: Sequence[Finding], pictures: Pictures) -> str:
    """Every finding, worst first; what follows the first dozen is folded away."""
    ordered = in_groups(findings)
    if not ordered:
        return '<p class="quiet">None of the rules found anything to report.</p>'
    alone = singles(findings, pictures)
    html = [_card(position, ordered, pictures, alone) for position in range(len(ordered))]
    rest = "".join(html[OPEN_CARDS:])
    if rest:
        more = counted(len(html) - OPEN_CARDS, "further finding")
        rest = f'<details class="more"><summary>{more}</summary>{rest}</details>'
    return "".join(html[:OPEN_CARDS]) + rest


def _card(position: int, ordered: Sequence[Finding], pictures: Pictures, alone: Sequence[Evidence]) -> str:
    finding = ordered[position]
    recovered = finding.status == "recovered"
    kind = "recovered" if recovered else finding.severity
    badge = SEVERITY_WORDS[finding.severity] + (", recovered" if recovered else "")
    phase = f"<span>{escape(finding.phase)} phase</span>" if finding.phase else ""
    sure = f"<span>confidence {finding.confidence:.0%}</span>" if finding.confidence < 1 else ""
    return (
        f'<article class="card {kind}" id="finding-{position + 1}" aria-labelledby="finding-{position + 1}-name">'
        f'<header><span class="badge">{badge}</span><h3 id="finding-{position + 1}-name">'
        f"{escape(shown_lines(finding.name))} <code>{escape(shown(finding.code))}</code></h3>"
        f'<p class="where"><span class="path">{escape(place(finding.path))}</span>'
        f"<span>since step {finding.step:,}</span>{phase}{sure}</p></header>"
        f'<p class="summary">{escape(shown_lines(finding.summary))}</p>{_cause(finding, ordered)}'
        f'<div class="columns"><div>{_evidence(position, finding, pictures, alone)}</div>'
        f"<div><h4>What to try</h4><ol>{_items(finding.advice)}</ol>{_ruled_out(finding)}</div></div></article>"
    )


def _cause(finding: Finding, ordered: Sequence[Finding]) -> str:
    """What explains a finding, and what it explains, each linked to its card."""
    roots = [place for place, each in enumerate(ordered) if each.key == finding.cause]
    explained = [place for place, each in enumerate(ordered) if each.cause == finding.key]
    sentences = [("A consequence of", roots)] if roots else []
    sentences += [("Explains", explained)] if explained else []
    return "".join(
        f'<p class="quiet">{words} '
        + ", ".join(f'<a href="#finding-{place + 1}">{_title(ordered[place])}</a>' for place in places)
        + ".</p>"
        for words, places in sentences
    )


def _title(finding: Finding) -> str:
    return f"{escape(shown(finding.code))} {escape(shown_lines(finding.name))}"


def _evidence(position: int, finding: Finding, pictures: Pictures, alone: Sequence[Evidence]) -> str:
    rows = "".join(_evidence_row(each, pictures, alone) for each in finding.evidence)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Evidence of finding {position + 1}">'
        '<table class="evidence">'
        '<caption>Evidence</caption><thead><tr><th scope="col">figure</th><th scope="col">of</th>'
        '<th scope="col">step</th><th scope="col">value</th><th scope="col">bound</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _evidence_row(evidence: Evidence, pictures: Pictures, alone: Sequence[Evidence]) -> str:
    anchor = anchor_of(evidence, pictures) or single_anchor(evidence, alone)
    label = anchor.link(shown_lines(evidence.metric))
    kind = "path" if evidence.path else "quiet"
    return (
        f'<tr><th scope="row">{label}</th><td class="{kind}">{escape(place(evidence.path, evidence.metric))}</td>'
        f"<td>{evidence.step:,}</td><td><strong>{figure(evidence.value)}</strong></td><td>{figure(evidence.bound)}</td></tr>"
    )


def _ruled_out(finding: Finding) -> str:
    return f"<h4>Ruled out</h4><ul>{_items(finding.ruled_out)}</ul>" if finding.ruled_out else ""


def _items(sentences: Sequence[str]) -> str:
    return "".join(f"<li>{escape(shown_lines(each))}</li>" for each in sentences)
