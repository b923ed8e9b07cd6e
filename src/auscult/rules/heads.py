"""Rules about the model's output: H001 wrong-output-activation, H002 double-softmax, H003 softmax-wrong-axis.

Know the first loss call, the output of the first pass, and how well the run fits since.
"""

from collections.abc import Iterator
from math import exp, log, nan
from typing import ClassVar

from auscult.core.digest import Digest
from auscult.core.finding import Evidence, Finding
from auscult.rules.channels import worded
from auscult.rules.output import ALL_ROWS, is_squashed_twice, last_activation, over_the_batch, wrong_head
from auscult.rules.rule import Rule

LOGITS = frozenset({"cross_entropy", "binary_cross_entropy_with_logits"})


class WrongOutputActivation(Rule):
    """The model's output cannot take the values that the loss asks for.

    What it means:
        The last activation and the loss do not belong together: a softmax over a single unit is always 1; a ReLU never
        gives what is negative, a sigmoid or tanh nothing beyond 1; a loss that takes log-probabilities gets something
        else.

    Why it hurts:
        A softmax over one unit has a gradient of exactly 0: nothing is ever learned. Elsewhere part of the targets is
        out of reach, or the loss can be made small without a right answer.

    How it is decided:
        From the first pass and the first loss call. *Constant*: the output is exactly 1 everywhere while no parameter
        has a gradient, or cross_entropy has one class; critical. *Not log-probabilities*: nll_loss, and the
        exponentials of a row do not sum to 1. *Never negative*: all predictions are at or above 0 and the last module
        is an activation, or exactly 0 occurs, or there are 8 columns or more that differ; while the loss is
        cross_entropy, or targets are negative by more than a quarter of their standard deviation. *Clamped*:
        binary_cross_entropy was given the output cut to [0, 1], and the output was no sigmoid's. *Bounded*: the last
        activation has never left [-1, 1] so far, targets go beyond 1.5, and less than half is explained. *Too good*: a
        loss computed by hand is far below what its accuracy allows (see H004), and the last module is an activation.
        *Competing*: predictions sum to 1 over a row while several targets of a row are 1, or targets lie outside
        [0, 1].

    What to try:
        No activation before a squared error, cross_entropy or a loss that takes logits; log_softmax before nll_loss;
        a sigmoid for labels that do not exclude each other.

    Not reported when:
        The output is all zeros (a head that begins at zero), or is transformed before the loss in another way: logits
        with a sigmoid outside the model. Rows that sum to 1 in cross_entropy are H002. Logits are similarities between
        the samples of a batch, which are made from the output and may well be positive.

    References:
        DeepLocalize and DeepFD benchmarks: softmax over one unit in 7 programs; TheDeepChecker (TOSEM 2022), outputs
        constant, unable to be negative.
    """

    code: ClassVar[str] = "H001"
    name: ClassVar[str] = "wrong-output-activation"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        found = wrong_head(digest)
        if found is None:
            return
        module = last_activation(digest)
        yield found.finding(self.code, self.name, "" if module is None else module.path, "forward")


class DoubleSoftmax(Rule):
    """Probabilities are given to a loss that makes probabilities of them once more.

    What it means:
        cross_entropy applies a softmax itself, binary_cross_entropy_with_logits a sigmoid. What it was given has been
        through one already.

    Why it hurts:
        A softmax of numbers between 0 and 1 is nearly uniform: of C classes the loss cannot fall below
        ln(e + C - 1) - 1 (1.461 for 10 classes), and gradients are small from the start.

    How it is decided:
        Exactly, from the first loss call. cross_entropy: at least 0.99 of the rows of its input are not negative and
        sum to 1. binary_cross_entropy_with_logits: so are they, or all of its input lies within [0, 1] and the last
        module of the model is an activation, or there are eight columns or more whose mean is 1/2 as that of a sigmoid.

    What to try:
        Give the loss logits: leave out the softmax or sigmoid at the end of the model.

    Not reported when:
        The input are log-probabilities: a softmax of them changes nothing.

    References:
        torch.nn.CrossEntropyLoss, "input is expected to contain the unnormalized logits"; TheDeepChecker (TOSEM 2022).
    """

    code: ClassVar[str] = "H002"
    name: ClassVar[str] = "double-softmax"
    exact: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        audit = digest.audit
        if audit is None or audit.loss not in LOGITS or not is_squashed_twice(digest, audit):
            return
        module = last_activation(digest)
        softmax = audit.loss == "cross_entropy"
        classes = audit.classes or 2
        floor = log(exp(1) + classes - 1) - 1 if softmax else log(1 + exp(-1))
        rows = audit.rows_sum_to_one
        figure = (
            Evidence("rows_sum_to_one", "", audit.step, rows, ALL_ROWS)
            if rows is not None and rows >= ALL_ROWS
            else Evidence(
                "largest_prediction", "", audit.step, nan if audit.prediction is None else audit.prediction.maximum, 1.0
            )
        )
        yield Finding(
            self.code,
            self.name,
            "warning",
            "" if module is None else module.path,
            audit.step,
            summary=f"{audit.loss} was given probabilities, of which it takes a {'softmax' if softmax else 'sigmoid'} "
            f"again: it cannot fall below {floor:.3f}.",
            evidence=(figure, Evidence("loss", "", audit.step, audit.value, floor)),
            advice=(
                f"Pass logits: remove {'the activation at the end' if module is None else worded(module)}.",
                "Or keep it and use nll_loss of its logarithm (log_softmax)."
                if softmax
                else "Or keep it and use binary_cross_entropy.",
            ),
            phase="loss",
            ruled_out=(
                "Not vanishing gradients or a low learning rate: the input of the loss was so at its first call.",
            ),
        )


class SoftmaxWrongAxis(Rule):
    """A softmax runs over the batch.

    What it means:
        Over the samples of a batch each output sums to 1; over the classes of a sample it does not. The softmax was
        taken along dimension 0.

    Why it hurts:
        Samples compete with each other in place of classes: what is predicted for one depends on who else is in the
        batch, and a batch of one is always certain.

    How it is decided:
        Exactly, from the first pass: at least 0.99 of the columns of the output, or of the loss's input, are not
        negative and sum to 1 over a batch of two or more, and less than half of the rows do.

    What to try:
        softmax(dim=-1), or dim=1 for classes in the second dimension; no softmax at all before cross_entropy.

    Not reported when:
        Rows sum to 1 as well, or the output has a single column and no loss takes it as it is: weights of the samples.

    References:
        torch.nn.Softmax, `dim`; TheDeepChecker (TOSEM 2022), softmax over the wrong axis.
    """

    code: ClassVar[str] = "H003"
    name: ClassVar[str] = "softmax-wrong-axis"
    exact: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        found = over_the_batch(digest)
        if found is None:
            return
        step, columns, rows = found
        module = last_activation(digest)
        yield Finding(
            self.code,
            self.name,
            "warning",
            "" if module is None else module.path,
            step,
            summary="The outputs sum to 1 over the samples of the batch and not over the classes: a softmax along "
            "dimension 0.",
            evidence=(
                Evidence("columns_sum_to_one", "", step, columns, ALL_ROWS),
                Evidence("rows_sum_to_one", "", step, rows, 0.5),
            ),
            advice=(
                "Take the softmax over the classes: dim=-1, or dim=1 where they are the second dimension.",
                "Before cross_entropy take none: it has its own.",
            ),
            phase="forward",
            ruled_out=(f"Not a softmax too many: {rows:.0%} of the rows sum to 1.",),
        )
