"""Rules about how a run begins: I001 initial-loss.

Knows what the first loss call looked like and nothing that came after.
"""

from collections.abc import Iterator
from math import isfinite, prod
from typing import ClassVar

from auscult.core.digest import Digest
from auscult.core.finding import Evidence, Finding
from auscult.core.run import Audit
from auscult.rules.rule import Rule

RELATIVE, ABSOLUTE = 1.5, 0.5
ALARM = 4.0
REGRESSION = 10.0


class InitialLoss(Rule):
    """The first loss is far above that of a model that knows nothing.

    What it means:
        A classifier that gives every class the same probability has a loss of -log(1/C). This one began well above:
        it was confidently wrong before it had learned anything, so its logits are too large.

    Why it hurts:
        The first steps are spent on squashing the logits (a loss curve like a hockey stick), and the same scale often
        saturates activations on the way. Runs on easy data recover; the time is lost.

    How it is decided:
        From the first loss call alone. Classification: loss > 1.5 x and > 0.5 above -log(1/C) gives info, > 4 x a
        warning, unless parameters are frozen: a new head on a pretrained network often begins at 2 or 3 times. A summed
        loss is divided by the number of targets first. Squared error: loss > 10 x the variance of the targets gives
        info, since the right scale of a regression is for the user to know.

    What to try:
        Scale down the last layer's initial weights (x 0.1, or 0.01) and set its bias to 0; standardise the inputs;
        initialise hidden layers with gain / sqrt(fan_in).

    Not reported when:
        The loss call was not observed, has no uninformed value, or lies at or below it (a fine-tuned start).

    References:
        Karpathy, makemore part 3 (2022): 27.88 against 3.2958 expected; Karpathy, A recipe for training neural networks
        (2019), "verify loss @ init".
    """

    code: ClassVar[str] = "I001"
    name: ClassVar[str] = "initial-loss"
    exact: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        audit = digest.audit
        if audit is None or audit.expected is None or not isfinite(audit.value) or audit.expected <= 0:
            return
        value = audit.value / prod(audit.target_shape) if audit.reduction == "sum" else audit.value
        frozen = any(not each.trainable for each in digest.parameters)
        if audit.classes is None:
            yield from self._regression(audit, value, audit.expected)
        elif value > max(RELATIVE * audit.expected, audit.expected + ABSOLUTE):
            alarm = value > ALARM * audit.expected and not frozen
            yield self._classification(audit, value, audit.expected, audit.classes, alarm)

    def _classification(self, audit: Audit, value: float, expected: float, classes: int, alarm: bool) -> Finding:
        return Finding(
            self.code,
            self.name,
            "warning" if alarm else "info",
            "",
            audit.step,
            summary=f"The first loss was {value:.4g}; a model that knows nothing of {classes} classes has "
            f"{expected:.4g}. It began {value / expected:.1f} times as high: the logits are too large.",
            evidence=(Evidence("loss", "", audit.step, value, expected),),
            advice=(
                "Scale the last layer's initial weight by 0.1 and set its bias to 0.",
                "Standardise the inputs (mean 0, standard deviation 1 per feature).",
                "Initialise hidden layers with gain / sqrt(fan_in), as torch.nn.init.kaiming_normal_ does.",
            ),
            phase="forward",
            confidence=0.9,
        )

    def _regression(self, audit: Audit, value: float, expected: float) -> Iterator[Finding]:
        if value <= REGRESSION * expected:
            return
        yield Finding(
            self.code,
            self.name,
            "info",
            "",
            audit.step,
            summary=f"The first loss was {value:.4g}, {value / expected:.0f} times the variance of the targets "
            f"({expected:.4g}): predictions begin far from the targets' mean.",
            evidence=(Evidence("loss", "", audit.step, value, expected),),
            advice=(
                "Standardise the targets, or set the last layer's bias to their mean.",
                "Standardise the inputs.",
            ),
            phase="forward",
            confidence=0.6,
        )
