"""Summary: one run in the listing: its name, what it is doing, how far it is, and the worst that is known of it."""

from dataclasses import asdict, dataclass
from typing import Any

from auscult.core.finding import Finding
from auscult.live.condition import Word
from auscult.live.follower import Follower
from auscult.pages.wording import place, shown, shown_lines

MOST_TEXT = 200
"""Characters of a name or a reason that the listing shows."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One run in the listing.

    Attributes:
        id: Under which it is found.
        place: Its directory, relative to the one that is listed.
        name: What it calls itself.
        word: What it is doing.
        reason: Why that is thought.
        step: Its last recorded step; -1 if there is none.
        began: When it was created, seconds since the epoch; 0 if that is not known.
        written: When its files last grew, likewise.
        severity: Of the worst finding; "" if there is none.
        active: Whether that finding holds now.
        finding: The finding in words.
        since: The step at which it began; -1 without one.
        findings: How many there are.
    """

    id: str
    place: str
    name: str
    word: Word
    reason: str
    step: int
    began: float
    written: float
    severity: str
    active: bool
    finding: str
    since: int
    findings: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def summarise(follower: Follower) -> Summary:
    """One run as it was last looked at."""
    entry, condition, info = follower.entry, follower.condition, follower.info
    findings = follower.findings
    worst = findings[0] if findings else None
    return Summary(
        id=entry.id,
        place=_short(shown(entry.place)),
        name=_short(shown(entry.path.name if info is None else info.name)),
        word=condition.word,
        reason=_short(shown_lines(condition.reason)),
        step=follower.last_step,
        began=0.0 if info is None else info.created,
        written=follower.written,
        severity="" if worst is None else worst.severity,
        active=worst is not None and worst.status == "active",
        finding="" if worst is None else _words(worst),
        since=-1 if worst is None else worst.step,
        findings=len(findings),
    )


def _words(finding: Finding) -> str:
    return _short(f"{shown(finding.code)} {shown_lines(finding.name)} in {place(finding.path)}")


def _short(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…"
