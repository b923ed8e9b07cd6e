"""Finding: what is wrong, where, since when, the figures that prove it, and what to try."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import nan
from typing import Any, Literal, cast, get_args

from auscult.core.errors import SetupError

Severity = Literal["info", "warning", "critical"]
Status = Literal["active", "recovered"]
Phase = Literal["data", "forward", "loss", "backward", "update"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One figure that proves a finding.

    Attributes:
        metric: Name of the metric.
        path: Its path; `""` is the whole run.
        step: The step at which it was measured.
        value: The value; NaN and infinities are meant as they stand.
        bound: The bound it is judged against, or None where none applies.
    """

    metric: str
    path: str
    step: int
    value: float
    bound: float | None = None

    def __post_init__(self) -> None:
        if self.value != self.value:  # one NaN object for all, so that equal evidence compares equal
            object.__setattr__(self, "value", nan)

    def __str__(self) -> str:
        name = f"{self.metric} of {self.path}" if self.path else self.metric
        bound = "" if self.bound is None else f" (bound {self.bound:.3g})"
        return f"{name} = {self.value:.4g} at step {self.step}{bound}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A diagnosis; (code, path) is its identity.

    Attributes:
        code: Stable code, a letter and three digits; never reused.
        name: Kebab-case name of the rule.
        severity: `info`, `warning` or `critical`.
        status: `active`, or `recovered` when the condition no longer holds.
        phase: The part of a training step in which it arises, where that is known.
        path: The parameter or module concerned; `""` is the whole run.
        step: The step at which it began (onset).
        summary: One sentence with what happened, where and since when.
        evidence: At least one figure, the most telling first.
        advice: At least one thing to try, the most promising first.
        ruled_out: Neighbouring causes it was told apart from, each with the figure that did so.
        confidence: Between 0 and 1; 1 for exact invariants.
        cause: Identity (code and path) of the finding that explains this one; None for one that stands by itself.
    """

    code: str
    name: str
    severity: Severity
    path: str
    step: int
    summary: str
    evidence: tuple[Evidence, ...]
    advice: tuple[str, ...]
    status: Status = "active"
    phase: Phase | None = None
    ruled_out: tuple[str, ...] = ()
    confidence: float = 1.0
    cause: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if not self.evidence or not self.advice:
            raise SetupError(
                f"Expected {self.code} {self.name} to carry at least one evidence and one advice, but got "
                f"{len(self.evidence)} and {len(self.advice)}."
            )

    @property
    def key(self) -> tuple[str, str]:
        """Its identity: two findings with one key are the same finding at two times."""
        return self.code, self.path

    @property
    def rank(self) -> tuple[int, int, int]:
        """Sort key: active before recovered, worst first, then earliest.

        Findings of one rank keep the order in which the rules gave them.
        """
        return int(self.status == "recovered"), -SEVERITIES.index(self.severity), self.step

    def __str__(self) -> str:
        recovered = " (recovered)" if self.status == "recovered" else ""
        return f"{self.code} {self.name}: {self.summary}{recovered} [{self.evidence[0]}] Try: {self.advice[0]}"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types; NaN and infinities become the strings `"nan"`, `"inf"`, `"-inf"`."""
        plain = asdict(self)
        for each in plain["evidence"]:
            each["value"] = number_to_json(each["value"])
            each["bound"] = None if each["bound"] is None else number_to_json(each["bound"])
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Finding":
        """The inverse of `to_dict`."""
        evidence = tuple(
            Evidence(
                each["metric"],
                each["path"],
                int(each["step"]),
                float(each["value"]),
                None if each["bound"] is None else float(each["bound"]),
            )
            for each in plain["evidence"]
        )
        fields = {**plain, "evidence": evidence, "advice": tuple(plain["advice"])}
        cause = None if plain.get("cause") is None else tuple(plain["cause"])
        return cls(**cast("dict[str, Any]", {**fields, "ruled_out": tuple(plain["ruled_out"]), "cause": cause}))


def in_groups(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in the order in which they are shown: each cause with its consequences behind it, worst group first.

    A group stands where the worst of it would by its rank; findings of one rank stay as they are.
    """
    ordered = sorted(findings, key=lambda each: each.rank)
    keys = {each.key for each in ordered}
    roots = [each.cause or each.key for each in ordered]
    roots = [root if root in keys else each.key for root, each in zip(roots, ordered, strict=True)]
    first = {root: place for place, root in reversed(list(enumerate(roots)))}
    places = sorted(range(len(ordered)), key=lambda place: (first[roots[place]], roots[place] != ordered[place].key))
    return [ordered[place] for place in places]


def consequences(finding: Finding, findings: Iterable[Finding]) -> list[Finding]:
    """Those findings that one explains."""
    return [each for each in findings if each.cause == finding.key]


def number_to_json(value: float) -> float | str:
    """A float as strict JSON allows it: non-finite numbers as strings that `float` reads back."""
    return value if value - value == 0 else str(float(value))
