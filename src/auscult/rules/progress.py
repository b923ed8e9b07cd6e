"""Rules about where a run gets to: P001 overfitting, P002 undertrained, P003 over-regularised, P004 no-progress.

Know the losses and accuracies that were logged or observed, not what would have been possible.
"""

from collections.abc import Iterator
from math import ceil, isnan, nan
from typing import Any, ClassVar

import numpy as np

from auscult.core.digest import BLOCK_STEPS, Digest
from auscult.core.finding import Evidence, Finding
from auscult.core.run import Module
from auscult.rules.channels import (
    Logs,
    finite_tail,
    is_broken,
    leaves,
    recent_start,
    roster,
    state_of,
    update_ratios,
    worded,
)
from auscult.rules.course import Course, accuracies, course, evaluations, is_adversarial, travel
from auscult.rules.fit import BY_CHANCE, at_chance
from auscult.rules.rule import Rule

EVALUATED, LASTING, MANY = 4, 3, 8  # evaluations
BY_HEART, WIDE_GAP = 0.9, 0.2  # accuracies
RISEN, RISEN_OF_MANY, CLEARLY, APART, GAP = 1.2, 1.1, 1.5, 2.0, 0.1  # ratios of losses, difference of accuracies
LEFT = 0.9  # share of the first loss
STILL_FALLING, LOWEST, FAR_FROM_DONE = 0.5, 1.02, 0.5  # shares of the mean slope, the best level, the uninformed loss
SHRINKING, HALVED = 0.9, 0.5  # cosine, share of a norm
INWARDS, VANISHED = 0.6, 0.1  # cosine, share of a norm
GUESSING, ABOVE, HARDLY = 0.97, 1.05, 0.8  # shares of the uninformed loss
HEAVY, KEPT = 0.7, 0.1  # dropout rate, share that all dropout layers together keep
WIDER = 1.3  # training loss / evaluation loss
SHORT_RUN, LONG_RUN, ENOUGH_WAY, RELAPSE = 32, 256, 0.1, 2.0  # steps, steps, multiple of a norm, ratio of losses
CONSTANT, COLLAPSED = 0.01, 1e-3  # spread of the outputs / that at the beginning
SOUND = (-4.5, -1.0)  # log10 of the update ratio


class Overfitting(Rule):
    """The training loss falls while the evaluation loss rises.

    What it means:
        What the model still learns holds for the training data only.

    Why it hurts:
        Every further step makes the model worse on data that it has not seen.

    How it is decided:
        From an evaluation whose name says so (`val/loss`), evaluated at least four times: over the blocks that
        hold its last three evaluations or more it never came back within 20 % of its lowest value (10 % where
        they hold eight or more), and the training loss is below half of the evaluation loss. A warning when the
        evaluation accuracy, where both are known, is at least 0.1 below the training accuracy, or, where not,
        when the evaluation loss is 1.5 times its lowest value and above 0.4 of the uninformed loss; info
        otherwise: a loss may rise because right answers become no surer and wrong ones do. Without such a rise,
        a warning when the batches of late are at least nine tenths right (or R2 is 0.9) and the best accuracy
        of all four evaluations or more lies a fifth below that.

    What to try:
        Stop at the lowest evaluation loss; more data or augmentation; weight decay, dropout; a smaller model.

    Not reported when:
        One evaluation went up and the next came back; training loss is above evaluation loss (dropout).

    References:
        AutoTrainer (ICSE 2021): gap of accuracy >= 0.1; Prechelt, Early stopping - but when? (1998): k evaluations in a
        row. UMLAUT's single uptick (CHI 2021) alarms on healthy runs.
    """

    code: ClassVar[str] = "P001"
    name: ClassVar[str] = "overfitting"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, for the evaluation that was made most often."""
        way = course(digest)
        if way is None or is_adversarial(digest) or way.state["minimum"] <= 0:
            return
        for name, state in evaluations(digest, "loss"):
            bound = _risen(state)
            if state["rows"] >= EVALUATED and state["last"] > bound and state["last"] >= APART * way.now:
                yield self._finding(digest, way, name, state, bound)
                return
        yield from self._gap(digest)

    def _gap(self, digest: Digest) -> Iterator[Finding]:
        """The training data are known by heart, and evaluations have been far worse all along."""
        accuracies = _accuracies(digest) or _shares_explained(digest)
        if accuracies is None or accuracies[0].value < BY_HEART:
            return
        (train, last), state = accuracies, state_of(digest, accuracies[1].metric)
        if state is None or state["rows"] < EVALUATED or state["maximum"] > train.value - WIDE_GAP:
            return
        yield Finding(
            self.code,
            self.name,
            "warning",
            "",
            int(state["first_step"]),
            summary=f"{'R2' if train.metric == 'batch_r2' else 'The accuracy'} is {train.value:.0%} in training, and "
            f"never was more than {float(state['maximum']):.0%} in an evaluation ({last.metric}).",
            evidence=(train, last),
            advice=(
                "Get more data or augment them; check that every batch is another one and that evaluation data are "
                "prepared as training data are.",
                "Raise weight decay or dropout; use a smaller model.",
            ),
            phase="data",
            ruled_out=(f"Not a single bad evaluation: there were {int(state['rows'])}.",),
            confidence=0.7,
        )

    def _finding(self, digest: Digest, way: Course, name: str, state: Any, bound: float) -> Finding:
        lowest, last = float(state["minimum"]), float(state["last"])
        accuracies = _accuracies(digest)
        if accuracies is not None:
            alarm = accuracies[0].value - accuracies[1].value >= GAP
        else:
            alarm = last >= CLEARLY * lowest and last >= HARDLY / 2 * (way.uninformed or last)
        alarm = alarm or any(self._gap(digest))
        position = _lowest_block(state)
        step = recent_start(state, position)
        return Finding(
            self.code,
            self.name,
            "warning" if alarm else "info",
            "",
            step,
            summary=f"{name} was lowest at {lowest:.3g} about step {step} and is {last:.3g} now, while the training "
            f"loss has fallen to {way.now:.3g}.",
            evidence=(
                Evidence(name, "", int(state["last_step"]), last, bound),
                Evidence(way.name, "", way.step, way.now, last / APART),
                *(accuracies or ()),
            ),
            advice=(
                f"Stop, or keep the weights of about step {step}.",
                "Get more data or augment them; raise weight decay or dropout; use a smaller model.",
            ),
            phase="data",
            ruled_out=(f"Not a single bad evaluation: none of the last {LASTING} or more was below {bound:.3g}.",),
            confidence=0.9 if alarm else 0.5,
        )


def _risen(state: Any) -> float:
    """The loss above which the last evaluations have stayed, all of them; NaN if they have not."""
    per_block = float(state["rows"]) / float(state["blocks"])
    blocks = max(1, ceil(LASTING / per_block))
    tail, lowest = finite_tail(state["recent_minimum"], blocks), float(state["minimum"])
    bound = lowest * (RISEN_OF_MANY if blocks * per_block >= MANY else RISEN)
    if not lowest > 0 or not state["last"] > bound:
        return nan
    if state["blocks"] == 1:  # the lowest one is among them
        return bound if state["recent_mean"][-1] > bound else nan
    return bound if tail.min() > bound else nan


def _lowest_block(state: Any) -> int:
    lowest = state["recent_minimum"]
    return int(np.where(np.isnan(lowest), np.inf, lowest).argmin()) - len(lowest)


def _accuracies(digest: Digest) -> tuple[Evidence, Evidence] | None:
    """Accuracy in training and in the last evaluation, where both are known."""
    return _both(digest, "batch_accuracy", accuracies(digest))


def _both(digest: Digest, metric: str, evaluated: list[tuple[str, Any]]) -> tuple[Evidence, Evidence] | None:
    train = state_of(digest, metric)
    if train is None or not evaluated or isnan(train["recent_mean"][-1]):
        return None
    name, state = evaluated[0]
    level = float(np.mean(finite_tail(train["recent_mean"], 2)))
    return (
        Evidence(metric, "", int(train["last_step"]), level),
        Evidence(name, "", int(state["last_step"]), float(state["last"]), level - GAP),
    )


def _shares_explained(digest: Digest) -> tuple[Evidence, Evidence] | None:
    """R2 in training and in the last evaluation, where both are known."""
    return _both(digest, "batch_r2", evaluations(digest, "r2"))


class Undertrained(Rule):
    """The run ended while the loss was still falling as it had all along.

    What it means:
        Over the last quarter the loss fell at least half as fast as on average over the run.

    Why it hurts:
        More steps would have brought more; how many is not for a rule to say.

    How it is decided:
        Of a run that has ended with its loss at its lowest level, below its beginning but above half of the uninformed
        loss: the slope over the last quarter of the known blocks is at least half of the mean slope. In a run of a
        single block, the mean of the block is compared with its ends. Always info.

    What to try:
        More steps, or a higher learning rate.

    Not reported when:
        The run goes on, the loss stands still or was lower before, or the uninformed loss is not known.

    References:
        TheDeepChecker (TOSEM 2022): less than 5 % per period is stagnation.
    """

    code: ClassVar[str] = "P002"
    name: ClassVar[str] = "undertrained"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, for the whole run."""
        way = course(digest)
        if way is None or not digest.finished or is_adversarial(digest) or is_broken(digest):
            return
        slopes = _slopes(way)
        if slopes is None or not way.now < (way.uninformed or way.first):
            return
        if not (way.standing >= FAR_FROM_DONE and _is_falling(way)):
            return
        end, mean = slopes
        steps = digest.step + 1
        yield Finding(
            self.code,
            self.name,
            "info",
            "",
            way.step,
            summary=f"The run ended after {steps} steps with the loss at {way.now:.3g} and still falling by "
            f"{end * BLOCK_STEPS:.2g} per {BLOCK_STEPS} steps ({mean * BLOCK_STEPS:.2g} on average).",
            evidence=(way.evidence(way.first),),
            advice=(f"Train longer than {steps} steps, or raise the learning rate.",),
            phase="update",
            confidence=0.5,
        )


def _is_falling(way: Course) -> bool:
    """Whether the loss is at its lowest level and falls at least half as fast as on average since its beginning."""
    slopes = _slopes(way)
    level = min([way.now, *way.means(1)])
    if slopes is None or not (level <= LOWEST * way.best and way.now < way.first):
        return False
    end, mean = slopes
    return end >= STILL_FALLING * mean > 0


def _slopes(way: Course) -> tuple[float, float] | None:
    """Fall per step at the end and on average, from levels of blocks; None where there are too few figures."""
    blocks = int(way.state["blocks"])
    last = int(way.state["last_step"])
    if blocks == 1 and way.state["rows"] > 1:
        middle = float(way.state["recent_mean"][-1])
        return 2 * (middle - float(way.state["last"])) / last, (way.first - float(way.state["last"])) / last
    means = way.means(blocks)
    if len(means) < 2:
        return None
    quarter = max(1, len(means) // 4)
    per_block = last / blocks
    return (
        float(means[-1 - quarter] - means[-1]) / (quarter * per_block),
        float(way.first - means[-1]) / last,
    )


class OverRegularised(Rule):
    """Regularisation is stronger than what there is to learn.

    What it means:
        *Decay*: updates do little but shrink the weights. *Dropout*: so much is dropped that hardly a signal reaches
        the output.

    Why it hurts:
        The model stays, or ends, where one that knows nothing is.

    How it is decided:
        *Decay*: `decay_cosine` is at least 0.9 over the last two blocks in most weights, and the norm of most
        has at least halved. A warning when the loss is at 0.97 of the uninformed loss or above, info otherwise.
        *Vanished*: the first `decay_cosine` was at least 0.6 in the median, the median norm is a tenth of that
        of the first block or less, and the loss is at 0.8 of the uninformed loss or above; a warning.
        *Dropout*: a dropout layer drops 0.7 or more, or all together keep no more than a tenth. A warning when
        the training loss is above 0.8 of the uninformed loss after 256 steps, or after 64 at the end of a run;
        info when it is 1.3 times the evaluation loss.

    What to try:
        A weight decay that is 100 times weaker; dropout of 0.1 to 0.5.

    Not reported when:
        Weights shrink although the loss is low and none of them has halved, as under any weight decay late in a run.

    References:
        Krogh and Hertz, NIPS 1991 (weight decay shrinks by 1 - lr x decay per step); NeuraLint (TOSEM 2021), UMLAUT
        (CHI 2021): dropout above 0.5; Drevo (2026), a shrinking parameter norm.
    """

    code: ClassVar[str] = "P003"
    name: ClassVar[str] = "over-regularised"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, for the whole run."""
        way = course(digest)
        if way is None or is_adversarial(digest) or is_broken(digest):
            return
        finding = self._decay(digest, way) or self._vanished(digest, way) or self._dropout(digest, way)
        if finding is not None:
            yield finding

    def _decay(self, digest: Digest, way: Course) -> Finding | None:
        paths = roster(digest).weights.paths
        cosines = digest.take("recent_mean", "decay_cosine", paths)[:, -2:]
        if 2 * (cosines >= SHRINKING).all(1).sum() < len(paths) or not paths:
            return None
        recent = digest.take("recent", "param_norm", paths)
        shrunk = recent[:, -1] - digest.take("early", "param_norm", paths)[:, 0]
        known = ~(np.isnan(cosines).any(1) | np.isnan(shrunk))
        if not known.any() or 2 * known.sum() < len(paths):
            return None
        cosine, norm = float(np.median(cosines[known].min(1))), 10 ** float(np.median(shrunk[known]))
        if cosine < SHRINKING or norm > HALVED:
            return None
        path = next(path for path, each in zip(paths, known.tolist()) if each)
        state = state_of(digest, "decay_cosine", path)
        assert state is not None
        decays = [float(each["last"]) for each in digest.select("weight_decay")[1]]
        strongest = max(decays, default=0.0)
        to = (
            f"Lower weight_decay {strongest:.2g} -> about {strongest / 100:.1g}."
            if strongest > 0
            else "Lower the penalty on the weights in the loss by a factor of 100."
        )
        return Finding(
            self.code,
            self.name,
            "warning" if way.standing >= GUESSING else "info",
            "",
            _since(state, SHRINKING),
            summary=f"Updates only shrink the weights: decay_cosine is {cosine:.2g}, and the median norm is {norm:.1%} "
            f"of that at the beginning; the loss is {way.now:.3g}.",
            evidence=(
                Evidence("decay_cosine", path, int(state["last_step"]), float(state["recent_mean"][-1]), SHRINKING),
                way.evidence(),
            ),
            advice=(to, "Leave biases and normalisations out of weight decay."),
            phase="update",
            ruled_out=("Not the learning rate: updates go against the weights themselves, not down the gradient.",),
            confidence=0.95 if way.standing >= GUESSING else 0.6,
        )

    def _vanished(self, digest: Digest, way: Course) -> Finding | None:
        """Weights shrank until hardly anything was left, and swing about 0 since."""
        paths = roster(digest).weights.paths
        shrank = digest.take("recent", "param_norm", paths)[:, -1] - digest.take("early", "param_norm", paths)[:, 0]
        cosines = digest.take("first", "decay_cosine", paths)
        known = ~(np.isnan(shrank) | np.isnan(cosines)) & (digest.take("rows", "decay_cosine", paths) > 0)
        if not way.standing >= HARDLY or not known.any() or 2 * known.sum() < len(paths):
            return None
        norm, cosine = 10 ** float(np.median(shrank[known])), float(np.median(cosines[known]))
        if norm > VANISHED or cosine < INWARDS:
            return None
        path = next(path for path, each in zip(paths, known.tolist()) if each)
        state = state_of(digest, "decay_cosine", path)
        assert state is not None
        return Finding(
            self.code,
            self.name,
            "warning",
            "",
            int(state["first_step"]),
            summary=f"Updates shrank the weights from the start on (decay_cosine {cosine:.2g}); the median norm is "
            f"{norm:.1%} of that of the first block, and the loss is {way.now:.3g}.",
            evidence=(Evidence("decay_cosine", path, int(state["first_step"]), cosine, INWARDS), way.evidence()),
            advice=("Lower the penalty on the weights, in the loss or in the optimizer, by a factor of 100.",),
            phase="update",
            ruled_out=("Not a large learning rate: the first updates went against the weights themselves.",),
            confidence=0.9,
        )

    def _dropout(self, digest: Digest, way: Course) -> Finding | None:
        drops = [each for each in leaves(digest).values() if each.kind == "dropout" and each.rate]
        if not drops or digest.step + 1 < BLOCK_STEPS:
            return None
        worst = max(drops, key=lambda each: each.rate or 0.0)
        rate, kept = worst.rate or 0.0, float(np.prod([1 - (each.rate or 0.0) for each in drops]))
        if rate < HEAVY and kept > KEPT:
            return None
        evaluated = [state for _, state in evaluations(digest, "loss") if way.now >= WIDER * state["last"] > 0]
        hardly = way.standing >= HARDLY and (digest.finished or digest.step + 1 >= LONG_RUN)
        if not hardly and not evaluated:
            return None
        return Finding(
            self.code,
            self.name,
            "warning" if hardly else "info",
            worst.path if rate >= HEAVY else "",
            0,
            summary=f"{rate:.0%} are dropped in {worded(worst)}, {len(drops)} dropout layers together keep {kept:.1%}, "
            f"and the training loss is {way.now:.3g}{_beside(way)}.",
            evidence=(
                way.evidence(None if way.uninformed is None else HARDLY * way.uninformed),
                *_accuracy_in_training(digest),
            ),
            advice=(f"Lower dropout {rate:.2g} -> 0.1 to 0.5, and use it in fewer places.",),
            phase="forward",
            ruled_out=_evaluates_better(digest, drops, way),
            confidence=0.8 if hardly else 0.5,
        )


def _since(state: Any, bound: float) -> int:
    below = np.flatnonzero(~(state["recent_minimum"] >= bound))
    position = int(below[-1]) + 1 if len(below) else 0
    return recent_start(state, min(position, len(state["recent_minimum"]) - 1))


def _beside(way: Course) -> str:
    return "" if way.uninformed is None else f", where a model that knows nothing has {way.uninformed:.3g}"


def _accuracy_in_training(digest: Digest) -> tuple[Evidence, ...]:
    both = _accuracies(digest)
    return () if both is None else both


def _evaluates_better(digest: Digest, drops: list[Module], way: Course) -> tuple[str, ...]:
    losses = evaluations(digest, "loss")
    if not losses or not losses[0][1]["last"] < way.now:
        return ()
    name, state = losses[0]
    return (f"Not the data: without dropout the loss is lower ({name} {float(state['last']):.3g}).",)


class NoProgress(Rule):
    """The run has learned nothing, or has lost what it had learned, and no other rule says why.

    What it means:
        After enough steps the training loss is no better than that of a model that gives the same answer to everything,
        or it is far above its own best. Something is wrong; what, this rule does not know.

    Why it hurts:
        The run goes on for nothing.

    How it is decided:
        Of a run whose weights have moved by a tenth of their norm in all and that has ended after 32 steps or
        more or made 256, and of any that has ended after 256. *Guessing*: the loss is at least 0.97 of the
        uninformed loss and no more than 3 % below its level at the beginning or above guessing. It says so when
        the training itself is in order (update ratios between 3e-5 and 0.1, outputs that differ between samples,
        a loss that never rose): then the labels or the inputs say nothing about each other, or there is nothing
        to learn. An evaluation accuracy that never was above 1.5 / C, for C >= 4 outputs, says the same, also
        where the training loss falls: what is learned by heart holds for nothing else. *Collapse*: the same,
        however little the weights moved in 64 steps or more, where outputs differ between samples a thousand
        times less than at first. *Relapse*: the loss of the last two blocks is at least twice the level at the
        beginning or twice the best level and at least the uninformed loss.

    What to try:
        Overfit one batch: a network that cannot do that has a fault in the model, the loss or the optimizer; one that
        can has a fault in the data.

    Not reported when:
        The loss has no uninformed value and did not rise, several optimizers work against each other, the learning
        rate is rising, the loss is already near 0, or another alarm stands that explains it. The loss is at its lowest
        and still comes down from above guessing as fast as on average: a language model begins far above the entropy of
        its tokens.

    References:
        Karpathy, A recipe for training neural networks (2019): overfit one batch; section (e) of our trials: a final
        accuracy at chance alone finds four faults of five.
    """

    code: ClassVar[str] = "P004"
    name: ClassVar[str] = "no-progress"
    unexplained: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, for the whole run."""
        way = course(digest)
        if way is None or is_adversarial(digest) or is_broken(digest):
            return
        if way.standing >= GUESSING and (_is_collapsed(digest) or not (_is_young(digest) or _is_on_its_way(way))):
            yield self._relapse(digest, way) or self._guessing(digest, way)
        else:
            yield from self._chance(digest, way)

    def _chance(self, digest: Digest, way: Course) -> Iterator[Finding]:
        """No evaluation was better than chance."""
        figure = None if _is_young(digest) else at_chance(digest)
        if figure is not None and figure.bound is not None:
            summary = (
                f"After {digest.step + 1} steps {figure.metric} has never been above {figure.value:.3g}; guessing "
                f"gives about {figure.bound / BY_CHANCE:.2g}."
            )
            yield self._finding(digest, way, summary, figure)

    def _relapse(self, digest: Digest, way: Course) -> Finding | None:
        means = way.means(2)
        if way.uninformed is None or len(means) < 2 or way.diverged:
            return None
        bound = max(RELAPSE * min(way.best, way.early), way.uninformed)
        if means.min() < bound:
            return None
        summary = f"The loss is {way.now:.3g} after {way.best:.3g} at its best, and no better than guessing."
        return self._finding(digest, way, summary, way.evidence(bound))

    def _guessing(self, digest: Digest, way: Course) -> Finding:
        sound = way.standing < RELAPSE and _is_sound(digest, way)
        why = ", although updates and outputs are in order" if sound else ""
        summary = (
            f"After {digest.step + 1} steps the loss is {way.now:.3g}; a model that knows nothing has "
            f"{way.uninformed:.3g}{why}."
        )
        return self._finding(digest, way, summary, way.evidence(GUESSING * (way.uninformed or 0.0)))

    def _finding(self, digest: Digest, way: Course, summary: str, figure: Evidence) -> Finding:
        return Finding(
            self.code,
            self.name,
            "warning",
            "",
            way.step,
            summary,
            evidence=(figure, *_at_chance(digest)),
            advice=(
                "Train on one batch only: if the loss does not go to 0, look at the model, the loss and the optimizer; "
                "if it does, look at the data.",
                "Look at inputs and targets of one batch as the loss gets them: do they belong together?",
            ),
            ruled_out=(
                f"Not a young run: {digest.step + 1} steps, in which the median weight moved by "
                f"{travel(digest):.2g} of its norm.",
            ),
            confidence=0.5,
        )


def _is_collapsed(digest: Digest) -> bool:
    """Whether outputs hardly differ between samples any more, against how they did at first."""
    spread = state_of(digest, "output_spread")
    if spread is None or not (digest.finished or digest.step + 1 >= LONG_RUN) or digest.step + 1 < BLOCK_STEPS:
        return False
    return bool(spread["recent_mean"][-1] < COLLAPSED * spread["first"])


def _is_young(digest: Digest) -> bool:
    """Whether it is too early to judge, or the learning rate has just begun to rise."""
    moved = travel(digest)
    rising = all(
        bool(state["last"] > 0 and state["last"] >= state["maximum"] and state["last"] > state["first"])
        for state in digest.select("lr")[1]
    )
    if len(digest.select("lr")[0]) and rising:
        return True
    steps = digest.step + 1
    long, ended = steps >= LONG_RUN, digest.finished and steps >= SHORT_RUN
    return not ((moved >= ENOUGH_WAY and (ended or long)) or (ended and long))


def _is_on_its_way(way: Course) -> bool:
    """Whether the loss, still above guessing, has left its beginning and comes down as fast as it ever did."""
    return way.standing >= ABOVE and way.now <= LEFT * way.first and _is_falling(way)


def _is_sound(digest: Digest, way: Course) -> bool:
    """Whether the training itself is in order: step sizes, outputs that differ, no rise of the loss."""
    known: Logs = update_ratios(digest)[1][:, -2:]
    low, high = SOUND
    steady = bool(len(known) and low <= np.nanmedian(known) <= high) if np.isfinite(known).any() else False
    spread = state_of(digest, "output_spread")
    differs = spread is not None and bool(spread["recent_mean"][-1] > CONSTANT * spread["first"])
    return steady and differs and bool(way.now <= max(way.first, way.early, way.uninformed or 0.0) * RISEN)


def _at_chance(digest: Digest) -> tuple[Evidence, ...]:
    accuracy, largest = state_of(digest, "batch_accuracy"), state_of(digest, "largest_class")
    if accuracy is None or isnan(accuracy["recent_mean"][-1]):
        return ()
    bound = None if largest is None else float(np.nanmean(largest["recent_mean"]))
    return (Evidence("batch_accuracy", "", int(accuracy["last_step"]), float(accuracy["recent_mean"][-1]), bound),)
