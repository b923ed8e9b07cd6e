"""RULES, and how a run is judged by them.

Knows which rules there are and the order of their findings, nothing of what they look for.
"""

from collections.abc import Iterable, Sequence

from auscult.core.digest import Digest
from auscult.core.finding import Finding
from auscult.rules.activations import DeadUnits, Saturated
from auscult.rules.attention import AttentionCollapse, AttentionLeak
from auscult.rules.clipping import OverClipping
from auscult.rules.data import (
    ClassImbalance,
    DataLeak,
    InputNotNormalised,
    LabelsCorrupt,
    RepeatedData,
    TargetScale,
)
from auscult.rules.gradients import ExplodingGradient, VanishingGradient, ZeroGradient
from auscult.rules.heads import DoubleSoftmax, SoftmaxWrongAxis, WrongOutputActivation
from auscult.rules.initialization import InitialLoss, RandomGain
from auscult.rules.learning_rate import LrTooHigh, LrTooLow
from auscult.rules.losses import AmpOverflow, LossSpike, NonFinite
from auscult.rules.modes import BatchNormStatistics, TrainEvalMode
from auscult.rules.objectives import LossReduction, ShapeBroadcast, WrongLoss
from auscult.rules.optimizer import MissingZeroGrad, WrongGradientSign
from auscult.rules.progress import NoProgress, Overfitting, OverRegularised, Undertrained
from auscult.rules.rule import Rule
from auscult.rules.structure import HiddenSoftmax, MissingNonlinearity
from auscult.rules.updates import ParameterInNoOptimizer, ParametersNotUpdated
from auscult.rules.weights import BadInitScale, SymmetricInit

RULES: tuple[Rule, ...] = (
    # How the model was built and what its loss is.
    ShapeBroadcast(),
    DoubleSoftmax(),
    SoftmaxWrongAxis(),
    WrongOutputActivation(),
    WrongLoss(),
    HiddenSoftmax(),
    MissingNonlinearity(),
    SymmetricInit(),
    # What it is given.
    InputNotNormalised(),
    TargetScale(),
    ClassImbalance(),
    # How the run was set up.
    RandomGain(),
    BadInitScale(),
    LossReduction(),
    InitialLoss(),
    ParameterInNoOptimizer(),
    ParametersNotUpdated(),
    MissingZeroGrad(),
    WrongGradientSign(),
    TrainEvalMode(),
    AttentionLeak(),
    OverRegularised(),
    OverClipping(),
    LrTooLow(),
    LrTooHigh(),
    # What follows inside the network.
    Saturated(),
    DeadUnits(),
    ExplodingGradient(),
    VanishingGradient(),
    AttentionCollapse(),
    BatchNormStatistics(),
    # How it ends.
    NonFinite(),
    AmpOverflow(),
    ZeroGradient(),
    LossSpike(),
    # What may be so, and cannot be told from outside.
    LabelsCorrupt(),
    RepeatedData(),
    DataLeak(),
    Overfitting(),
    Undertrained(),
    NoProgress(),
)
"""Every rule, causes before consequences: of two findings as severe and as early, the cause is named first."""


def judge(closed: Digest, now: Digest, rules: Sequence[Rule] = RULES) -> list[Finding]:
    """The findings on a run, worst first; as severe and as early, in the order of the rules.

    Args:
        closed: The fold of all closed blocks; what rules other than exact ones look at.
        now: The same with the rows since; what exact rules look at.
        rules: Those to ask.
    """
    return worst_first(finding for rule in rules for finding in rule.check(now if rule.exact else closed))


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in the order in which they are shown; those of one rank stay as they are."""
    return sorted(findings, key=lambda finding: finding.rank)
