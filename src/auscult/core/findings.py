"""Findings: the list that `diagnose` gives, which shows itself in a notebook."""

from auscult.core.finding import Finding
from auscult.core.glance import folded, glance, listing, text

SHOWN = 20


class Findings(list[Finding]):
    """Findings, active before recovered, worst first; a list like any other.

    In a notebook each is one line that opens: what happened, the figures that prove it, and what to try.
    """

    def _repr_html_(self) -> str:
        count = f"{len(self):,} finding{'' if len(self) == 1 else 's'}" if self else "No findings"
        cards = [_card(each, unfolded=place == 0) for place, each in enumerate(self[:SHOWN])]
        rest = f"<p>and {len(self) - SHOWN:,} more</p>" if len(self) > SHOWN else ""
        return glance(count, (), *cards, rest)


def _card(finding: Finding, unfolded: bool) -> str:
    recovered = finding.status == "recovered"
    word = f"{finding.severity}, recovered" if recovered else finding.severity
    where = finding.path or "the whole run"
    return folded(
        f"{word}: {finding.name} ({finding.code}) in {where} since step {finding.step:,}",
        "recovered" if recovered else finding.severity,
        f"<p>{text(finding.summary)}</p>{listing([str(each) for each in finding.evidence], 4)}"
        f"<p>What to try:</p>{listing(finding.advice, 4)}",
        unfolded,
    )
