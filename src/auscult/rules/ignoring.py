"""Ignoring: patterns of findings that a user does not want to be told.

A pattern is a rule's code or name, both with wildcards, and after a colon a path with wildcards: `U002`,
`U002:head.*`, `dead-units:encoder.*`.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from auscult.core.errors import SetupError
from auscult.core.finding import Finding
from auscult.rules.rule import Rule


class Ignored(NamedTuple):
    """A finding that is not told, and the pattern it fits."""

    finding: Finding
    pattern: str


def checked_patterns(patterns: Any, rules: Sequence[Rule]) -> tuple[str, ...]:
    """Patterns as they are kept with a run.

    Args:
        patterns: What the user gave: a sequence of strings.
        rules: Those that there are.

    Raises:
        SetupError: if it is not a sequence of strings, or one fits no rule or has an empty path.
    """
    if isinstance(patterns, (str, bytes)) or not isinstance(patterns, Iterable):
        raise SetupError(
            f"Expected `ignore` to be a sequence of patterns, but got {patterns!r}. Write ignore=['U002:head.*']."
        )
    checked: list[str] = []
    for each in patterns:  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(each, str):
            raise SetupError(
                f"Expected a pattern of `ignore` to be a string, but got {each!r}. Write ignore=['U002:head.*']."
            )
        rule, colon, path = each.partition(":")
        if not any(_names(rule, known) for known in rules):
            raise SetupError(
                f"Expected the pattern {each!r} of `ignore` to begin with a rule's code or name, but got {rule!r}, "
                "which fits none. Write 'U002', 'lr-too-low' or 'U002:head.*'."
            )
        if colon and not path:
            raise SetupError(
                f"Expected a path after the colon of the pattern {each!r} of `ignore`, but got none. "
                f"Write {rule!r} for every path, or '{rule}:head.*'."
            )
        checked.append(each)
    return tuple(checked)


def sort_out(findings: Iterable[Finding], patterns: Sequence[str]) -> tuple[list[Finding], list[Ignored]]:
    """The findings that are told, and those that fit a pattern with the first that they fit."""
    kept: list[Finding] = []
    ignored: list[Ignored] = []
    for each in findings:
        pattern = next((some for some in patterns if _fits(each, some)), None)
        if pattern is None:
            kept.append(each)
        else:
            ignored.append(Ignored(each, pattern))
    return kept, ignored


def _names(pattern: str, rule: Rule | Finding) -> bool:
    return fnmatchcase(rule.code, pattern) or fnmatchcase(rule.name, pattern)


def _fits(finding: Finding, pattern: str) -> bool:
    rule, colon, path = pattern.partition(":")
    return _names(rule, finding) and (not colon or fnmatchcase(finding.path, path))
