"""RULES, and how a run is judged by them.

Knows which rules there are and the order of their findings, nothing of what they look for.
"""

from collections.abc import Iterable, Iterator, Sequence

from auscult.core.digest import Digest
from auscult.core.finding import Finding
from auscult.rules.activations import DeadUnits, Saturated
from auscult.rules.attention import AttentionCollapse, AttentionLeak
from auscult.rules.causes import explained
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
from auscult.rules.ignoring import Ignored, sort_out
from auscult.rules.initialization import InitialLoss, RandomGain
from auscult.rules.learning_rate import LrTooHigh, LrTooLow
from auscult.rules.losses import AmpOverflow, DivergingLoss, LossSpike, NonFinite
from auscult.rules.modes import BatchNormStatistics, TrainEvalMode
from auscult.rules.objectives import LossReduction, ShapeBroadcast, TargetsAreInputs, WrongLoss
from auscult.rules.optimizer import MissingZeroGrad, WrongGradientSign
from auscult.rules.progress import NoProgress, Overfitting, OverRegularised, Undertrained
from auscult.rules.ranks import (
    LaggingRank,
    NonFiniteOnOneRank,
    OutlierRank,
    ReplicasDiffer,
    SameData,
    UnequalBatches,
)
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
    TargetsAreInputs(),
    HiddenSoftmax(),
    MissingNonlinearity(),
    SymmetricInit(),
    # What it is given.
    InputNotNormalised(),
    TargetScale(),
    ClassImbalance(),
    # How many ranks train it.
    ReplicasDiffer(),
    SameData(),
    UnequalBatches(),
    OutlierRank(),
    LaggingRank(),
    NonFiniteOnOneRank(),
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
    DivergingLoss(),
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
    """The findings on a run, as `judgement` has them.

    Args:
        closed: The fold of all closed blocks; what rules other than exact ones look at.
        now: The same with the rows since; what exact rules look at.
        rules: Those to ask.
    """
    return judgement(asked(closed, now, rules), closed.segments[-1].ignore)[0]


def asked(closed: Digest, now: Digest, rules: Sequence[Rule] = RULES) -> Iterator[Finding]:
    """What rules find, in their order; as in `judge`. Before the first block has closed exact ones alone are asked."""
    for rule in rules:
        if rule.exact or closed.told:
            yield from rule.check(now if rule.exact else closed)


def judgement(findings: Iterable[Finding], ignore: Sequence[str]) -> tuple[list[Finding], list[Ignored]]:
    """What is told of what the rules found, and what is not because the user ignores it.

    Args:
        findings: In the order of the rules.
        ignore: Patterns, as `checked_patterns` gives them.

    Returns:
        The findings in groups, worst first, each with its cause; then the ignored ones. A rule that only says that
        something is wrong is silent where an active alarm, ignored or not, says what.
    """
    some = list(findings)
    vague = {rule.code for rule in RULES if rule.unexplained}
    told = any(each.status == "active" and each.severity != "info" and each.code not in vague for each in some)
    kept, ignored = sort_out((each for each in some if not (told and each.code in vague)), ignore)
    return explained(kept), ignored
