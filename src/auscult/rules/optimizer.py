"""Rules about what an update is made from: U005 missing-zero-grad, U006 wrong-gradient-sign.

Know which way updates point against the gradient, not whether the gradient itself is that of the loss.
"""

from collections.abc import Iterator
from math import log
from typing import ClassVar

import numpy as np

from auscult.core.digest import Digest
from auscult.core.finding import Evidence, Finding
from auscult.rules.channels import (
    Logs,
    finite_tail,
    lr_of,
    median_over_parameters,
    norm_of_all,
    recent_start,
    roster,
    state_of,
    trainable,
    update_ratios,
)
from auscult.rules.course import Course, course, is_adversarial
from auscult.rules.rule import Rule

CARRIED_ROWS = 2
UPHILL, AGREE, DECAYS = -0.3, 0.9, 0.5  # cosine, share of the weights, cosine
SAMPLES = 2
RISING_BLOCKS, RISE, SMALL = 4, 1.2, -2.0  # number, ratio, log10 of the update ratio
FALLING_BLOCKS, MIRRORED, TWICE, ENDLESS = 4, 0.25, 2.0, 100.0  # number, share of log(C), multiples of the first loss


class MissingZeroGrad(Rule):
    """Gradients are never cleared: each update is made from the sum of all since the start.

    What it means:
        Each backward pass began with the very gradients that the update before had already used.

    Why it hurts:
        Updates follow the past: they grow, overshoot and swing, and the loss falls at first, then rises or
        oscillates. It looks like a learning rate that is too high, and lowering that only delays it.

    How it is decided:
        Exactly, by identity of the numbers: `carried_gradient` was 1 at two sampled steps or more, and at every one but
        those of the first update. A warning; critical when the loss is above its level at the beginning or no
        better than guessing; info where several optimizers take part: one's backward pass fills the other's gradients.

    What to try:
        optimizer.zero_grad() once per update, before the backward pass.

    Not reported when:
        Gradients are accumulated over some passes and then cleared: the first of them begins without any.

    References:
        TrainCheck (OSDI 2025), invariant on what changes periodically; stackoverflow.com/questions/60335387.
    """

    code: ClassVar[str] = "U005"
    name: ClassVar[str] = "missing-zero-grad"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, for the whole run."""
        state, way = state_of(digest, "carried_gradient"), course(digest)
        if state is None:
            return
        carried = int(state["rows"] - state["zeros"])
        if carried < CARRIED_ROWS or state["zeros"] > 1 or state["last"] != 1:
            return
        begin = max(1, int(state["first_step"]))
        worse = way is not None and (way.diverged or way.now > max(way.first, way.early) or way.standing >= 1)
        grown = _growth(digest)
        growth = f"; the gradient norm is {grown:.2g} times that of the first block" if grown > 1 else ""
        severity = "info" if is_adversarial(digest) else "critical" if worse else "warning"
        yield Finding(
            self.code,
            self.name,
            severity,
            "",
            begin,
            summary=f"At each of {carried} steps looked at, the backward pass began with the gradients that the update "
            f"before had used: nothing clears them{growth}.",
            evidence=(
                Evidence("carried_gradient", "", int(state["last_step"]), 1.0, 0.0),
                *(() if way is None or way.diverged else (way.evidence(way.early),)),
            ),
            advice=("Call optimizer.zero_grad() once per update, before loss.backward().",),
            phase="backward",
            ruled_out=(
                "Not gradient accumulation: that begins each update without a gradient.",
                "Not the learning rate: a lower one follows the same sum of all gradients, only later.",
            ),
        )


def _growth(digest: Digest) -> float:
    paths = trainable(digest).paths
    early = norm_of_all(digest.take("early", "grad_norm", paths))[:1]
    recent = finite_tail(norm_of_all(digest.take("recent", "grad_norm", paths)), 16)
    if not len(recent) or not np.isfinite(early).all():
        return float("nan")
    return float(10 ** (recent.max() - early[0]))


class WrongGradientSign(Rule):
    """Updates climb the loss instead of descending it.

    What it means:
        The loss reaches the network with a minus sign, or each update points along the gradient instead of against it,
        or the loss has risen from the very start under small steps.

    Why it hurts:
        Training makes the model worse on purpose; the loss ends in infinity.

    How it is decided:
        *Loss*: `loss_gradient`, the gradient that arrives at the loss call, was below 0 at every sampled step.
        *Update*: the mean `descent_cosine` of the last blocks is below -0.3 in the median over weights and below 0 in
        nine of ten, while `decay_cosine` is below 0.5 (a strong weight decay also points up the gradient). Both are
        critical when the loss has risen, a warning otherwise. *Course*: the level of each of the last four blocks or
        more lies above the one before, from the first block on, by a fifth in all and above guessing, with
        update ratios below 1e-2 and a learning rate that did not rise; a warning of low confidence: a
        gradient that is wrong in another way looks the same. *Reward*: a loss computed by hand was below 0 at every
        step and has fallen in each of the last four blocks or more, to a hundred times its first value, or, where that
        was within a quarter of -log(C) for C outputs, to twice it; a warning.

    What to try:
        Look for a minus sign before the loss, `maximize=True`, a negative learning rate, gradients negated by a hook
        or a custom backward; check that one with torch.autograd.gradcheck.

    Not reported when:
        Several optimizers take part: one of two adversaries climbs the other's loss. Both signs are turned: a negated
        loss under `maximize=True` is descended.

    References:
        TheDeepChecker (TOSEM 2022): gradients by finite differences, relative error 0.01; UMLAUT (CHI 2021), a negative
        learning rate.
    """

    code: ClassVar[str] = "U006"
    name: ClassVar[str] = "wrong-gradient-sign"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, for the whole run."""
        if is_adversarial(digest):
            return
        way = course(digest)
        worse = way is not None and (way.diverged or way.now > max(way.first, way.early))
        loss, update = self._loss(digest, worse), self._update(digest, worse)
        if loss is not None and _climbs(digest):
            return
        finding = loss or update
        if finding is None and way is not None:
            finding = self._course(digest, way) or self._reward(digest, way)
        if finding is not None:
            yield finding

    def _loss(self, digest: Digest, worse: bool) -> Finding | None:
        state = state_of(digest, "loss_gradient")
        if state is None or state["rows"] < SAMPLES or not state["maximum"] < 0:
            return None
        step, value = int(state["first_step"]), float(state["first"])
        return Finding(
            self.code,
            self.name,
            "critical" if worse else "warning",
            "",
            step,
            summary=f"The gradient that arrives at the loss has been {value:.3g} since step {step}: training raises "
            "this loss.",
            evidence=(Evidence("loss_gradient", "", step, value, 0.0),),
            advice=(
                "Look for a minus sign between the loss and backward(): it is meant for a reward, not for a loss.",
                "If this loss is meant to be raised, nothing is wrong here.",
            ),
            phase="loss",
            ruled_out=("Not the optimizer: the sign is wrong before the gradient reaches it.",),
        )

    def _update(self, digest: Digest, worse: bool) -> Finding | None:
        paths = roster(digest).weights.paths
        rings = digest.take("recent_mean", "descent_cosine", paths)
        if 2 * (rings[:, -1] < 0).sum() < len(paths) or not paths:
            return None
        seen = digest.take("rows", "descent_cosine", paths) >= SAMPLES
        cosines = _mean(rings[seen])
        decay = _mean(digest.take("recent_mean", "decay_cosine", paths)[seen])
        cosines, decay = cosines[~np.isnan(cosines)], decay[~np.isnan(decay)]
        if not len(cosines) or np.median(cosines) > UPHILL or (cosines < 0).mean() < AGREE:
            return None
        shrinks = float(np.median(decay)) if len(decay) else 0.0
        if shrinks >= DECAYS:
            return None
        path = next(path for path, each in zip(paths, seen.tolist()) if each)
        state = state_of(digest, "descent_cosine", path)
        assert state is not None
        step, middle = int(state["first_step"]), float(np.median(cosines))
        return Finding(
            self.code,
            self.name,
            "critical" if worse else "warning",
            "",
            step,
            summary=f"Updates point up the gradient since step {step}: the cosine between update and descent is "
            f"{middle:.2g} (median over {len(cosines)} weights).",
            evidence=(Evidence("descent_cosine", path, int(state["last_step"]), float(state["last"]), UPHILL),),
            advice=(
                "Look for maximize=True, a negative learning rate, or gradients negated by a hook or a custom "
                "backward.",
            ),
            phase="update",
            ruled_out=(f"Not weight decay: updates do not shrink the weights (decay_cosine {shrinks:.2g}).",),
            confidence=0.95,
        )

    def _course(self, digest: Digest, way: Course) -> Finding | None:
        blocks, uninformed = int(way.state["blocks"]), way.uninformed
        if uninformed is None or blocks < RISING_BLOCKS or not way.standing >= RISE:
            return None
        means = way.means(blocks)
        parameters, ratios = update_ratios(digest)
        if len(means) < min(blocks, len(way.state["recent_mean"])):
            return None
        levels = np.concatenate([[way.early], means[1:]])
        if not (np.diff(levels) > 0).all() or not levels[-1] >= RISE * max(levels[0], way.first, uninformed):
            return None
        middle = finite_tail(median_over_parameters(ratios), blocks)
        if not len(middle) or middle.max() >= SMALL or _lr_rose(digest):
            return None
        lr, ratio = lr_of(digest, parameters), 10 ** float(np.median(middle))
        step = recent_start(way.state, -len(means))
        return Finding(
            self.code,
            self.name,
            "warning",
            "",
            step,
            summary=f"The loss has risen in each of {blocks} blocks, from {levels[0]:.3g} to {levels[-1]:.3g}, under "
            f"small steps (update ratio {ratio:.1g}).",
            evidence=(way.evidence(), Evidence("update_ratio", "", way.step, ratio, 10**SMALL)),
            advice=(
                "Check the gradient of custom operations and losses with torch.autograd.gradcheck.",
                "Look for a sign: a loss that is to be maximised, a term with the wrong sign.",
            ),
            phase="backward",
            ruled_out=(
                f"Not the learning rate{'' if lr is None else f' ({lr:.3g})'}: weights move by {ratio:.1g} of their "
                "norm per step, healthy about 1e-3, and it was not raised.",
            ),
            confidence=0.5,
        )

    def _reward(self, digest: Digest, way: Course) -> Finding | None:
        """A loss that has no lower bound falls for ever: the negative of one that has."""
        shape = None if digest.anatomy is None else digest.anatomy.output_shape
        means = way.means(max(FALLING_BLOCKS, int(way.state["blocks"])))
        if digest.audit is not None or not way.state["maximum"] < 0 or len(means) < FALLING_BLOCKS:
            return None
        classes = 1 if shape is None or len(shape) < 2 else max(1, [*shape][-1])
        entropy = log(classes)
        mirrored = abs(way.first + entropy) <= MIRRORED * entropy
        bound = way.first * (TWICE if mirrored else ENDLESS)
        if not (np.diff(means) < 0).all() or not means[-1] <= bound:
            return None
        what = f", about -log({classes})," if mirrored else ""
        return Finding(
            self.code,
            self.name,
            "warning",
            "",
            int(way.state["first_step"]),
            summary=f"The loss began below 0, at {way.first:.3g}{what} and has fallen in every block, to "
            f"{means[-1]:.3g}: nothing bounds it from below.",
            evidence=(Evidence(way.name, "", way.step, float(means[-1]), bound),),
            advice=(
                "Minimise the negative log-likelihood, -log p, or the squared error itself: look for a missing minus.",
                "If this is a reward that may grow without bound, nothing is wrong here.",
            ),
            phase="loss",
            ruled_out=("Not a learning rate that is too high: the loss goes where the updates send it.",),
            confidence=0.9 if mirrored else 0.6,
        )


def _climbs(digest: Digest) -> bool:
    """Whether most updates point up the gradient, were it ever so little."""
    cosines = _mean(digest.take("recent_mean", "descent_cosine", roster(digest).weights.paths))
    return len(cosines) > 0 and bool(2 * (cosines < 0).sum() > len(cosines))


def _mean(rings: Logs) -> Logs:
    """Mean over the known blocks of each row; NaN for a row without any."""
    known = ~np.isnan(rings)
    count = known.sum(1)
    total = np.where(known, rings, 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _lr_rose(digest: Digest) -> bool:
    return any(bool(state["last"] > state["first"]) for state in digest.select("lr")[1])
