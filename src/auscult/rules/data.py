"""Rules about the data: D001 input-not-normalised to D006 data-leak.

Know the first input and the batches' figures, never a sample. What cannot be told from outside is info at most.
"""

from collections.abc import Iterator
from math import isfinite, log, nan, sqrt
from typing import Any, ClassVar

import numpy as np

from auscult.core.audit import Spread
from auscult.core.digest import BLOCK_STEPS, Digest
from auscult.core.finding import Evidence, Finding
from auscult.core.naming import EVALUATIONS
from auscult.core.run import Module
from auscult.rules.channels import (
    death,
    is_broken,
    leaves,
    loss_has_risen,
    median_over_parameters,
    of_whole_run,
    state_of,
    training_loss,
    update_ratios,
    worded,
)
from auscult.rules.course import course
from auscult.rules.fit import (
    POOR,
    REGRESSIONS,
    fit_of,
    fit_to_classes,
    is_poor,
    median_of_means,
    never_above,
    of_late,
    often_wrong,
)
from auscult.rules.output import wrong_head
from auscult.rules.rule import Rule

LARGE, UNEVEN, UNEVEN_SIZE, TINY, EXTREME = 10.0, 100.0, 3.0, 0.1, 1000.0
SPARSE = 10.0  # largest value / root mean square
RESCALED = 0.1
LOUD_START, LEARNED, SQUASHED = 4.0, 0.5, 0.6
FAR_TARGETS, UNFITTED, RISEN = 10.0, 0.2, 1.2
MAJORITY, BEYOND_MAJORITY, ELSEWHERE = 0.7, 0.3, 0.3
FEW_ROWS = 3
UNMOVED = 0.03
UNMOVED_STEPS = 4 * BLOCK_STEPS
STIRRED = -5.0  # log10 of the update ratio
REPEATED = 0.5
SORTED = 0.95
SAME = 1e-6


class InputNotNormalised(Rule):
    """The inputs are far from the scale that the first layer was initialised for.

    What it means:
        Initial weights are made for inputs of mean 0 and standard deviation 1. These are many times larger or smaller,
        or a few features are so much larger than the rest that the rest is not seen.

    Why it hurts:
        Large inputs make large outputs and a large first gradient: the loss begins far too high, units die, and the
        learning rate that is safe for large features is too small for the others. Tiny ones are barely seen.

    How it is decided:
        From the first input as the model was called with it. *Large*: a root mean square above 10. *Uneven*: one above
        3, and standard deviations of features that differ by more than a factor of 100. *Tiny*: one below 0.1. Info by
        itself, since raw inputs often do no harm. A warning when they do: not even half of what an uninformed model
        gets wrong is explained by now although the first loss was more than 4 times its own or the inputs are extreme
        (a root mean square above 1,000, or features that differ by more than 1,000) or they saturate six tenths of the
        first activation; or after 64 steps less than a tenth is, or no evaluation of four classes or more was right
        half of the time, or the run broke. Critical when most gradients are exactly 0.

    What to try:
        Standardise each feature with the mean and standard deviation of the training data; divide pixels by 255. Where
        they cannot be known, begin with a normalisation layer.

    Not reported when:
        The inputs are integers (ids), the first module that weighs them is an embedding or a normalisation, the first
        layer's outputs are normalised right away, or are ten times smaller than such inputs would make them, because
        they are scaled inside the model. Standardised inputs in [-4, 4] and pixels of 0 to 16 are in range. Inputs are
        not tiny but sparse where the largest is 10 times the root mean square: one of many, word counts, tf-idf.

    References:
        LeCun et al., Efficient BackProp (1998), section 4.3; UMLAUT (CHI 2021) and DeepDiagnosis (ICSE 2022) alarm
        outside [-1, 1], hence also on standardised data: not followed.
    """

    code: ClassVar[str] = "D001"
    name: ClassVar[str] = "input-not-normalised"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, at the first layer."""
        anatomy = digest.anatomy
        if anatomy is None or anatomy.input is None or "float" not in anatomy.input_dtype:
            return
        spread = anatomy.input
        size = sqrt(spread.mean**2 + (0.0 if np.isnan(spread.std) else spread.std) ** 2)
        uneven = anatomy.feature_scale is not None and anatomy.feature_scale > UNEVEN and size > UNEVEN_SIZE
        tiny = 0 < size < TINY and max(abs(spread.minimum), abs(spread.maximum)) < SPARSE * size
        if not isfinite(size) or not (size > LARGE or uneven or tiny):
            return
        first = _first_layer(digest)
        if first is None or _scaled_inside(digest, first, size):
            return
        harm = self._harm(digest, first, size > EXTREME or (uneven and (anatomy.feature_scale or 0.0) > EXTREME))
        how = "tiny" if tiny else "uneven" if uneven and size <= LARGE else "large"
        scales = "" if not uneven else f"; features differ in scale by a factor of {anatomy.feature_scale:.3g}"
        yield Finding(
            self.code,
            self.name,
            "info" if harm is None else "critical" if harm[1].metric == "grad_norm" else "warning",
            first.path,
            anatomy.step,
            summary=f"The inputs are {how}: from {spread.minimum:.3g} to {spread.maximum:.3g}, root mean square "
            f"{size:.3g}{scales}." + ("" if harm is None else f" {harm[0]}"),
            evidence=(
                Evidence("input_std", "", anatomy.step, spread.std, TINY if tiny else LARGE),
                Evidence("input_mean", "", anatomy.step, spread.mean, TINY if tiny else LARGE),
                *(
                    (Evidence("feature_scale", "", anatomy.step, anatomy.feature_scale, UNEVEN),)
                    if uneven and anatomy.feature_scale is not None
                    else ()
                ),
                *(() if harm is None else (harm[1],)),
            ),
            advice=_scaling(spread, uneven),
            phase="data",
            ruled_out=(
                f"Not integers through an embedding: these are {anatomy.input_dtype} and {worded(first)} weighs them.",
                f"Not scaled inside the model: no normalisation stands before or right after {worded(first)}.",
            ),
            confidence=0.5 if harm is None else 0.8,
        )

    def _harm(self, digest: Digest, first: Module, extreme: bool) -> tuple[str, Evidence] | None:
        """In what the run suffers, in words and as a figure; None where it does not."""
        audit, fit, loss = digest.audit, fit_of(digest), training_loss(digest)
        dead = death(digest)
        if dead is not None and not dead.solved:
            return "Most gradients are exactly 0.", Evidence("grad_norm", dead.paths[0], dead.step, 0.0)
        if is_broken(digest):
            return "The run has broken since.", Evidence("finite", "", digest.step, 0.0, 1.0)
        if audit is not None and audit.classes is not None and audit.expected and (fit is None or fit.share < LEARNED):
            times = audit.value / audit.expected
            if times > LOUD_START:
                text = f"The first loss was {times:.1f} times that of an uninformed model."
                return text, Evidence("loss", "", audit.step, audit.value, audit.expected)
        squashed = _saturated_behind(digest, first) if fit is None or fit.share < LEARNED else None
        if squashed is not None:
            return f"They saturate {worded(leaves(digest)[squashed.path])} from the first step on.", squashed
        if not (is_poor(digest, LEARNED if extreme and fit is not None else POOR) or often_wrong(digest) is not None):
            return None
        text = "Little has been learned."
        if fit is not None:
            return text, Evidence(fit.metric, "", fit.step, fit.value, fit.bound)
        wrong = often_wrong(digest)
        if wrong is not None:
            return text, wrong
        if loss is None:
            return None
        late, begun = float(loss.state["recent_mean"][-1]), float(loss.state["first"])
        return text, Evidence(loss.name, "", int(loss.state["last_step"]), late, begun)


def _saturated_behind(digest: Digest, layer: Module) -> Evidence | None:
    """The share of saturated outputs of the module right behind a layer, where it is large from the first step on."""
    order = [*leaves(digest).values()]
    behind = order[order.index(layer) + 1 :][:1]
    state = state_of(digest, "saturated_fraction", behind[0].path) if behind else None
    if state is None or not state["first"] >= SQUASHED or not of_late(state) >= SQUASHED:
        return None
    return Evidence("saturated_fraction", behind[0].path, int(state["first_step"]), float(state["first"]), SQUASHED)


class TargetScale(Rule):
    """The targets are far from where predictions begin.

    What it means:
        A network begins with outputs of about 1 in size; these targets are tens or thousands. The last layer must first
        grow by that factor, most of all its bias.

    Why it hurts:
        With Adam a parameter moves about one learning rate a step, so that the mean of the targets alone takes
        thousands of steps. With SGD the gradient is as large as the targets, and a learning rate that suits it is far
        too small for what comes later.

    How it is decided:
        From the first loss call and the fit. The loss is one of numbers (squared, absolute, Huber), the mean or
        the standard deviation of the targets is above 10 in size, and predictions began at less than a tenth of
        that. Info; a warning when after 64 steps R2 within the batches is still below 0.2 while the loss has
        not risen (above its first value and by a fifth above its level over the first block).

    What to try:
        Standardise the targets and undo it for the predictions; or set the last layer's bias to their mean.

    Not reported when:
        Predictions begin on the targets' scale (an output scaler), the run broke or its loss has risen (then the
        learning rate is the matter), or the output cannot reach the targets (H001).

    References:
        TheDeepChecker (TOSEM 2022), over-scaled outputs; Karpathy, A recipe for training neural networks (2019),
        "init well".
    """

    code: ClassVar[str] = "D002"
    name: ClassVar[str] = "target-scale"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        audit = digest.audit
        if audit is None or audit.loss not in REGRESSIONS or audit.target is None or audit.prediction is None:
            return
        target, prediction = audit.target, audit.prediction
        size = sqrt(target.mean**2 + target.std**2)
        begun = sqrt(prediction.mean**2 + prediction.std**2)
        if not size > FAR_TARGETS or not begun < 0.1 * size or wrong_head(digest) is not None:
            return
        fit = fit_of(digest)
        way = course(digest)
        rises = way is None or not way.now <= RISEN * way.early  # a first batch may happen to be easier
        broken = is_broken(digest) or (rises and loss_has_risen(training_loss(digest)))
        unfitted = digest.step + 1 >= BLOCK_STEPS and fit is not None and -10 < fit.share < UNFITTED
        alarm = unfitted and not broken
        yield Finding(
            self.code,
            self.name,
            "warning" if alarm else "info",
            "",
            audit.step,
            summary=f"Targets have mean {target.mean:.3g} and standard deviation {target.std:.3g}; predictions began "
            f"at {prediction.mean:.2g} +- {prediction.std:.2g}."
            + (f" They have not got there in {digest.step + 1} steps." if alarm else ""),
            evidence=(
                Evidence("target_mean", "", audit.step, target.mean, FAR_TARGETS),
                Evidence("target_std", "", audit.step, target.std, FAR_TARGETS),
                *(() if fit is None else (Evidence(fit.metric, "", fit.step, fit.value, UNFITTED),)),
            ),
            advice=(
                f"Standardise the targets: (target - {target.mean:.4g}) / {target.std:.4g}; undo it for predictions.",
                f"Or begin the last layer's bias at {target.mean:.4g}.",
            ),
            phase="data",
            ruled_out=("Not a learning rate that is too high: the loss has not risen.",) if alarm else (),
            confidence=0.8 if alarm else 0.4,
        )


class ClassImbalance(Rule):
    """One class is most of the data, and the model names it always.

    What it means:
        Most targets of a batch are of one class. Its name alone is right that often, and so often the model is right.

    Why it hurts:
        The loss falls and the accuracy looks good while the other classes are never found.

    How it is decided:
        From the class counts of the batches: the most frequent class holds at least 0.7 on average, and of what it
        leaves the model gets less than three tenths right (accuracy beyond its share), of late and in the last batch
        seen; or an evaluation, which may be balanced, gets three tenths less right than training does: a warning. Info
        where the model does better.

    What to try:
        Weights of 1 / frequency in the loss, or a sampler that draws classes alike; judge by balanced accuracy.

    Not reported when:
        Fewer than three batches were looked at, or the loss has weights already (then the figures are info at most).

    References:
        He and Garcia, Learning from imbalanced data, IEEE TKDE 2009; TheDeepChecker (TOSEM 2022), unbalanced data.
    """

    code: ClassVar[str] = "D003"
    name: ClassVar[str] = "class-imbalance"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        largest, accuracy = state_of(digest, "largest_class"), state_of(digest, "batch_accuracy")
        if largest is None or accuracy is None or min(largest["rows"], accuracy["rows"]) < FEW_ROWS:
            return
        share, right = median_of_means(largest), of_late(accuracy)
        if not share >= MAJORITY or share >= 1:
            return
        now = float(accuracy["last"]) - float(largest["last"]) < BEYOND_MAJORITY * (1 - float(largest["last"])) + SAME
        only = now and right - share < BEYOND_MAJORITY * (1 - share)
        elsewhere = never_above(digest, right - ELSEWHERE)
        alarm = (only or elsewhere is not None) and not _is_weighted(digest)
        entropy = state_of(digest, "target_entropy")
        classes = digest.audit.classes if digest.audit is not None else None
        even = None if not classes or classes < 2 else log(classes)
        step = int(largest["first_step"])
        yield Finding(
            self.code,
            self.name,
            "warning" if alarm else "info",
            "",
            step,
            summary=f"{share:.0%} of the targets are of one class, and {right:.0%} of the predictions are right"
            + (": the model names that class and no other." if only else ".")
            + ("" if elsewhere is None else f" In {elsewhere.metric} it is {elsewhere.value:.0%}."),
            evidence=(
                Evidence("largest_class", "", int(largest["last_step"]), share, MAJORITY),
                Evidence(
                    "batch_accuracy", "", int(accuracy["last_step"]), right, share + BEYOND_MAJORITY * (1 - share)
                ),
                *(() if entropy is None else (Evidence("target_entropy", "", step, of_late(entropy), even),)),
                *(() if elsewhere is None else (elsewhere,)),
            ),
            advice=(
                f"Weigh classes by 1 / frequency: the most frequent one counts {share * (classes or 2):.1f} times its "
                "even share.",
                "Or draw batches with torch.utils.data.WeightedRandomSampler; report balanced accuracy.",
            ),
            phase="data",
            ruled_out=(f"Not a healthy accuracy: {right:.0%} is what naming one class gives.",) if only else (),
            confidence=0.8 if alarm else 0.5,
        )


class LabelsCorrupt(Rule):
    """The loss stays where a model that sees no inputs has it.

    What it means:
        Gradients and updates are healthy, yet the targets are predicted no better than by their frequencies. Inputs may
        say nothing of the targets: labels that belong to other rows, features and labels shuffled apart, noise.

    Why it hurts:
        There is nothing to learn, or only rows to memorise.

    How it is decided:
        For 256 steps or more, and of late: at most 3 % of what an uninformed model gets wrong is explained and it is
        not worse by a tenth either, weights move by more than 1e-5 of themselves a step, and gradients are not zero.
        Classes are compared with what the batches are drawn from: a few samples of many classes are more alike than
        that. Info, because a task that is too hard looks the same.

    What to try:
        Look at a few rows with their labels; overfit a single batch: a sound model can.

    Not reported when:
        The run broke, most gradients are 0, or the loss call was not observed.

    References:
        Karpathy, A recipe for training neural networks (2019), "input-independent baseline", "overfit one batch";
        TheDeepChecker (TOSEM 2022), corrupted labels.
    """

    code: ClassVar[str] = "D004"
    name: ClassVar[str] = "labels-corrupt"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        fit = fit_to_classes(digest)
        if fit is None or digest.step + 1 < UNMOVED_STEPS or not -0.1 < fit.share <= UNMOVED:
            return
        if is_broken(digest) or death(digest) is not None or wrong_head(digest) is not None:
            return
        parameters, ratios = update_ratios(digest)
        ratio = float(median_over_parameters(ratios)[-1]) if parameters else nan
        if not ratio > STIRRED:
            return
        yield Finding(
            self.code,
            self.name,
            "info",
            "",
            0,
            summary=f"After {digest.step + 1} steps the targets are predicted no better than by their frequencies, "
            "although weights move and gradients flow: the inputs may say nothing of the targets.",
            evidence=(
                Evidence(fit.metric, "", fit.step, fit.value, fit.bound),
                Evidence("update_ratio", "", digest.step, 10**ratio, 10**STIRRED),
            ),
            advice=(
                "Look at ten inputs beside their targets, as they enter the loss.",
                "Train on a single batch: if that can be learned, model and loss are sound and the data are not.",
            ),
            phase="data",
            ruled_out=(f"Not a learning rate of 0 or a lost gradient: weights move by {10**ratio:.2g} of themselves.",),
            confidence=0.4,
        )


class RepeatedData(Rule):
    """Batches come again, or come sorted.

    What it means:
        The model is called with a batch that it has been called with before, or each batch holds one class only.

    Why it hurts:
        An iterator that is built anew at every step always gives its first batch, and the rest is never seen. Batches
        of one class pull the model to and fro.

    How it is decided:
        *Repeated*: of three or more batches looked at, at least half equal an earlier one. *Sorted*: the most frequent
        class holds 0.95 of a batch and more in the median, and the mean of the targets differs between batches by more
        than it does within one. Info: full batches and small data sets repeat rightly.

    What to try:
        Iterate over the loader once per epoch, with shuffle=True.

    Not reported when:
        Fewer than three batches were looked at.

    References:
        torch.utils.data.DataLoader, `shuffle`; Humbatova et al. (ICSE 2020), wrong selection of training data.
    """

    code: ClassVar[str] = "D005"
    name: ClassVar[str] = "repeated-or-unshuffled-data"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        repeated = state_of(digest, "repeated_batch")
        if repeated is not None and repeated["rows"] >= FEW_ROWS:
            share = 1 - float(repeated["zeros"]) / float(repeated["rows"])
            if share >= REPEATED:
                yield self._finding(
                    int(repeated["first_step"]),
                    f"{share:.0%} of the batches looked at had been seen before.",
                    (Evidence("repeated_batch", "", int(repeated["last_step"]), share, REPEATED),),
                    "Iterate over the loader in one loop: next(iter(loader)) gives the first batch every time.",
                )
                return
        largest, mean, std = (state_of(digest, name) for name in ("largest_class", "target_mean", "target_std"))
        if largest is None or mean is None or std is None or largest["rows"] < FEW_ROWS:
            return
        between = float(mean["maximum"] - mean["minimum"])
        if of_late(largest) >= SORTED and between > max(of_late(std), 0.5):
            yield self._finding(
                int(largest["first_step"]),
                f"Each batch holds one class ({of_late(largest):.0%} of its targets), and not always the same.",
                (
                    Evidence("largest_class", "", int(largest["last_step"]), of_late(largest), SORTED),
                    Evidence("target_mean", "", int(mean["last_step"]), between, of_late(std)),
                ),
                "Shuffle: DataLoader(..., shuffle=True).",
            )

    def _finding(self, step: int, summary: str, evidence: tuple[Evidence, ...], advice: str) -> Finding:
        return Finding(
            self.code,
            self.name,
            "info",
            "",
            step,
            summary,
            evidence,
            (advice, "Leave it if every step takes all of the data."),
            phase="data",
            confidence=0.5,
        )


class DataLeak(Rule):
    """What is evaluated seems to be what is learned.

    What it means:
        Two evaluations give the same figures to six digits, as of the same rows; or data held out are predicted better
        than the batches that are learned, without dropout or normalisation to explain it.

    Why it hurts:
        The evaluation says nothing of new data.

    How it is decided:
        From what the user logs. *Same*: the first, last, smallest and largest value of the same metric agree between
        two evaluations to 1e-6, and it changed. *Better*: in three or more evaluations the loss was never above the
        lowest mean of the training loss over a block of late, less a tenth. Info: an easy split looks the same.

    What to try:
        Compare the rows of both sets, also for near duplicates; split before anything is fitted or augmented.

    Not reported when:
        There is no evaluation.

    References:
        Kapoor and Narayanan, Leakage and the reproducibility crisis, Patterns 2023; UMLAUT (CHI 2021).
    """

    code: ClassVar[str] = "D006"
    name: ClassVar[str] = "data-leak"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        found = _same_evaluation(digest) or _too_good_evaluation(digest)
        if found is None:
            return
        summary, evidence = found
        yield Finding(
            self.code,
            self.name,
            "info",
            "",
            evidence[0].step,
            summary,
            evidence,
            (
                "Compare the rows of both sets, near duplicates too.",
                "Split first; fit scalers and choose features on training rows alone.",
            ),
            phase="data",
            confidence=0.4,
        )


def _same_evaluation(digest: Digest) -> tuple[str, tuple[Evidence, ...]] | None:
    seen: dict[str, tuple[str, Any]] = {}
    for name in of_whole_run(digest.index):
        owner, _, metric = name.rpartition("/")
        state = state_of(digest, name) if owner else None
        if state is None or state["rows"] < 2 or state["minimum"] == state["maximum"]:
            continue
        if metric not in seen:
            seen[metric] = name, state
            continue
        other, before = seen[metric]
        fields = ("first", "last", "minimum", "maximum")
        if state["rows"] == before["rows"] and all(np.isclose(state[at], before[at], SAME, 0) for at in fields):
            step = int(state["last_step"])
            return f"{name} and {other} are the same at every evaluation.", (
                Evidence(name, "", step, float(state["last"]), float(before["last"])),
            )
    return None


def _too_good_evaluation(digest: Digest) -> tuple[str, tuple[Evidence, ...]] | None:
    loss = training_loss(digest)
    if loss is None or any(each.kind in ("dropout", "normalisation") for each in leaves(digest).values()):
        return None
    recent = loss.state["recent_mean"]
    lowest = float(np.nanmin(recent)) if np.isfinite(recent).any() else nan
    for name in sorted(EVALUATIONS):
        state = state_of(digest, f"{name}/loss")
        if state is not None and state["rows"] >= FEW_ROWS and state["maximum"] < lowest - 0.1 * abs(lowest):
            step = int(state["first_step"])
            return (
                f"{name}/loss was never above {state['maximum']:.3g}, and the training loss not below {lowest:.3g}.",
                (Evidence(f"{name}/loss", "", step, float(state["maximum"]), lowest),),
            )
    return None


def _first_layer(digest: Digest) -> Module | None:
    """The layer that weighs the inputs, where what it makes of them depends on their scale; None otherwise."""
    modules, anatomy = leaves(digest), digest.anatomy
    weighing = ("affine", "normalisation", "embedding", "recurrent", "attention")
    first = next((each for each in modules.values() if each.kind in weighing), None)
    if first is None or first.kind not in ("affine", "recurrent"):
        return None
    follows = [feed.target for feed in anatomy.feeds if feed.source == first.path] if anatomy is not None else []
    return None if any(path in modules and modules[path].kind == "normalisation" for path in follows) else first


def _scaled_inside(digest: Digest, first: Module, size: float) -> bool:
    """Whether the first layer's outputs are far smaller than its weights make of inputs of this root mean square."""
    mean, std = (state_of(digest, name, first.path) for name in ("activation_mean", "activation_std"))
    squares = 0.0
    for each in digest.parameters:
        if each.path.rpartition(".")[0] == first.path and len(each.shape) >= 2:
            norm = state_of(digest, "param_norm", each.path)
            squares += 0.0 if norm is None else float(norm["first"]) ** 2 / each.shape[0]
    if first.kind != "affine" or mean is None or std is None or squares == 0:
        return False
    made = sqrt(float(mean["first"]) ** 2 + float(std["first"]) ** 2)
    return size > 1 and made < RESCALED * size * sqrt(squares)


def _scaling(spread: Spread, uneven: bool) -> tuple[str, ...]:
    each = "Standardise each feature: (x - mean) / std over the training data"
    if uneven:
        return f"{each}, with a mean and a std per column.", "Or begin with a normalisation layer."
    ranged = spread.minimum >= 0 and spread.maximum > 1
    if ranged:
        largest = 255.0 if 200 < spread.maximum <= 255 else spread.maximum
        return f"Divide the inputs by {largest:.4g}.", f"{each} (here {spread.mean:.3g} and {spread.std:.3g} over all)."
    return (
        f"{each}; over all features (x - {spread.mean:.3g}) / {spread.std:.3g}.",
        "Or begin with a normalisation layer.",
    )


def _is_weighted(digest: Digest) -> bool:
    """Whether the loss weighs classes or smooths labels, which leaves it without an uninformed value."""
    audit = digest.audit
    return audit is not None and audit.classes is not None and audit.expected is None and audit.reduction == "mean"
