"""Rules about gradients: G001 zero-gradient, G002 exploding-gradient, G003 vanishing-gradient.

Know norms, never directions: a gradient that is wrong but of a usual size is not seen here.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from auscult.core.digest import Digest
from auscult.core.finding import Evidence, Finding, Severity
from auscult.core.run import Parameter
from auscult.core.state import Trajectory
from auscult.rules.changes import first_to_leave, rises
from auscult.rules.channels import (
    Death,
    Group,
    Logs,
    any_without_gradient,
    death,
    finite_tail,
    finite_tails,
    is_broken,
    listing,
    loss_has_risen,
    lr_of,
    norm_of_all,
    recent_start,
    roster,
    state_of,
    trainable,
    training_loss,
    without_gradient,
)
from auscult.rules.rule import ZERO_ROWS, Rule

RISE, DEPARTURE = 3.0, 1.0  # decades
GROWTH, UNCONFIRMED, DOUBLED = 0.8, 1.9, 0.3  # decades
ROUNDING = 1e-6  # decades
DEPTH_FALL, DEPTH_RATIO, DEPTH_WEIGHTS, STALLED = 3.0, 2.0, 4, -5.0  # decades, decades, number, log10


OUTPUT_ADVICE = (
    "Look at the output: a softmax over one unit is constantly 1; use one logit and binary_cross_entropy_with_logits.",
    "Look for argmax, round or a comparison between the parameters and the loss, or a sigmoid at its limit.",
)
FRONT_ADVICE = (
    "Look at the activations before the last layer: are they all 0 (biases too negative, inputs not standardised)?",
    "Look for weights initialised to 0 in more than one layer; only one of two in a row may be.",
)
DEATH_ADVICE = (
    "Lower the learning rate or warm it up: one large update can switch off every ReLU of a layer.",
    "Clip the gradient norm; use LeakyReLU or GELU, or a normalisation layer before the activation.",
)


class ZeroGradient(Rule):
    """Parameters receive a gradient of exactly 0.

    What it means:
        Not small: every element is 0, at every step. No signal reaches these parameters.

    Why it hurts:
        They do not learn. If it is most of the network, the run is over although it goes on.

    How it is decided:
        Exactly: `grad_norm` is 0 for at least 8 rows up to now. Critical when that holds for at least half of the
        parameters whose gradient was observed and for at least half of their elements; the onset is when the
        parameter that completed this majority went to zero. Any smaller set gives one info finding. Both say which
        parameters train and which do not: one trains when its gradient is not 0 and its update was not 0 in every row.

    What to try:
        From the first step on: a softmax over a single unit (its output is constantly 1), weights initialised to 0 in
        more than one layer, an argmax or a comparison on the way to the loss. Later: dead ReLUs after an update that
        was too large; lower the learning rate.

    Not reported when:
        No gradient was observed (None: unused or frozen). The loss itself is exactly 0: then it is solved, and said
        as info.

    References:
        In our trials of public training faults, a softmax over one unit gave exactly zero gradients in 7 of 7 runs.
    """

    code: ClassVar[str] = "G001"
    name: ClassVar[str] = "zero-gradient"
    exact: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, for the whole run."""
        dead = death(digest)
        if dead is not None:
            yield self._dead(digest, dead)
            return
        if any_without_gradient(digest):
            paths, states, zero = without_gradient(digest)
            yield self._some([path for path, each in zip(paths, zero, strict=True) if each], states[zero])

    def _dead(self, digest: Digest, dead: Death) -> Finding:
        never = [path for path, state in zip(dead.paths, dead.states, strict=True) if _never_had(state)]
        count = len(never) if dead.always and not dead.solved else len(dead.paths)
        observed = len(dead.paths) + len(dead.alive)
        since = f"the gradients of {count} of {observed} parameters have been exactly 0 since"
        if dead.solved:
            summary = f"The run is solved: {since} step {dead.step}, and so is the loss."
            advice = ("Stop here, or train on harder data.",)
        elif dead.always:
            summary = f"No signal reaches the network: {since} the first step. {_who_trains(digest, dead, never)}"
            advice = FRONT_ADVICE if dead.alive else OUTPUT_ADVICE
        else:
            first = f"{dead.paths[0]} first (step {int(dead.states['zeros_from'][0])})"
            summary = f"The network is dead: {since} step {dead.step}, {first}. {_who_trains(digest, dead, never)}"
            advice = DEATH_ADVICE
        return Finding(
            self.code,
            self.name,
            "info" if dead.solved else "critical",
            "",
            dead.step,
            summary,
            evidence=tuple(
                Evidence("grad_norm", path, int(state["zeros_from"]), 0.0)
                for path, state in zip(dead.paths[:3], dead.states[:3], strict=True)
            ),
            advice=advice,
            phase="backward",
            ruled_out=("Not the optimizer alone: there is no gradient to apply.",),
        )

    def _some(self, paths: list[str], states: Any) -> Finding:
        order = np.argsort(states["zeros_from"], kind="stable")
        step = int(states["zeros_from"][order[0]])
        never = all(_never_had(state) for state in states)
        since = "since the first step, so they have never trained" if never else f"since step {step} at the earliest"
        return Finding(
            self.code,
            self.name,
            "info",
            "",
            step,
            summary=f"The gradient of {listing(paths)} has been exactly 0 for at least {ZERO_ROWS} rows, "
            f"{since}; the rest of the network receives one.",
            evidence=tuple(
                Evidence("grad_norm", paths[each], int(states["zeros_from"][each]), 0.0) for each in order[:4]
            ),
            advice=("Check that these parameters take part in the loss as intended; freeze or remove them otherwise.",),
            phase="backward",
        )


def _never_had(state: Any) -> bool:
    """Whether the gradient has been 0 at every step."""
    return bool(state["zeros_from"] == state["first_step"])


def _who_trains(digest: Digest, dead: Death, never: list[str]) -> str:
    """A sentence on what is left: what still trains, what never did, what no longer does."""
    moving = [path for path in dead.alive if not _stands_still(digest, path)]
    verb = "trains" if len(moving) == 1 else "train"
    left = f"Only {listing(moving)} {verb}" if moving else "Nothing trains"
    stopped = [path for path in dead.paths if path not in set(never)]
    parts = [f"{listing(never)} never {'does' if len(never) == 1 else 'do'}"] if never else []
    if stopped and never:
        parts.append(f"{listing(stopped)} no longer {'does' if len(stopped) == 1 else 'do'}")
    return f"{'; '.join([left, *parts] if moving else [left])}."


def _stands_still(digest: Digest, path: str) -> bool:
    """Whether its update was observed and is exactly 0 in every row."""
    state = state_of(digest, "update_norm", path)
    return state is not None and bool(state["zeros"] == state["rows"])


class Explosion(NamedTuple):
    """A gradient that left its own past: which, when, from where to where, and how."""

    path: str
    step: int
    value: float
    baseline: float
    how: Literal["broke", "stayed", "grows"]


class ExplodingGradient(Rule):
    """Gradients have grown by a thousand times and more.

    What it means:
        The total gradient norm has left the run's own early level by at least three decades.

    Why it hurts:
        Steps follow the loudest parameter only; with clipping all others starve, without it the run diverges.

    How it is decided:
        Against the run itself, never against an absolute number. *Lasting*: the total norm of both of the last two
        blocks (medians) is at least 1000 times the median over the first blocks; a warning, critical when the loss is
        above its first value. *Fatal*: a single parameter's largest norm reached 1000 times the whole network's first
        norm, and parameters then became non-finite or most gradients went to exactly 0; critical. The parameter named
        is the one that left its own baseline (by 10 times) first, among those of the same block the one that rose
        farthest.
        *Growing*: the total norm has risen six times and more above its lowest level, on a straight line in log10 or a
        steeper curve, and the loss has doubled since its own lowest level; without a loss that is observed or does so,
        only a rise of a hundred times counts (info where a loss is observed). The onset is where that line meets the
        one before it.

    What to try:
        Look at the named parameter: its initialisation, the scale of what it multiplies. Then the learning rate,
        warm-up and clipping.

    Not reported when:
        A spike passed without harm; the norm rose by less; only single parameters rose, as they do behind a zero
        initialisation.

    References:
        Drevo, Training run diagnostic metrics (2026): the front layers in the thousands, the rest tame; Pascanu et al.,
        ICML 2013.
    """

    code: ClassVar[str] = "G002"
    name: ClassVar[str] = "exploding-gradient"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        fatal = is_broken(digest)
        if not fatal and not _may_have_risen(digest):
            return
        paths, states = digest.select("grad_norm", trainable(digest).paths)
        if not paths:
            return
        found = _peak(digest, paths, states) if fatal else _lasting_rise(digest, paths, states)
        severity: Severity = "critical" if fatal or loss_has_risen(training_loss(digest)) else "warning"
        if found is None and not fatal:
            found = _growth(digest, paths, states)
            severity = severity if _loss_confirms(digest) else "info"
        if found is None:
            return
        rise = found.value / found.baseline
        end = {
            "broke": ", after which the run broke",
            "stayed": " and stayed there",
            "grows": f" since step {found.step}, and is the first that did",
        }[found.how]
        verb = "has grown" if found.how == "grows" else "rose"
        group = next(each.group or "" for each in trainable(digest) if each.path == found.path)
        lr = lr_of(digest, [each for each in trainable(digest) if each.group == group])
        yield Finding(
            self.code,
            self.name,
            severity,
            found.path,
            found.step,
            summary=f"The gradient of {found.path} {verb} {rise:.2g} times above "
            f"{'its lowest level' if found.how == 'grows' else 'where it began'}{end}.",
            evidence=(
                _figure(digest, found),
                *(() if lr is None else (Evidence("lr", group, int(digest.step), lr),)),
            ),
            advice=(
                f"Check {found.path} and what it multiplies: its initialisation, and the scale of its input.",
                "Lower the learning rate, warm it up, and clip the gradient norm: monitor.clip_grad_norm_(1.0).",
            ),
            phase="backward",
            confidence=0.95 if severity == "critical" else 0.8,
        )


def _figure(digest: Digest, found: Explosion) -> Evidence:
    """The norm that is too large, where it is; the bound is what it began with times the rise allowed."""
    growing = found.how == "grows"
    step = int(digest.step) if growing else found.step
    return Evidence("grad_norm", found.path, step, found.value, found.baseline * 10 ** (GROWTH if growing else RISE))


def _peak(digest: Digest, paths: list[str], states: Any) -> Explosion | None:
    """A rise to three decades above the whole network's first norm: of what rose first, else of the largest."""
    first = np.where(np.isfinite(states["first"]), states["first"], 0.0)
    total = float(np.sqrt((first * first).sum()))
    largest = np.where(np.isnan(states["maximum"]), 0.0, states["maximum"])
    culprit = int(largest.argmax())
    if total <= 0 or largest[culprit] < total * 10**RISE:
        return None
    step = int(states["maximum_at"][culprit])
    left = first_to_leave(rises(digest.trajectory("grad_norm", tuple(paths)), DEPARTURE))
    if left is not None and left.step < step:
        culprit, step = left.number, left.step
    own = float(first[culprit]) or total
    return Explosion(paths[culprit], step, float(largest[culprit]), own, "broke")


def _baseline(early: Logs, blocks: int) -> float:
    """Median over the first blocks, keeping clear of the two that are judged; NaN if there is none."""
    usable = early[: max(1, min(len(early), blocks - 2))]
    usable = usable[~np.isnan(usable)]
    return float(np.median(usable)) if len(usable) else float("nan")


def _may_have_risen(digest: Digest) -> bool:
    """Whether a parameter lies far enough above its lowest level; if none does, their total does not either."""
    paths = trainable(digest).paths
    recent, trough = digest.take("recent", "grad_norm", paths), digest.take("trough", "grad_norm", paths)
    return bool((recent[:, -1] - trough >= GROWTH - ROUNDING).any())


def _lasting_rise(digest: Digest, paths: list[str], states: Any) -> Explosion | None:
    """Whether the total norm of the last two blocks lies three decades above where it began."""
    blocks = int(states["blocks"].max())
    now = finite_tail(norm_of_all(states["recent"]), 2)
    before = _baseline(norm_of_all(states["early"]), blocks)
    if len(now) < 2 or blocks < 3 or not now.min() >= before + RISE - ROUNDING:
        return None
    own = np.array([_baseline(state["early"], int(state["blocks"])) for state in states])
    left = first_to_leave(rises(digest.trajectory("grad_norm", tuple(paths)), DEPARTURE))
    culprit = int(np.nanargmax(states["recent"][:, -1] - own)) if left is None else left.number
    step = recent_start(states[culprit], 0) if left is None else left.step
    value, baseline = 10 ** float(states["recent"][culprit, -1]), 10 ** float(own[culprit])
    return Explosion(paths[culprit], step, value, baseline, "stayed")


def _growth(digest: Digest, paths: list[str], states: Any) -> Explosion | None:
    """Whether the total norm has grown for a while, and by enough for what the loss says."""
    way = digest.trajectory("grad_norm", tuple(paths))
    longest = states["blocks"] == states["blocks"].max()
    logs = np.where(way.weights > 0, way.logs, np.nan)[longest]
    known = ~np.isnan(logs).any(0)
    total = np.where(known, norm_of_all(logs), 0.0)
    whole = rises(Trajectory(way.at[longest][:1], total[None], np.where(known, way.weights[longest][:1], 0.0)), GROWTH)
    loss = training_loss(digest)
    confirmed = loss is not None and _loss_confirms(digest)
    if not whole.gradual[0] or (not confirmed and whole.rise[0] < UNCONFIRMED):
        return None
    left = first_to_leave(rises(way, DEPARTURE / 2))
    if left is None:
        return None
    value = 10 ** float(finite_tail(states["recent"][left.number], 1)[0])
    return Explosion(paths[left.number], left.step, value, value / 10**left.rise, "grows")


def _loss_confirms(digest: Digest) -> bool:
    """Whether the loss is well above its lowest level too, or is not observed at all."""
    loss = training_loss(digest)
    if loss is None:
        return True
    return bool(loss.state["recent"][-1] - loss.state["trough"] >= DOUBLED)


class VanishingGradient(Rule):
    """Gradients die out on their way to the front.

    What it means:
        From layer to layer towards the input the gradient shrinks by a factor, and the front layers move so little that
        they stay as they were initialised.

    Why it hurts:
        Only the last layers learn, on random features.

    How it is decided:
        From the root mean square gradient (norm / sqrt(size), block medians) of the trainable matrices and kernels in
        model order, at least four of them, over the last two blocks. All of: it falls by at least three decades from
        the largest of the back half to the first; at least three quarters of the steps in depth fall and none makes
        up more than half of the fall (so an embedding that is rarely touched does not count); the first one's update
        ratio is below 1e-5 and at least 100 times smaller than the largest of the back half.

    What to try:
        ReLU or GELU instead of sigmoid and tanh; residual connections; normalisation; gain / sqrt(fan_in)
        initialisation.

    Not reported when:
        The optimizer evens it out (Adam): then all layers move alike. The model's order of definition is not its depth.

    References:
        Hochreiter, 1991; Glorot and Bengio, AISTATS 2010; AutoTrainer (ICSE 2021): first/last < 1e-3.
    """

    code: ClassVar[str] = "G003"
    name: ClassVar[str] = "vanishing-gradient"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, at the first weight."""
        weights = roster(digest).weights
        if len(weights) < DEPTH_WEIGHTS:
            return
        gradients = _lowest_recent(digest, "grad_norm", weights) - 0.5 * np.log10(np.maximum(weights.sizes, 1))
        updates = _lowest_recent(digest, "update_norm", weights) - _lowest_recent(digest, "param_norm", weights)
        seen = ~(np.isnan(gradients) | np.isnan(updates))
        layers = [layer for layer, each in zip(weights, seen.tolist(), strict=True) if each]
        gradients, updates = gradients[seen], updates[seen]
        if len(layers) < DEPTH_WEIGHTS or not _falls_towards_front(gradients):
            return
        back = updates[len(layers) // 2 :].max()
        if updates[0] > STALLED or back - updates[0] < DEPTH_RATIO:
            return
        yield self._finding(digest, layers, gradients, updates)

    def _finding(self, digest: Digest, layers: list[Parameter], gradients: Logs, updates: Logs) -> Finding:
        half = len(layers) // 2
        loudest = half + int(gradients[half:].argmax())
        fall = gradients[loudest] - gradients[0]
        state = state_of(digest, "grad_norm", layers[0].path)
        assert state is not None  # it has a recent block
        step = int(state["last_step"])
        front = layers[0].path
        return Finding(
            self.code,
            self.name,
            "warning",
            front,
            int(state["first_step"]),
            summary=f"The gradient shrinks by {10**fall:.1g} times between {layers[loudest].path} and {front}, about "
            f"{10 ** (fall / loudest):.2g} times per layer; the front hardly moves "
            f"(update ratio {10 ** updates[0]:.1g}).",
            evidence=(
                Evidence("grad_norm", front, step, 10 ** float(state["recent"][-1])),
                Evidence("update_ratio", front, step, float(10 ** updates[0]), 10**STALLED),
                Evidence("update_ratio", layers[loudest].path, step, float(10 ** updates[loudest])),
            ),
            advice=(
                "Replace sigmoid or tanh between layers by ReLU or GELU.",
                "Add residual connections or a normalisation layer per block.",
                "Initialise with gain / sqrt(fan_in) for the activation in use (torch.nn.init.calculate_gain).",
            ),
            phase="backward",
            ruled_out=(
                "Not the learning rate: the back of the network moves at a far higher rate under the same one.",
            ),
            confidence=0.9,
        )


def _lowest_recent(digest: Digest, metric: str, layers: Group) -> Logs:
    """Mean of the last two block medians per parameter `(P,)`; NaN with fewer than two."""
    tails = finite_tails(digest.take("recent", metric, layers.paths), 2)
    return (tails[:, 0] + tails[:, 1]) / 2


def _falls_towards_front(gradients: Logs) -> bool:
    half = len(gradients) // 2
    loudest = half + int(gradients[half:].argmax())
    rises = np.diff(gradients[: loudest + 1])
    fall = gradients[loudest] - gradients[0]
    return bool(fall >= DEPTH_FALL and (rises > 0).mean() >= 0.75 and rises.max() <= fall / 2)
