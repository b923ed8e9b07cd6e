"""Rules about the loss and finiteness: L001 non-finite, L002 amp-overflow, L003 loss-spike.

Know nothing of what the loss means, but for that of a model which knows nothing.
"""

from collections.abc import Iterator
from math import nan
from typing import ClassVar, NamedTuple

import numpy as np

from auscult.core.digest import Digest
from auscult.core.finding import Evidence, Finding, Phase, Severity, Status
from auscult.core.origin import Origin
from auscult.core.standstill import Standstill
from auscult.core.state import RECENT_BLOCKS
from auscult.rules.changes import Changes, rises
from auscult.rules.channels import (
    Loss,
    finite_tail,
    is_broken,
    is_dense,
    roster,
    state_of,
    trainable,
    training_loss,
)
from auscult.rules.course import course, is_adversarial
from auscult.rules.rule import Rule

NORMS = ("grad_norm", "update_norm", "param_norm")
SKIPPED_ROWS = 32
SPIKE, BETTER = 2.0, 0.95
DIVERGED, NOTICEABLE, LEARNED = 0.8, 0.1, 0.1  # decades, share of the first loss, decades

ADVICE: dict[Phase | None, tuple[str, ...]] = {
    "data": (
        "Check the batch of this step: torch.isfinite(inputs).all(); drop or mend the sample where it is stored.",
        "Look for a division by a standard deviation of 0 or a logarithm of 0 where the data are prepared.",
    ),
    "loss": (
        "Look for log(0), x/0 or exp of a large number in the loss; let it take logits (cross_entropy, "
        "binary_cross_entropy_with_logits), or add a small epsilon.",
        "Under float16 use bfloat16, or compute the loss in float32.",
    ),
    "forward": (
        "Check the batch of this step for NaN and infinities: torch.isfinite(inputs).all().",
        "Look for log(0), x/0, sqrt(0), exp of a large number, or a row that is masked out entirely; let the loss take "
        "logits (cross_entropy, binary_cross_entropy_with_logits).",
        "Under float16 use bfloat16, or keep the loss in float32.",
    ),
    "backward": (
        "Look for an operation whose value is finite but whose derivative is not: sqrt, norm or std at 0, x**p at 0, "
        "atan2(0, 0), or torch.where over a branch that divides by 0; add a small epsilon inside it.",
        "Run this step once under torch.autograd.detect_anomaly() to get the line.",
    ),
    "update": (
        "Look at the optimizer: a learning rate that is not finite, an eps of 0 or too small for the dtype, a foreign "
        "in-place change of the parameter.",
    ),
    None: (
        "Record every step (every=1) and log the loss to tell the forward from the backward pass.",
        "Lower the learning rate and clip the gradient norm; check the inputs with torch.isfinite.",
    ),
}

OVERFLOW = (
    "The gradient has exploded, so far only its norm is past the largest number: lower the learning rate, or clip by "
    "value before its size gets there.",
)
DELICATE = {
    *("log", "log2", "log10", "log1p", "sqrt", "rsqrt", "pow", "rpow", "div", "divide", "truediv", "rtruediv"),
    *("reciprocal", "exp", "expm1", "norm", "std", "var", "acos", "asin", "atanh", "acosh", "logit"),
}
"""Operations that make non-finite numbers of ordinary finite ones."""
RULED_OUT: dict[Phase | None, tuple[str, ...]] = {
    "data": ("Not the model: what it was called with was not finite.",),
    "forward": ("Not the backward pass or the optimizer: every gradient before this step was finite.",),
    "loss": ("Not the model: its output was finite.",),
    "backward": ("Not the data or the forward pass: the loss of this step was finite.",),
    "update": ("Not the gradient: it was finite at this step.",),
}


class Onset(NamedTuple):
    """Where the first number that is not finite was seen."""

    step: int
    phase: Phase | None
    metric: str
    path: str
    text: str


class NonFinite(Rule):
    """A NaN or an infinity has appeared.

    What it means:
        At the step named, the loss, a gradient or a parameter was not a finite number. Everything else that is not
        finite at that step or later is a consequence and is not reported by itself: one finding per run names the
        origin.

    Why it hurts:
        NaN spreads to whatever it touches. Once it is in the parameters, every later step is wasted.

    How it is decided:
        The monitor makes the first such step again on copies and names the module, the operation and the line; the
        loss and what follows it are made again where `watch(..., replay=...)` was given. Where that cannot be done,
        from the first step at which each channel was not finite. *Forward*: the loss was not finite while no
        parameter had been before; the first such module is named where activations were observed. *Backward*: the
        loss was finite at that step and gradients were not; of these the parameter latest in model order lies closest
        to the loss, so the NaN arose there and went on to those before it. *Update*: gradients were finite, the
        update or the parameter was not. Where the loss was not logged at that step, or parameters are recorded every
        N-th step only or, as in the logs of most other tools, not at all, the phase is left open. Critical as long as
        it lasts; a warning when everything observed is finite again; info when only gradients were not finite and no
        parameter ever took them up, which is an update skipped by a loss scaler.

    What to try:
        Forward: look at the batch, at log, division and exp. Backward: an operation with an infinite derivative.
        Update: the learning rate and the optimizer's eps. If the gradient had exploded before (see G002), lower the
        learning rate.

    Not reported when:
        Only evaluations or numbers other than the loss were not finite, which may be meant; the verdict names them.

    References:
        PyTorch, "Automatic Mixed Precision" (skipped steps); AutoTrainer (ICSE 2021), DeepLocalize (ICSE 2021): the
        first non-finite tensor localises the fault.
    """

    code: ClassVar[str] = "L001"
    name: ClassVar[str] = "non-finite"
    exact: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        loss = training_loss(digest)
        onset = _onset(digest, loss)
        if onset is None:
            return
        origin = next((each for each in digest.origins if each.step == onset.step and _tells(each)), None)
        recovered, skipped = _aftermath(digest, loss)
        severity: Severity = "info" if skipped else "warning" if recovered else "critical"
        status: Status = "recovered" if recovered else "active"
        phase = onset.phase if origin is None else origin.phase
        tail = " No parameter took it up: that update was skipped, as a loss scaler does." if skipped else ""
        yield Finding(
            self.code,
            self.name,
            severity,
            onset.path if origin is None or origin.path is None else origin.path,
            onset.step,
            summary=f"{onset.text if origin is None else origin}{tail}",
            evidence=_evidence(digest, loss, onset),
            advice=("Nothing to do if a GradScaler is in use; it is searching for its scale.",)
            if skipped
            else _advice(phase, origin),
            status=status,
            phase=phase,
            ruled_out=RULED_OUT.get(phase, ()),
        )


def _tells(origin: Origin) -> bool:
    """Whether an origin tells more than the rows; of a loss that is so although its place is not known."""
    return origin.known or origin.phase == "loss"


def _onset(digest: Digest, loss: Loss | None) -> Onset | None:
    order = roster(digest).all.paths
    first_bad = {name: _nonfinite_steps(digest, name, order) for name in NORMS}
    loss_at = int(loss.state["nonfinite_at"]) if loss is not None else -1
    audit = digest.audit
    if audit is not None and not np.isfinite(audit.value):
        loss_at = audit.step if loss_at < 0 else min(loss_at, audit.step)
    steps = [step for bad in first_bad.values() for step in bad.values()] + ([loss_at] if loss_at >= 0 else [])
    if not steps:
        return None
    step = min(steps)
    hit = {name: [path for path, at in bad.items() if at == step] for name, bad in first_bad.items()}
    if loss_at == step:
        return _forward(digest, loss, step, hit["grad_norm"])
    if hit["grad_norm"]:
        return _backward(digest, loss, step, hit["grad_norm"], len(digest.select("grad_norm", order)[0]))
    metric = "update_norm" if hit["update_norm"] else "param_norm"
    path, count = hit[metric][0], len(hit[metric])
    others = f" (and of {count - 1} more parameters)" if count > 1 else ""
    what = "update" if metric == "update_norm" else "value"
    text = f"The {what} of {path}{others} was not finite at step {step} although its gradient was."
    phase: Phase | None = "update" if hit["update_norm"] or state_of(digest, "grad_norm", path) is not None else None
    return Onset(step, phase, metric, path, text)


def _nonfinite_steps(digest: Digest, metric: str, order: tuple[str, ...]) -> dict[str, int]:
    """Path to the first step at which it was not finite, of those that ever were not, in the order given."""
    steps = digest.take("nonfinite_at", metric, order)
    return {order[each]: int(steps[each]) for each in np.flatnonzero(steps >= 0)}


def _forward(digest: Digest, loss: Loss | None, step: int, followed: list[str]) -> Onset:
    name = loss.name if loss is not None else "loss"
    if not digest.parameters:
        text = f"The loss was not finite at step {step}; parameters and gradients were not observed."
        return Onset(step, None, name, "", text)
    _, norms = digest.select("param_norm", [each.path for each in digest.parameters])
    opening = len(norms) == 0 or bool((norms["first_step"] == step).all())
    if not opening and not all(is_dense(state) for state in norms):
        text = f"The loss was not finite at step {step}; parameters, not recorded at every step, may have been first."
        return Onset(step, None, name, "", text)
    modules = [each.path for each in sorted(digest.segments[-1].modules, key=lambda module: not module.leaf)]
    paths, states = digest.select("activation_std", modules)
    bad = [path for path, at in zip(paths, states["nonfinite_at"], strict=True) if at == step]
    if bad:
        text = f"The output of {bad[0]} was not finite at step {step}, and so was the loss; all parameters were finite."
        return Onset(step, "forward", "activation_std", bad[0], text)
    text = f"The loss was not finite at step {step} while all parameters were still finite."
    if followed:
        text += f" Its backward pass spoilt {len(followed)} gradients, those of {followed[-1]} to {followed[0]}."
    return Onset(step, "forward", name, "", text)


def _backward(digest: Digest, loss: Loss | None, step: int, paths: list[str], observed: int) -> Onset:
    culprit = paths[-1]
    text = f"At step {step} the gradients of {len(paths)} of {observed} parameters were not finite"
    if loss is not None and (is_dense(loss.state) or loss.state["first_step"] == step):
        text += f" although the loss was; {culprit} is the one closest to the loss."
        return Onset(step, "backward", "grad_norm", culprit, text)
    text += f"; {culprit} is the one closest to the loss. Whether the loss was finite is not known: not observed."
    return Onset(step, None, "grad_norm", culprit, text)


def _aftermath(digest: Digest, loss: Loss | None) -> tuple[bool, bool]:
    """Whether everything observed is finite again, and whether only gradients ever were not."""
    order = [each.path for each in digest.parameters]
    states = {name: digest.select(name, order)[1] for name in NORMS}
    bad = {name: bool((each["nonfinite_at"] >= 0).any()) for name, each in states.items()}
    active = any(
        bool(((each["nonfinite_at"] >= 0) & (each["last_step"] <= each["nonfinite_last"])).any())
        for each in states.values()
    )
    loss_bad = loss is not None and loss.state["nonfinite_at"] >= 0
    if loss is not None and loss_bad:
        active = active or bool(loss.state["last_step"] <= loss.state["nonfinite_last"])
    followed = len(states["param_norm"]) > 0
    skipped = followed and bad["grad_norm"] and not (bad["update_norm"] or bad["param_norm"] or loss_bad)
    return not active, skipped


def _evidence(digest: Digest, loss: Loss | None, onset: Onset) -> tuple[Evidence, ...]:
    """The number that was not finite, then what is known of the time before it."""
    first = loss.state if loss is not None and onset.metric == loss.name else state_of(digest, onset.metric, onset.path)
    value = nan if first is None or first["nonfinite_at"] != onset.step else float(first["nonfinite"])
    found = [Evidence(onset.metric, onset.path, onset.step, value)]
    if loss is not None and np.isfinite(loss.state["first"]):
        found.append(Evidence(loss.name, "", int(loss.state["first_step"]), float(loss.state["first"])))
    state = state_of(digest, "grad_norm", onset.path) if onset.path else None
    if state is not None and np.isfinite(state["first"]):
        found.append(Evidence("grad_norm", onset.path, int(state["first_step"]), float(state["first"])))
    return tuple(found)


def _advice(phase: Phase | None, origin: Origin | None) -> tuple[str, ...]:
    if origin is not None and origin.kind == "overflow":
        return OVERFLOW
    if origin is not None and origin.operation in DELICATE and origin.line:
        given = f"what {origin.operation} is given there"
        general = (each for each in ADVICE[phase] if not each.startswith("Check the batch"))
        return f"Look at {origin.line}: clamp {given}, or add a small epsilon to it.", *general
    return ADVICE[phase]


class AmpOverflow(Rule):
    """No update is made any more because gradients are not finite.

    What it means:
        A loss scaler skips an update whose gradients overflow and halves its scale. A few such steps are its way of
        working. Here it has skipped every step of the last block: the gradients are not finite at any scale.

    Why it hurts:
        The run goes on and costs what it costs, but nothing is learned.

    How it is decided:
        The scaler has left out 32 updates in a row, and none has been made since. Or, of an optimizer that is called
        all the same: no gradient norm of some parameter was finite in the last block, at least 32 rows of it were not
        finite, and the norm of its update has been exactly 0 for at least 32 rows.

    What to try:
        Look for an operation whose derivative is infinite (see L001), or use bfloat16, which needs no scaler.

    Not reported when:
        Updates are made, or parameters themselves are not finite (L001 says so).

    References:
        PyTorch, "Automatic Mixed Precision": `GradScaler.step` skips, `update` halves the scale.
    """

    code: ClassVar[str] = "L002"
    name: ClassVar[str] = "amp-overflow"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, at the parameter closest to the loss."""
        still = digest.standstill
        if still is not None and still.skipped >= SKIPPED_ROWS and digest.step < still.step:
            yield self._standstill(still)
            return
        paths = trainable(digest).paths
        rows, finite = (digest.take(name, "grad_norm", paths) for name in ("rows", "finite"))
        if not (rows - finite >= SKIPPED_ROWS).any():
            return
        lasting = np.isnan(digest.take("recent_mean", "grad_norm", paths)[:, -1]) & (rows - finite >= SKIPPED_ROWS)
        for number in np.flatnonzero(lasting)[::-1].tolist():
            path = paths[number]
            update, state = state_of(digest, "update_norm", path), state_of(digest, "grad_norm", path)
            if update is not None and state is not None and update["zero_rows"] >= SKIPPED_ROWS:
                begin = int(update["zeros_from"])
                yield Finding(
                    self.code,
                    self.name,
                    "critical",
                    path,
                    begin,
                    summary=f"No update has been made since step {begin}: the gradient of {path} is never finite.",
                    evidence=(
                        Evidence("update_norm", path, begin, 0.0),
                        Evidence("grad_norm", path, int(state["nonfinite_last"]), nan),
                    ),
                    advice=(*ADVICE["backward"], "Train in bfloat16, which needs no loss scaler."),
                    phase="backward",
                )
                return

    def _standstill(self, still: Standstill) -> Finding:
        return Finding(
            self.code,
            self.name,
            "critical",
            "",
            still.step,
            summary=f"The gradient scaler has left out {still.skipped} updates in a row before step {still.step}: the "
            "gradients overflow whatever the scale.",
            evidence=(Evidence("skipped_updates", "", still.step, float(still.skipped), float(SKIPPED_ROWS)),),
            advice=(
                "Train in bfloat16, which needs no loss scaler.",
                "Begin with a lower scale, torch.amp.GradScaler(init_scale=2.0**10), and leave backoff_factor at 0.5.",
                *ADVICE["backward"],
            ),
            phase="backward",
            ruled_out=("Not a search for the scale: that takes a handful of updates.",),
        )


class LossSpike(Rule):
    """The loss rose far above that of a model that knows nothing.

    What it means:
        A model that gives every class the same probability has a loss of -log(1/C); one that predicts the mean has the
        variance of the targets. This run was at that level, and then twice as bad or worse: an update threw it off.

    Why it hurts:
        What had been learned is gone. A run that comes back has lost the time, and often units that stay dead; a run
        that does not come back is lost.

    How it is decided:
        A loss of at least twice the first loss, the level over the first block and the uninformed loss is a spike,
        named at its peak, if it also stands out from the run's own noise: it is twice the largest loss of the median
        block, or the last two blocks lie at twice the uninformed loss as a whole. *Recovered*: the mean loss of the
        last block is below 0.95 of both the first and the uninformed; info. *Not recovered*: the mean of each of the
        last two blocks is above 0.95 of the uninformed loss, no better than guessing; a warning, critical when the
        last one is at twice the uninformed loss or above.

    What to try:
        A learning rate that is warmed up or lower; clipping of the gradient norm; look at the batch of that step.

    Not reported when:
        The uninformed loss is not known, several optimizers work against each other, or the run broke (L001 and G001
        say so).

    References:
        Chowdhery et al., PaLM (2022), section 5.1, loss spikes; Goyal et al., Accurate, large minibatch SGD (2017),
        warm-up.
    """

    code: ClassVar[str] = "L003"
    name: ClassVar[str] = "loss-spike"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, for the whole run."""
        way = course(digest)
        if way is None or way.uninformed is None or way.uninformed <= 0 or is_adversarial(digest) or is_broken(digest):
            return
        uninformed, means = way.uninformed, way.means(2)
        bound = SPIKE * max(way.first, way.early, uninformed)
        peak, step = float(way.state["maximum"]), int(way.state["maximum_at"])
        if not len(means) or not peak >= bound:
            return
        lasting = len(means) == 2 and bool(means.min() >= SPIKE * uninformed)
        usual = float(np.median(finite_tail(way.state["recent_maximum"], RECENT_BLOCKS)))
        if not lasting and way.state["blocks"] > 1 and peak < SPIKE * usual:
            return
        recovered = bool(means[-1] < BETTER * min(way.first, uninformed))
        if not recovered and (len(means) < 2 or means.min() < BETTER * uninformed):
            return
        severity: Severity = "info" if recovered else "critical" if means[-1] >= SPIKE * uninformed else "warning"
        end = f"It {'' if recovered else 'has not '}recovered: the mean of the last block is {means[-1]:.3g}."
        yield Finding(
            self.code,
            self.name,
            severity,
            "",
            step,
            summary=f"The loss rose to {peak:.3g} at step {step}, {peak / uninformed:.2g} times that of a model "
            f"that knows nothing. {end}",
            evidence=(
                Evidence(way.name, "", step, peak, bound),
                Evidence(way.name, "", way.step, float(means[-1]), way.first),
            ),
            advice=(
                "Warm the learning rate up over the first few hundred steps, or lower it.",
                "Clip the gradient norm: monitor.clip_grad_norm_(1.0).",
                f"Look at the batch of step {step}: inputs or targets far from the others.",
            ),
            status="recovered" if recovered else "active",
            phase="update",
            ruled_out=(
                f"Not the noise of batches: the largest loss of the median block is {usual:.3g}."
                if peak >= SPIKE * usual
                else "Not a single batch: the last two blocks lie there as a whole.",
            ),
            confidence=0.9,
        )


class DivergingLoss(Rule):
    """The loss has been growing for a long time.

    What it means:
        It had come down, or stood still, and then began to grow by the same factor again and again: too slowly for any
        single step to look like a spike.

    Why it hurts:
        What was learned is lost. Such a growth feeds on itself and hardly ever turns round.

    How it is decided:
        Against the run itself, from block medians of log10 of the loss: both of the last two lie six times and more
        above the lowest level, and a straight line through the time since the onset accounts for at least half of
        that, so that a jump at a new learning rate or a resume does not count. The onset is where this line meets the
        one through the time before. Info where the loss is still below a tenth of the first one, or never fell and
        its call was not observed; a warning above that; critical above the first loss.

    What to try:
        The learning rate in force since the onset, lowered or decayed; a checkpoint from before the onset.

    Not reported when:
        The loss is or was 0 or negative at some step: a ratio then says nothing.

    References:
        Zhang et al., OPT (2022), section 2.5, divergences; Molybog et al., A theory on Adam instability (2023).
    """

    code: ClassVar[str] = "L004"
    name: ClassVar[str] = "diverging-loss"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, for the whole run."""
        loss = training_loss(digest)
        if (
            loss is None
            or not loss.state["recent"][-1] - loss.state["trough"] >= DIVERGED
            or loss.state["minimum"] <= 0
        ):
            return
        change = rises(digest.trajectory(loss.name, ("",)), DIVERGED)
        if change.gradual[0]:
            yield self._finding(digest, loss, change)

    def _finding(self, digest: Digest, loss: Loss, change: Changes) -> Finding:
        first, now = float(loss.state["first"]), 10 ** float(loss.state["recent"][-1])
        lowest, rise = 10 ** float(loss.state["trough"]), float(change.rise[0])
        step, last = max(0, round(float(change.step[0]))), int(loss.state["last_step"])
        learned = float(loss.state["trough"]) <= np.log10(first) - LEARNED
        judged = learned or (digest.audit is not None and digest.audit.expected is not None)
        severity: Severity = (
            "info" if not judged or now < NOTICEABLE * first else "critical" if now > first else "warning"
        )
        double = (last - step) * np.log10(2) / rise
        return Finding(
            self.code,
            self.name,
            severity,
            "",
            step,
            summary=f"The loss has grown since step {step}, {10**rise:.2g} times by now, twofold about every "
            f"{double:.2g} steps.",
            evidence=(
                Evidence(loss.name, "", last, now, lowest * 10**DIVERGED),
                Evidence(loss.name, "", step, now / 10**rise),
            ),
            advice=(
                "Go back to a checkpoint from before the onset, with a lower learning rate or one that decays.",
                "Clip the gradient norm: monitor.clip_grad_norm_(1.0).",
            ),
            phase="update",
            ruled_out=("Not a jump: a straight line in log10 fits the time since the onset.",),
            confidence=0.9,
        )
