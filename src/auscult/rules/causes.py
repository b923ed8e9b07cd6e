"""Causes: which findings explain which others, and the order in which both are shown.

A table of mechanisms by rule code, and time: nothing begins before what causes it. Knows nothing of digests.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from auscult.core.digest import BLOCK_STEPS
from auscult.core.finding import SEVERITIES, Finding, in_groups

SLACK = BLOCK_STEPS
"""Steps by which a consequence may seem to begin before its cause: onsets are known to a block at worst."""

DIVERGENCE = ("G002", "L004", "L003", "L001", "G004")
DEATH = ("A001", "A002", "G001", "G003")
STANDSTILL = ("U002", "U003", "P004")
HARM = (*DIVERGENCE, *DEATH, "L002", "N002", "P004")

MECHANISMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    # What goes in.
    ("D001", ("I001", "U001", *HARM, "P003")),
    ("D002", ("I001", "U001", "U002", *HARM, "H006")),
    # How the loss is put together.
    ("H005", ("I001", "D003", "H004", "M001", "P003", *STANDSTILL)),
    ("H003", ("I001", "H001", "G001", "G003", "L001", *STANDSTILL)),
    ("H002", ("I001", "H001", "M002", "G003", "G001", "P003", *STANDSTILL)),
    ("H001", ("I001", "H004", "M002", "G001", "G003", "A002", "L001", "P003", *STANDSTILL)),
    ("H004", ("I001", "H006", "L001", "G001", "G003", *STANDSTILL)),
    ("H006", ("I001", "U001", *HARM)),
    # How many ranks train it.
    ("R001", ("R006", *HARM)),
    ("R002", ("L001",)),
    ("R003", ("P001",)),
    # What it learns from.
    ("D003", ("P001",)),
    # How the model is built and begins.
    ("M002", ("G001", "G003", "M003", *STANDSTILL)),
    ("I004", ("A001", "G001", "G003", *STANDSTILL)),
    ("I003", ("I001", "U001", *HARM, *STANDSTILL)),
    ("I002", ("I001", "U001", *HARM, *STANDSTILL)),
    ("M001", ("P003", "P004")),
    ("M004", ("P001", "L001", "P004")),
    # What the training loop leaves out or does wrong.
    ("U006", ("U001", *HARM)),
    ("U005", ("U001", *HARM)),
    ("U004", ("U003", "P003", "P004")),
    ("N001", ("N002", "A001", "P001", "P003", "U003", "P004")),
    # How large the steps are.
    ("U001", (*HARM, "M003")),
    ("M003", ("G003", "G001", "G002", "U002", "P004")),
    ("G002", ("L004", "L003", "L001", "L002", "G004", "A001", "A002", "G001", "N002", "P004")),
    ("L004", ("L003", "L001", "L002", "G004", "P004")),
    ("L003", ("A001", "A002", "G001", "P004")),
    ("L001", ("L002", "A001", "G001", "N002", *STANDSTILL)),
    ("A002", ("G003", "G001", *STANDSTILL)),
    ("A001", ("G001", "G003", *STANDSTILL)),
    ("G001", ("G003", *STANDSTILL)),
    ("G003", STANDSTILL),
    ("L002", STANDSTILL),
    ("G004", ("U002", "P004")),
    ("N002", ("P001", "P004")),
    ("P003", ("P004",)),
    ("U002", ("P004",)),
    ("U003", ("P004",)),
)
"""Code of a cause, and the codes that it explains: the closer to the root of the matter, the further up."""


@lru_cache(maxsize=1)
def explanations() -> dict[str, tuple[str, ...]]:
    """Code of a consequence, and the codes that explain it, the one closest to the root of the matter first."""
    found: dict[str, list[str]] = {}
    for cause, consequences in MECHANISMS:
        for each in consequences:
            found.setdefault(each, []).append(cause)
    return {code: tuple(causes) for code, causes in found.items()}


def explained(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, each with its root as its cause where there is one, in the order in which they are shown.

    Args:
        findings: In the order of the rules.
    """
    ordered = sorted(findings, key=lambda each: each.rank)
    known = explanations()
    nearest = {each.key: _nearest(each, ordered, known.get(each.code, ())) for each in ordered}
    return in_groups(replace(each, cause=_root(each, nearest)) for each in ordered)


def _nearest(finding: Finding, others: Sequence[Finding], causes: tuple[str, ...]) -> Finding | None:
    """The finding that explains one best: the mechanism closest to the root, then the worst, then the earliest."""
    possible = [each for each in others if each.code in causes and _may_cause(each, finding)]
    return min(possible, key=lambda each: causes.index(each.code), default=None)


def _may_cause(cause: Finding, consequence: Finding) -> bool:
    """Whether one is as certain an alarm as the other, goes on as long, and did not begin later."""
    alarm = min(SEVERITIES.index(consequence.severity), SEVERITIES.index("warning"))
    return (
        SEVERITIES.index(cause.severity) >= alarm
        and (cause.status == "active" or consequence.status == "recovered")
        and cause.step <= consequence.step + SLACK
    )


def _root(finding: Finding, nearest: dict[tuple[str, str], Finding | None]) -> tuple[str, str] | None:
    """The end of the chain of causes."""
    cause = nearest[finding.key]
    while cause is not None and (further := nearest[cause.key]) is not None:
        cause = further
    return None if cause is None else cause.key
