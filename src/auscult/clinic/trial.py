"""Trial: what one short training of the clinic came to (a stand-in)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from auscult.core.finding import Finding

Variant = Literal["faulty", "fixed", "control"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One run."""

    case: str
    variant: Variant
    seed: int
    score: float
    nonfinite: bool
    updated: bool
    steps: int
    findings: tuple[Finding, ...] = ()
    path: str = ""
    rivals: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    features: tuple[float, ...] = ()
    depths: Mapping[str, int] = field(default_factory=dict[str, int])
