"""Rules about the loss call: H004 wrong-loss, H005 shape-broadcast, H006 loss-reduction, H007 targets-are-inputs.

Know the first loss call and how well the run fits since; of losses that are computed by hand, only shapes.
"""

from collections.abc import Iterator
from math import isfinite, prod
from typing import ClassVar

import numpy as np

from auscult.core.audit import Audit, Spread
from auscult.core.digest import Digest
from auscult.core.finding import Evidence, Finding
from auscult.rules.channels import (
    is_broken,
    loss_has_risen,
    lr_of,
    median_over_parameters,
    state_of,
    training_loss,
    update_ratios,
)
from auscult.rules.fit import REGRESSIONS, Fit, fit_of, fit_to_classes, is_poor, of_late
from auscult.rules.output import ALL_ROWS, PROBABILITIES, Head, last_activation, too_good
from auscult.rules.rule import Rule

WITH_LOGITS = "binary_cross_entropy_with_logits"
PROBABLE = frozenset({"cross_entropy", PROBABILITIES, WITH_LOGITS})
BY_HAND = "difference"
ELEMENTWISE = REGRESSIONS | {PROBABILITIES, WITH_LOGITS, BY_HAND, "kl_div"}
SMALL_BATCH = 8
LARGE_RATIO = -1.5  # log10 of the update ratio
COPIED = 0.95
PLAIN_STEPS = (0.5, 20.0)  # update / gradient in learning rates, of SGD without and with momentum


class WrongLoss(Rule):
    """The loss does not measure the task.

    What it means:
        Targets and loss are of different kinds: classes by squared error, one of many classes by a yes-or-no loss for
        each, or targets that are no probabilities by a cross entropy.

    Why it hurts:
        The loss falls while nothing useful is learned. Of C classes a yes-or-no loss is content to say no C times; the
        squared error of a softmax has almost no gradient where it is wrong; a cross entropy of targets outside [0, 1]
        has no lower bound.

    How it is decided:
        From the first loss call and the fit since. *No probabilities*: targets of a cross entropy lie outside [0, 1] by
        more than 0.01; a warning at once. *One of several*: every row of the targets has a single 1 (3 columns or more
        for binary_cross_entropy, 2 for a squared error of rows that sum to 1); a warning while less than a tenth of
        what an uninformed model gets wrong is explained, info otherwise. *Too good*: a loss computed by hand, logged in
        an evaluation with its accuracy, has fallen by half and lies below a fifth of log(2) per sample named wrongly.

    What to try:
        cross_entropy of logits for one of several classes, binary_cross_entropy_with_logits for labels that do not
        exclude each other, mse_loss for numbers.

    Not reported when:
        The loss is computed by hand, without torch.nn.functional, and no evaluation tells its accuracy; or the last
        module is an activation, which H001 judges.

    References:
        TheDeepChecker (TOSEM 2022), mean squared error for classes and cross entropy for numbers; Golik et al.,
        Interspeech 2013, squared error against cross entropy.
    """

    code: ClassVar[str] = "H004"
    name: ClassVar[str] = "wrong-loss"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        audit = digest.audit
        found = too_good(digest) if last_activation(digest) is None else None
        if audit is not None and audit.target is not None:
            found = found or _no_probabilities(audit, audit.target) or _one_of_several(digest, audit)
        if found is None:
            return
        yield found.finding(self.code, self.name, "", "loss")


class ShapeBroadcast(Rule):
    """Each prediction is compared with every target.

    What it means:
        Predictions and targets had different shapes, and neither was stretched to the other: both were, to a larger
        one. (N, 1) against (N,) becomes (N, N).

    Why it hurts:
        Every prediction is pulled to all targets at once. The best that the model can do is to give their mean; the
        loss stops at the variance of the targets.

    How it is decided:
        Exactly, from the first loss call: for a loss that works element by element, the common shape of
        predictions and targets differs from both. Of a loss computed by hand: from the difference of the
        model's output and a tensor without gradient, of as many elements and other dimensions. A warning; info
        where both have the same number of dimensions, three or more, because pairs are then meant (as in
        quantile regression).

    What to try:
        prediction.squeeze(-1), or target.unsqueeze(-1).

    Not reported when:
        One of the two shapes is the common one: a single target for all is a choice.

    References:
        torch.nn.functional.mse_loss warns of "a target size that is different to the input size"; the taxonomy of
        Humbatova et al. (ICSE 2020), wrong shape.
    """

    code: ClassVar[str] = "H005"
    name: ClassVar[str] = "shape-broadcast"
    exact: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        audit = digest.audit
        if audit is None or audit.loss not in ELEMENTWISE:
            return
        try:
            common = np.broadcast_shapes(audit.input_shape, audit.target_shape)
        except ValueError:
            return
        if common in (audit.input_shape, audit.target_shape):
            return
        paired = len(audit.input_shape) == len(audit.target_shape) >= 3
        pairs, count = prod(common), max(prod(audit.input_shape), prod(audit.target_shape))
        floor = None if audit.target is None else audit.target.std**2
        yield Finding(
            self.code,
            self.name,
            "info" if paired else "warning",
            "",
            audit.step,
            summary=f"Predictions {audit.input_shape} and targets {audit.target_shape} were stretched to {common}: "
            "each prediction is compared with every target.",
            evidence=(
                Evidence("compared_pairs", "", audit.step, float(pairs), float(count)),
                Evidence("loss", "", audit.step, audit.value, floor if audit.loss == "mse_loss" else None),
            ),
            advice=(
                "Give both the same shape: prediction.squeeze(-1)."
                if len(audit.input_shape) > len(audit.target_shape)
                else "Give both the same shape: prediction.unsqueeze(-1), or target.squeeze(-1).",
                "Write `assert prediction.shape == target.shape` before the loss.",
            ),
            phase="loss",
            ruled_out=(f"Not the data or the learning rate: {pairs} pairs were made of {count} targets.",),
            confidence=0.4 if paired else 1.0,
        )


class LossReduction(Rule):
    """The loss is a sum over the batch.

    What it means:
        reduction="sum" makes the gradient as many times larger as there are targets in a batch.

    Why it hurts:
        Under SGD the learning rate is in truth the batch size times the one that was set, and it changes with the batch
        size. Clipping then always acts; weight decay is that much weaker. Adam does not notice.

    How it is decided:
        From the first loss call: reduction "sum" over more than 8 targets. Info by itself. A warning when updates
        follow the gradient's size (update norm / gradient norm is 0.5 to 20 learning rates, as of SGD with momentum up
        to 0.95) and they are too large: the run broke, its loss has risen, or the median update ratio was 0.03 or more
        in one of the last 16 blocks; critical where it broke. Then a sum over 2 targets is enough.

    What to try:
        reduction="mean", or the learning rate divided by the batch size.

    Not reported when:
        The loss is summed by hand after reduction="none", or multiplied.

    References:
        TheDeepChecker (TOSEM 2022), poor loss reduction; Defects4ML, sum over the batch in softmax regression.
    """

    code: ClassVar[str] = "H006"
    name: ClassVar[str] = "loss-reduction"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        audit = digest.audit
        if audit is None or audit.reduction != "sum" or not audit.target_shape:
            return
        count = prod(audit.input_shape) if audit.classes is None else prod(audit.target_shape)
        parameters, ratios = update_ratios(digest)
        medians = median_over_parameters(ratios) if parameters else np.empty(0)
        medians = medians[~np.isnan(medians)]
        ratio = float(medians.max()) if len(medians) else float("nan")
        loss = training_loss(digest)
        broken = is_broken(digest) or (loss is not None and loss.state["nonfinite_at"] >= 0)
        large = broken or loss_has_risen(loss) or ratio >= LARGE_RATIO
        alarm = large and count > 1 and _follows_the_gradient(digest)
        if count <= SMALL_BATCH and not alarm:
            return
        lr = lr_of(digest, parameters)
        to = "" if lr is None else f" (lr {lr:.3g} on the sum is lr {lr * count:.3g} on the mean)"
        moved = () if not isfinite(ratio) else (Evidence("update_ratio", "", digest.step, 10**ratio, 10**LARGE_RATIO),)
        yield Finding(
            self.code,
            self.name,
            "info" if not alarm else "critical" if broken else "warning",
            "",
            audit.step,
            summary=f"The loss is the sum over {count} targets, so gradients are {count} times those of the mean{to}.",
            evidence=(Evidence("loss", "", audit.step, audit.value), *moved),
            advice=(
                'Use reduction="mean".',
                f"Or divide the learning rate by {count}.",
            ),
            phase="loss",
            ruled_out=("Not the learning rate by itself: it acts on a sum.",) if alarm else (),
            confidence=0.9 if alarm else 0.5,
        )


class TargetsAreInputs(Rule):
    """The targets are the model's own input.

    What it means:
        Every class that the loss asks for is the token that the model was called with at this very position. For a
        model that predicts the next token the shift by one was forgotten.

    Why it hurts:
        The model learns to hand on what it is given. The loss falls to almost 0 within a few hundred steps, and what
        was learned is of no use where the answer is not in the input.

    How it is decided:
        Exactly, from the first pass: the targets of cross_entropy or nll_loss are class numbers, an input of the model
        is a table of as many whole numbers, none negative, and all targets but those of `ignore_index` equal it,
        element by element; 16 neighbouring targets or more differ, so that it is no chance. Where the model makes the
        loss itself, two of its inputs must, as ids and labels. Info; a warning when 0.95 of what an uninformed model
        gets wrong is explained of late (where the loss has no uninformed level, of the targets that are not of the most
        frequent class): it copies.

    What to try:
        Targets one position later than the inputs: model(tokens[:, :-1]) against tokens[:, 1:].

    Not reported when:
        Targets are shifted, here or inside of the model (then the loss gets shifted ones), or are there at masked
        positions only; another input holds the tokens before the targets, as that of a decoder does; inputs or targets
        are not whole numbers; both were cut by one at the same end. A model that shifts its embeddings, a copying task
        and an autoencoder of tokens have such targets rightly: the first stays at info, the others cannot be told from
        outside (`ignore=["H007"]`).

    References:
        Radford et al., Improving language understanding by generative pre-training (2018), section 3.1: the likelihood
        of a token given those before it.
    """

    code: ClassVar[str] = "H007"
    name: ClassVar[str] = "targets-are-inputs"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        audit, anatomy = digest.audit, digest.anatomy
        if audit is None or anatomy is None or anatomy.same_token is None or anatomy.same_token < 1:
            return
        copied = _copied(digest)
        number = "" if audit.counted is None else f"{audit.counted:,} "
        yield Finding(
            self.code,
            self.name,
            "info" if copied is None else "warning",
            "",
            anatomy.step,
            summary=f"All {number}targets of {audit.loss} equal the model's input at the same position, not at the "
            "next one" + ("." if copied is None else ", and it hands them on: almost none is wrong any more."),
            evidence=(
                Evidence("same_token", "", anatomy.step, anatomy.same_token, 1.0),
                *(() if copied is None else (copied,)),
            ),
            advice=(
                "To predict the next token, shift by one: logits = model(tokens[:, :-1]), targets = tokens[:, 1:].",
                "Leave it if the model shifts its input inside, or is meant to repeat it.",
            ),
            phase="loss",
            ruled_out=("Not targets at masked positions only: the input holds the answer at each of them.",),
            confidence=0.5 if copied is None else 0.9,
        )


def _copied(digest: Digest) -> Evidence | None:
    """What shows that nearly all targets are named right; None where nothing does."""
    fit = fit_to_classes(digest)
    if fit is not None:
        return Evidence(fit.metric, "", fit.step, fit.value, (1 - COPIED) * fit.bound) if fit.share >= COPIED else None
    accuracy, largest = state_of(digest, "batch_accuracy"), state_of(digest, "largest_class")
    if accuracy is None or largest is None:
        return None
    right, bound = of_late(accuracy), 1 - (1 - COPIED) * (1 - of_late(largest))
    return Evidence("batch_accuracy", "", int(accuracy["last_step"]), right, bound) if right >= bound else None


def _no_probabilities(audit: Audit, target: Spread) -> Head | None:
    dense = audit.loss != "cross_entropy" or audit.target_shape == audit.input_shape
    if audit.loss not in PROBABLE or not dense:
        return None
    outside = target.minimum < -0.01 or target.maximum > 1.01
    if not outside:
        return None
    return Head(
        f"{audit.loss} takes probabilities as targets; these run from {target.minimum:.3g} to {target.maximum:.3g}: "
        "it has no lower bound.",
        (
            Evidence("largest_target", "", audit.step, target.maximum, 1.0),
            Evidence("smallest_target", "", audit.step, target.minimum, 0.0),
            Evidence("loss", "", audit.step, audit.value),
        ),
        (
            "Use mse_loss if the targets are numbers.",
            "Use cross_entropy with class numbers (int64) if they are classes.",
        ),
        ("Not the output: whatever it is, these targets are no probabilities.",),
        confidence=1.0,
    )


def _one_of_several(digest: Digest, audit: Audit) -> Head | None:
    columns = audit.target_shape[-1] if len(audit.target_shape) > 1 else 1
    rows = audit.rows_sum_to_one
    softmax = rows is not None and rows >= ALL_ROWS
    binary = audit.loss in (PROBABILITIES, WITH_LOGITS)
    squared = audit.loss in REGRESSIONS
    if not audit.one_hot_targets or not ((binary and columns > 2) or (squared and softmax and columns > 1)):
        return None
    fit = fit_of(digest)
    poor = is_poor(digest)
    what = "a squared error of a softmax" if squared else "a yes-or-no loss for each class"
    if squared and audit.loss != "mse_loss":
        what = f"{audit.loss} of a softmax"
    return Head(
        f"Every target is one of {columns} classes, and the loss is {what}"
        + (f"; {_explained(fit)} has been learned." if poor and fit is not None else "."),
        (
            Evidence("target_columns", "", audit.step, float(columns), 2.0 if binary else 1.0),
            *(() if fit is None else (Evidence(fit.metric, "", fit.step, fit.value, fit.bound),)),
            Evidence("loss", "", audit.step, audit.value, audit.expected),
        ),
        ("Use cross_entropy on the logits, with class numbers as targets (target.argmax(1)).",),
        ("Not the shape or the range of the output: both fit the targets.",),
        "warning" if poor else "info",
        0.8 if poor else 0.4,
    )


def _explained(fit: Fit) -> str:
    return f"{max(fit.share, 0.0):.0%} of what an uninformed model gets wrong"


def _follows_the_gradient(digest: Digest) -> bool:
    """Whether updates are about the gradient times a learning rate, as those of SGD are and Adam's are not."""
    parameters, _ = update_ratios(digest)
    paths = tuple(each.path for each in parameters)
    lr = lr_of(digest, parameters)
    if not paths or lr is None or lr <= 0:
        return False
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients = digest.take("first", "update_norm", paths) / digest.take("first", "grad_norm", paths) / lr
    quotients = quotients[np.isfinite(quotients) & (quotients > 0)]
    return len(quotients) > 0 and bool(PLAIN_STEPS[0] <= np.median(quotients) <= PLAIN_STEPS[1])
