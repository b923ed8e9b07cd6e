"""RULES, and how a run is judged by them.

Knows which rules there are and the order of their findings, nothing of what they look for.
"""

from collections.abc import Sequence

from auscult.core.digest import Digest
from auscult.core.finding import Finding
from auscult.rules.activations import DeadUnits, Saturated
from auscult.rules.gradients import ClippingAlways, ExplodingGradient, VanishingGradient, ZeroGradient
from auscult.rules.initialization import InitialLoss
from auscult.rules.losses import EveryUpdateSkipped, NonFinite
from auscult.rules.rule import Rule
from auscult.rules.updates import LrTooHigh, LrTooLow, ParameterInNoOptimizer, ParameterNeverUpdated

RULES: tuple[Rule, ...] = (
    NonFinite(),
    EveryUpdateSkipped(),
    ZeroGradient(),
    ExplodingGradient(),
    VanishingGradient(),
    ClippingAlways(),
    LrTooHigh(),
    LrTooLow(),
    ParameterNeverUpdated(),
    ParameterInNoOptimizer(),
    InitialLoss(),
    DeadUnits(),
    Saturated(),
)
"""Every rule, invariants first."""


def judge(closed: Digest, now: Digest, rules: Sequence[Rule] = RULES) -> list[Finding]:
    """The findings on a run, worst first.

    Args:
        closed: The fold of all closed blocks; what rules other than exact ones look at.
        now: The same with the rows since; what exact rules look at.
        rules: Those to ask.
    """
    findings = [finding for rule in rules for finding in rule.check(now if rule.exact else closed)]
    return sorted(findings, key=lambda finding: finding.rank)
