"""Rules about the learning rate: U001 lr-too-high, U002 lr-too-low.

Know what was really applied to the parameters, not what the optimizer meant to do.
"""

from collections.abc import Iterator
from math import isnan
from typing import Any, ClassVar, NamedTuple

import numpy as np

from auscult.core.digest import BLOCK_STEPS, Digest
from auscult.core.finding import Evidence, Finding, Severity
from auscult.core.run import Parameter
from auscult.rules.channels import (
    Logs,
    finite_tail,
    is_broken,
    leaves,
    loss_has_fallen,
    loss_has_risen,
    lr_of,
    median_over_parameters,
    norm_of_all,
    recent_start,
    state_of,
    training_loss,
    update_ratios,
)
from auscult.rules.clipping import clipped_throughout
from auscult.rules.course import Course, course, is_adversarial, travel
from auscult.rules.rule import Rule

HIGH, BOLD, RISKY, HEALTHY, LOW = -1.0, -1.7, -2.0, -3.0, -6.0  # log10 of the update ratio
LEAP = 0.3
LATE, RISE, FLAT = 8, 0.5, 0.02  # blocks, decades, share of the loss
GREW, OUTGROWN = 10.0, 3.0  # ratios of norms
FAR, GUESSING, STUCK, LOST = 2.0, 0.95, 0.9, 0.8  # shares of the uninformed loss
RELAPSE = 1.15  # share of the best level
LOW_BLOCKS = 4
LEARNED, ROSE = 0.5, 1.5  # multiples of the first loss
ALIVE, DEAD, SEVERAL = 0.5, 0.6, 8  # shares of units, units
DEADLY = -1.82  # log10 of the update ratio: 0.015
ANNEALED, GONE = 0.1, 1e-3  # shares of the highest learning rate
SHORT_WAY, UNMOVED, LONG_RUN = 0.1, 0.85, 256  # multiple of a norm, share of the loss, steps
ABSURD = 10.0  # a learning rate
UNLEARNED = 0.5  # share of the uninformed loss


class LargeUpdates(NamedTuple):
    """Since when weights have moved by how much of themselves per step."""

    step: int
    ratio: float


class LrTooHigh(Rule):
    """Updates are too large for the weights they change.

    What it means:
        The median weight moves by at least 10 % of its norm per step, or did so in one step that threw the run off;
        about 0.1 % is usual. Nothing learned in one step is left ten steps later.

    Why it hurts:
        The loss jumps or rises, ReLUs die, numbers overflow.

    How it is decided:
        By the size of updates together with what came of them; size alone is no fault. Ratios are update_norm /
        param_norm, median over all matrices and kernels that an optimizer holds, from block medians. *Lasting*: at
        least 0.1 in both of the last two blocks. A warning; critical when the loss is above its first value; info when
        the run learns all the same: the loss has fallen by a tenth of its first value, or, with a ratio of 0.3 and
        more, by half of it. *Restless*: at least 0.02 in both of the last two blocks while the loss of both is at least
        twice that of a model that knows nothing; critical. *Leap*: the largest update of the median weight was at least
        0.1 of its largest norm, the loss rose to at least twice its first and twice the uninformed level, and is now no
        better than guessing (0.95 of that level); critical. *Broken*: parameters became non-finite or most gradients
        exactly 0, and the largest update was as large as that, or the first one was at least 0.3 of the weights that it
        left; critical. *Replaced*: the first update was as large as that, or the median norm has tripled with a ratio
        of 0.01 in a block; weights have moved by twice their norm or more in all, and after 256 steps the loss lies
        between 0.9 and twice the uninformed loss; a warning. *Relapse*: after its best block the loss rose by 15 % or
        more, both of the last two blocks lie above 0.8 of the uninformed loss, and in a block since the best one the
        ratio was at least 0.01; a warning. *Death*: the ratio was at least 0.015 in one of the first four blocks, the
        median weight has eight units or more, and in half of the modules or more, of which fewer than half of the units
        were dead at first, six tenths are now; a warning, info where the loss has fallen by half and was never 1.5
        times its first. *Late*: over the last sixteen blocks the ratio has risen threefold to above 1e-3 under a
        learning rate that did not rise, while the loss moved by less than 2 %: info, it may be overshooting a flat
        basin.

    What to try:
        The learning rate that would bring the median update ratio to 1e-3, which the advice computes.

    Not reported when:
        The run is younger than two blocks and goes on (a zero-initialised matrix moves by all of itself at first).

    References:
        Karpathy, makemore part 3 (2022), update:data ratio; Drevo (2026), above 1e-2 is risky; TheDeepChecker (TOSEM
        2022), log10 > -1. A bound on the learning rate itself (UMLAUT, CHI 2021: 0.01) alarms on SGD with 0.1.
    """

    code: ClassVar[str] = "U001"
    name: ClassVar[str] = "lr-too-high"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, for the whole run."""
        parameters, ratios = update_ratios(digest)
        if not parameters:
            return
        state, way = state_of(digest, "update_norm", parameters[0].path), course(digest)
        medians = median_over_parameters(ratios)
        if is_broken(digest):
            found = _largest(digest, parameters) or _replacing(digest, parameters)
            if found is not None:
                what = (
                    f"Weights changed by {_moved(found, parameters)} at step {found.step}, after which the run broke."
                )
                yield self._finding(digest, parameters, found, "critical", what)
        elif (found := _lasting(state, medians, HIGH)) is not None:
            what = f"Weights have changed by {_moved(found, parameters)} at every step since step {found.step}."
            yield self._finding(digest, parameters, found, _severity(digest, found), what)
        elif way is not None and not is_adversarial(digest):
            finding = self._by_what_came_of_it(digest, parameters, medians, state, way)
            finding = finding or self._relapse(digest, parameters, medians, way)
            finding = finding or self._replaced(digest, parameters, medians, way)
            finding = finding or self._death(digest, parameters)
            finding = finding or self._late(digest, parameters, medians, state, way)
            if finding is not None:
                yield finding

    def _by_what_came_of_it(
        self, digest: Digest, parameters: list[Parameter], medians: Logs, state: Any, way: Course
    ) -> Finding | None:
        if way.uninformed is None:
            return None
        if not way.standing >= GUESSING:
            return None
        restless, means = _lasting(state, medians, BOLD), way.means(2)
        if restless is not None and len(means) and means.min() >= FAR * way.uninformed:
            what = (
                f"Weights have changed by {_moved(restless, parameters)} at every step since step {restless.step}, and "
                f"the loss is {way.standing:.2g} times that of a model that knows nothing."
            )
            return self._finding(digest, parameters, restless, "critical", what)
        peak, at = float(way.state["maximum"]), int(way.state["maximum_at"])
        leap = _largest(digest, parameters)
        if leap is None or peak < FAR * max(way.first, way.uninformed):
            return None
        what = (
            f"Weights changed by {_moved(leap, parameters)} at step {leap.step}; the loss rose to {peak:.3g} at step "
            f"{at} and has been no better than guessing since."
        )
        return self._finding(digest, parameters, leap, "critical", what)

    def _relapse(self, digest: Digest, parameters: list[Parameter], medians: Logs, way: Course) -> Finding | None:
        means = way.state["recent_mean"]
        if not way.standing >= LOST or np.isnan(means[-2:]).any() or np.isnan(medians[-2:]).any():
            return None
        best = int(np.where(np.isnan(means), np.inf, means).argmin())
        level, since = float(means[best]), medians[best:]
        if best >= len(means) - 2 or means[-2:].min() < max(RELAPSE * level, LOST * (way.uninformed or 0.0)):
            return None
        ratio = float(np.nanmax(since))
        if ratio < RISKY:
            return None
        found = LargeUpdates(recent_start(way.state, best + 1), 10**ratio)
        what = (
            f"The loss was {level:.3g} and has risen to {way.now:.3g} since step {found.step}, while weights changed "
            f"by up to {_moved(found, parameters)} per step."
        )
        return self._finding(digest, parameters, found, "warning", what)

    def _replaced(self, digest: Digest, parameters: list[Parameter], medians: Logs, way: Course) -> Finding | None:
        """Little is left of the initial weights, and nothing has been learned since."""
        means, moved = way.means(2), travel(digest)
        if way.uninformed is None or digest.step + 1 < LONG_RUN or not moved >= FAR:
            return None
        found = _replacing(digest, parameters) or _outgrowing(digest, parameters, medians)
        if (
            found is None
            or len(means) < 2
            or means.min() < STUCK * way.uninformed
            or means.max() > FAR * way.uninformed
        ):
            return None
        what = (
            f"An update was {_moved(found, parameters)}, all together were {moved:.2g} norms, and after "
            f"{digest.step + 1} steps the loss is {way.standing:.2g} times that of a model that knows nothing."
        )
        return self._finding(digest, parameters, found, "warning", what)

    def _death(self, digest: Digest, parameters: list[Parameter]) -> Finding | None:
        paths = tuple(leaves(digest))[:-1]
        first, late = digest.take("first", "dead_fraction", paths), digest.take("recent_mean", "dead_fraction", paths)
        known = ~np.isnan(first)
        died = known & (first < ALIVE) & (late[:, -2:].min(1, initial=1.0) >= DEAD)
        if not died.any() or 2 * died.sum() < known.sum():
            return None
        weights = tuple(each.path for each in parameters)
        early = digest.take("early", "update_norm", weights) - digest.take("early", "param_norm", weights)
        ratio = float(np.fmax.reduce(median_over_parameters(early), initial=-np.inf))
        if ratio < DEADLY or np.median([each.shape[0] for each in parameters]) < SEVERAL:
            return None
        found = LargeUpdates(int(digest.take("first_step", "update_norm", weights).min()), 10**ratio)
        worst = int(np.where(died, late[:, -1], -1.0).argmax())
        what = (
            f"Weights changed by {_moved(found, parameters)} per step at the beginning, and most units of "
            f"{int(died.sum())} of {int(known.sum())} modules have died since ({paths[worst]}: {first[worst]:.0%} -> "
            f"{late[worst, -1]:.0%})."
        )
        loss = training_loss(digest)
        calm = loss is not None and bool(loss.state["maximum"] < ROSE * loss.state["first"])
        harmless = calm and loss_has_fallen(loss, LEARNED)
        return self._finding(digest, parameters, found, "info" if harmless else "warning", what)

    def _late(
        self, digest: Digest, parameters: list[Parameter], medians: Logs, state: Any, way: Course
    ) -> Finding | None:
        means = way.means(len(medians))
        if np.isnan(medians).any() or len(means) < len(medians):
            return None
        before, now = float(np.median(medians[:LATE])), float(medians[-2:].min())
        still = abs(float(means[-2:].mean() - means[:LATE].mean())) <= FLAT * abs(float(means[:LATE].mean()))
        if not (now >= before + RISE and now >= HEALTHY and still) or _lr_rises(digest, parameters):
            return None
        begin = recent_start(state, -2)
        found = LargeUpdates(begin, 10**now)
        what = (
            f"The update ratio has risen {10 ** (now - before):.2g} times by step {begin} while the loss stands still; "
            f"weights now change by {_moved(found, parameters)} per step, which may overshoot a flat basin."
        )
        return self._finding(digest, parameters, found, "info", what)

    def _finding(
        self, digest: Digest, parameters: list[Parameter], found: LargeUpdates, severity: Severity, summary: str
    ) -> Finding:
        way, lr = course(digest), lr_of(digest, parameters)
        bound = 10 ** max(each for each in (HIGH, BOLD, RISKY, HEALTHY) if found.ratio >= 10**each)
        to = "" if lr is None else f": lr {lr:.3g} -> about {lr * 10**HEALTHY / found.ratio:.1g}"
        known = way is not None and not isnan(way.now)
        grown = _growth(digest, parameters)
        return Finding(
            self.code,
            self.name,
            severity,
            "",
            found.step,
            summary=f"{summary} Their norm has grown {grown:.2g} times." if grown >= GREW else summary,
            evidence=(
                Evidence("update_ratio", "", found.step, found.ratio, bound),
                *((way.evidence(way.first),) if way is not None and known else ()),
            ),
            advice=(
                f"Lower the learning rate{to} (median update ratio {found.ratio:.2g}, healthy about 1e-3).",
                "Warm the learning rate up over the first few hundred steps.",
            ),
            phase="update",
            confidence=0.95 if severity == "critical" else 0.8,
        )


def _moved(found: LargeUpdates, parameters: list[Parameter]) -> str:
    return f"{found.ratio:.2g} of their norm (median over {len(parameters)})"


def _growth(digest: Digest, parameters: list[Parameter]) -> float:
    """How many times the norm of these parameters has grown since the first block."""
    paths = tuple(each.path for each in parameters)
    now = finite_tail(norm_of_all(digest.take("recent", "param_norm", paths)), 1)
    before = norm_of_all(digest.take("early", "param_norm", paths))[:1]
    return 10 ** float((now - before)[0]) if len(now) else 0.0


def _severity(digest: Digest, found: LargeUpdates) -> Severity:
    loss = training_loss(digest)
    if loss_has_fallen(loss, 0.5 if found.ratio >= LEAP else 0.1):
        return "info"
    return "critical" if loss_has_risen(loss) else "warning"


def _lasting(state: Any, medians: Logs, bound: float) -> LargeUpdates | None:
    """The ratio of the last two blocks, if both reach a bound."""
    tail = finite_tail(medians, 2)
    if len(tail) < 2 or state["rows"] < BLOCK_STEPS or tail.min() < bound:
        return None
    below = np.flatnonzero(~(medians >= bound))
    return LargeUpdates(recent_start(state, int(below[-1]) + 1 if len(below) else 0), 10 ** float(np.median(tail)))


def _largest(digest: Digest, parameters: list[Parameter]) -> LargeUpdates | None:
    """The largest update of the median weight over its largest norm; the ratio at that step was no smaller."""
    paths = [each.path for each in parameters]
    updates, norms = digest.select("update_norm", paths)[1], digest.select("param_norm", paths)[1]
    moved = (updates["maximum"] > 0) & (norms["maximum"] > 0)
    if not moved.any():
        return None
    ratio = float(np.median(updates["maximum"][moved] / norms["maximum"][moved]))
    return LargeUpdates(int(updates["maximum_at"][moved].min()), ratio) if ratio >= 10**HIGH else None


def _replacing(digest: Digest, parameters: list[Parameter]) -> LargeUpdates | None:
    """The first update of the median weight over the norm that it left, where that is large."""
    paths = [each.path for each in parameters]
    updates, norms = digest.select("update_norm", paths)[1], digest.select("param_norm", paths)[1]
    known = (updates["first_step"] == norms["first_step"]) & (norms["first"] > 0)
    if not known.any():
        return None
    ratio = float(np.median(updates["first"][known] / norms["first"][known]))
    return LargeUpdates(int(updates["first_step"][known].min()), ratio) if ratio >= LEAP else None


def _outgrowing(digest: Digest, parameters: list[Parameter], medians: Logs) -> LargeUpdates | None:
    """The largest update ratio of a block, where the median weight has outgrown what it began with."""
    states = digest.select("param_norm", [each.path for each in parameters])[1]
    states, ratio = states[states["first"] > 0], float(np.fmax.reduce(medians, initial=-np.inf))
    if not len(states) or ratio < RISKY or np.median(states["last"] / states["first"]) < OUTGROWN:
        return None
    return LargeUpdates(int(states["first_step"].min()), 10**ratio)


class LrTooLow(Rule):
    """Weights move too little for the run to learn.

    What it means:
        *Short way*: the update ratios of all steps add up to less than a tenth, so no more than a tenth of the median
        weight can have changed, and the loss is still where it began. *Switched off*: a schedule has lowered the
        learning rate to a thousandth of its peak before anything was learned. *Stalled*: no weight moves by more
        than a millionth of its norm per step. *Zero*: the learning rate is exactly 0.

    Why it hurts:
        Steps are made and paid for, and nothing is learned.

    How it is decided:
        *Short way*: the sum over all steps of the median update ratio is below 0.1, the loss is at least 0.85 of its
        level at the beginning and of that of a model that knows nothing. A warning when the run has ended or has made
        256 steps, and the learning rate that would help is below 10 (else the gradient is too small, not the learning
        rate). *Switched off*: over at least half of the known blocks the mean learning rate was below 1e-3 of its
        highest value, and the loss is still above half of the uninformed level; a warning. *Stalled*: the largest
        ratio over all weights is below 1e-6 in each of the last four blocks; info, since careful fine-tuning looks
        the same. *Zero*: in every row of at least four blocks; a warning.

    What to try:
        The learning rate that would bring the median update ratio to 1e-3, in steps of 10; a slower decay.

    Not reported when:
        The mean update ratio is 1e-3 or more (then it is the run that is short), the learning rate is rising (warm-up),
        every step is clipped to a tenth (G004 says so), the network broke, several optimizers work against each other,
        or, for stalled, the learning rate is below a tenth of its highest value (the end of a decay).

    References:
        Drevo (2026): below 1e-6 learning has likely stalled; TheDeepChecker (TOSEM 2022): below 1e-4; DeepDiagnosis
        (ICSE 2022): below 1e-5. A ratio alone separates nothing: warm-ups and the ends of schedules lie below all.
    """

    code: ClassVar[str] = "U002"
    name: ClassVar[str] = "lr-too-low"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, for the whole run."""
        parameters, ratios = update_ratios(digest)
        for kind in (self._zero, self._switched_off, self._short_way):
            found = kind(digest, parameters)
            if found is not None:
                yield found
                return
        if parameters:
            yield from self._stalled(digest, parameters, ratios)

    def _short_way(self, digest: Digest, parameters: list[Parameter]) -> Finding | None:
        way, steps = course(digest), digest.step + 1
        if way is None or not (way.standing >= UNMOVED and way.now >= UNMOVED * way.start):
            return None
        moved, clipped = travel(digest), clipped_throughout(digest)
        if not 0 < moved < SHORT_WAY or is_adversarial(digest) or is_broken(digest) or _lr_rises(digest, parameters):
            return None
        if clipped is not None and clipped.heavy:
            return None  # over-clipping says why
        ratio, lr = moved / steps, lr_of(digest, parameters)
        if ratio >= 10**HEALTHY:
            return None  # what is short is the run
        needed = None if lr is None else lr * 10**HEALTHY / ratio
        if not (digest.finished or steps >= LONG_RUN) or (needed is not None and needed > ABSURD):
            return None
        to = "" if needed is None else f": lr {lr:.3g} -> up to about {needed:.1g}, in steps of 10"
        return Finding(
            self.code,
            self.name,
            "warning",
            "",
            0,
            summary=f"In {steps} steps the median weight has moved by at most {moved:.1%} of its norm, and the loss is "
            f"{way.now:.3g} after {way.early:.3g} at the beginning: nothing has been learned.",
            evidence=(Evidence("update_ratio", "", digest.step, ratio, SHORT_WAY / steps), way.evidence()),
            advice=(
                f"Raise the learning rate{to} (mean update ratio {ratio:.1g}, healthy about 1e-3).",
                f"Or train longer: at this rate a tenth of the way takes {SHORT_WAY / ratio:.2g} steps.",
            ),
            phase="update",
            ruled_out=(
                "Not a wrong direction or too large a step: the loss has not risen.",
                "Not frozen: updates are small but not 0.",
            ),
            confidence=0.8,
        )

    def _switched_off(self, digest: Digest, parameters: list[Parameter]) -> Finding | None:
        way = course(digest)
        if way is None or not way.standing > UNLEARNED or is_adversarial(digest):
            return None
        groups, states = digest.select("lr")
        if not groups:
            return None
        low = states["recent_mean"] <= GONE * states["maximum"][:, None]
        blocks = np.minimum(states["blocks"], low.shape[1])
        if not (2 * low.sum(1) >= blocks).all() or not low[:, -1].all() or not (states["maximum"] > 0).all():
            return None
        position = int(low[0].argmax())
        step, now = recent_start(states[0], position), float(states["recent_mean"][0, -1])
        return Finding(
            self.code,
            self.name,
            "warning",
            "",
            step,
            summary=f"The learning rate fell from {float(states['maximum'][0]):.3g} below a thousandth of that by step "
            f"{step}, while the loss was still {way.now:.3g}; a model that knows nothing has {way.uninformed:.3g}.",
            evidence=(
                Evidence("lr", groups[0], int(states["last_step"][0]), now, GONE * float(states["maximum"][0])),
                way.evidence(),
            ),
            advice=(
                "Decay more slowly: the scheduler is stepped too often (per batch instead of per epoch?) or its factor "
                "is too small.",
                f"End at no less than a hundredth of the peak ({0.01 * float(states['maximum'][0]):.2g}) until the "
                "loss stands still.",
            ),
            phase="update",
            ruled_out=(
                f"Not the end of a schedule: half of the run or more had no learning rate ({digest.step + 1} steps).",
            ),
            confidence=0.9,
        )

    def _stalled(self, digest: Digest, parameters: list[Parameter], ratios: Logs) -> Iterator[Finding]:
        largest = np.fmax.reduce(ratios[:, -LOW_BLOCKS:], axis=0)
        if not (largest < LOW).all() or _lr_is_moving(digest, parameters):
            return
        state = state_of(digest, "update_norm", parameters[0].path)
        ratio = 10 ** float(np.median(median_over_parameters(ratios)[-LOW_BLOCKS:]))
        lr = lr_of(digest, parameters)
        to = "" if lr is None else f": lr {lr:.3g} -> up to about {lr * 10**HEALTHY / ratio:.1g}, in steps of 10"
        begin = recent_start(state, -LOW_BLOCKS)
        yield Finding(
            self.code,
            self.name,
            "info",
            "",
            begin,
            summary=f"No weight has moved by more than {10 ** float(largest.max()):.1g} of its norm per step "
            f"since step {begin}.",
            evidence=(Evidence("update_ratio", "", begin, ratio, 10**LOW),),
            advice=(f"Raise the learning rate{to} (median update ratio {ratio:.1g}, healthy about 1e-3).",),
            phase="update",
            ruled_out=("Not frozen: updates are small but not 0.",),
            confidence=0.5,
        )

    def _zero(self, digest: Digest, parameters: list[Parameter]) -> Finding | None:
        groups, states = digest.select("lr")
        if not groups or (states["rows"] < LOW_BLOCKS * BLOCK_STEPS).any() or (states["zeros"] < states["rows"]).any():
            return None
        step = int(states["first_step"].min())
        return Finding(
            self.code,
            self.name,
            "warning",
            "",
            step,
            summary=f"The learning rate of every parameter group has been exactly 0 since step {step}: nothing trains.",
            evidence=(Evidence("lr", groups[0], step, 0.0),),
            advice=("Look at the scheduler: a warm-up that is never stepped stays at its first value, 0.",),
            phase="update",
        )


def _lr_is_moving(digest: Digest, parameters: list[Parameter]) -> bool:
    """Whether the learning rate rises, or lies below a tenth of its highest value."""
    return _lr_rises(digest, parameters) or any(
        state["last"] <= ANNEALED * state["maximum"] for state in _lr_states(digest, parameters)
    )


def _lr_rises(digest: Digest, parameters: list[Parameter]) -> bool:
    for state in _lr_states(digest, parameters):
        means = finite_tail(state["recent_mean"], LOW_BLOCKS)
        if (len(means) > 1 and means[-1] > means[0]) or (len(means) == 1 and state["last"] > state["first"]):
            return True
    return False


def _lr_states(digest: Digest, parameters: list[Parameter]) -> list[Any]:
    groups = {each.group for each in parameters if each.group is not None}
    return [state for group in groups if (state := state_of(digest, "lr", group)) is not None]
