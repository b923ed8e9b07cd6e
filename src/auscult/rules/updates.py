"""Rules about what moves at all: U003 parameters-not-updated, U004 parameter-in-no-optimizer.

Know what was really applied to the parameters, not what the optimizer meant to do.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from auscult.core.digest import BLOCK_STEPS, Digest, block_start
from auscult.core.finding import Evidence, Finding, Severity
from auscult.core.run import Parameter
from auscult.core.standstill import Standstill
from auscult.rules.channels import Group, common_module, leaves, listing, roster, state_of, trainable
from auscult.rules.course import course
from auscult.rules.rule import ZERO_ROWS, Rule

ROUNDING = 1e-6
UNLEARNED = 0.5  # share of the uninformed loss
IN_VAIN_STEPS = 2 * BLOCK_STEPS


STUCK_ADVICE = (
    "Check that optimizer.step() is called on the optimizer that holds this very tensor; build the optimizer after the "
    "model is complete, moved and wrapped.",
    "Look for code that restores or overwrites the value after the step.",
)
ROUNDING_ADVICE = "Under float16 or bfloat16 keep a float32 copy: an update below the resolution is rounded away."


class ParametersNotUpdated(Rule):
    """A parameter has a gradient and a place in the optimizer, but never changes.

    What it means:
        Its gradient is not 0, its learning rate is not 0, and yet it is bit for bit what it was at the first step.

    Why it hurts:
        It stays as it was initialised; the rest of the network learns around it, if it does at all.

    How it is decided:
        Exactly: trainable, held by an optimizer, `update_norm` 0 from its first row on for at least 8 rows in which
        the learning rate was not 0, and at least 8 rows with a gradient that is finite and not 0. A warning; critical
        when such parameters hold half of the trainable elements or more. A vector whose first step (lr x gradient) is
        below a millionth of its norm gives info: rounding alone explains it, as for a normalisation weight of 1 in a
        slow start. Parameters that never received a gradient at all (None) while others did are listed as one finding:
        a warning where they are those of the foremost layers, which run in every pass in front of all that train, and
        the loss is still at 0.5 of the uninformed loss or above; info otherwise.
        An optimizer that has made 8 updates or more, while nothing that it holds ever received a gradient or moved, is
        stepped in vain, as where a generator's output is detached before its loss: info, a warning when it has gone on
        for 128 steps of closed blocks, critical at once when nothing else is held.
        Critical, too, when the run has ended after eight training passes or more and no update was ever made.

    What to try:
        Step the optimizer that holds the parameter you train (not one built from a copy of the model); look for code
        that puts the old value back; under float16 or bfloat16 keep a float32 copy: a small update is rounded away.

    Not reported when:
        The parameter is frozen or in no optimizer (U004), its gradient is 0 (G001) or its learning rate is 0.

    References:
        TrainCheck (OSDI 2025): a step must change parameters; TheDeepChecker, "untrained weights".
    """

    code: ClassVar[str] = "U003"
    name: ClassVar[str] = "parameters-not-updated"
    exact: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, at the parameter or at the module that holds all of them."""
        if digest.standstill is not None and digest.step < 0 and digest.standstill.skipped < digest.standstill.passes:
            yield self._no_update(digest.standstill)
            return
        held = roster(digest).held
        rows, zeros = (digest.take(name, "update_norm", held.paths) for name in ("rows", "zeros"))
        still = np.flatnonzero(rows == zeros).tolist()
        candidates = (held[number] for number in still)
        stuck = [
            each for each in candidates if _never_moved(digest, each) and _had_gradient(digest, each.path, ZERO_ROWS)
        ]
        real = [each for each in stuck if not _rounding_explains(digest, each)]
        if real:
            total = sum(each.size for each in trainable(digest))
            severity: Severity = "critical" if 2 * sum(each.size for each in real) >= total else "warning"
            yield self._finding(digest, real, severity)
        elif idle := _stepped_in_vain(digest, held):
            yield self._in_vain(digest, idle, held)
        elif stuck:
            yield self._finding(digest, stuck, "info")
        else:
            yield from self._without_gradient(digest, held)

    def _finding(self, digest: Digest, parameters: list[Parameter], severity: Severity) -> Finding:
        paths = [each.path for each in parameters]
        update, gradient = state_of(digest, "update_norm", paths[0]), state_of(digest, "grad_norm", paths[0])
        assert update is not None and gradient is not None
        step = int(update["first_step"])
        rounding = ": its steps are too small for float32" if severity == "info" else ""
        return Finding(
            self.code,
            self.name,
            severity,
            common_module(paths),
            step,
            summary=f"{listing(paths)} never changed, although the gradient is not 0 and an optimizer holds "
            f"{'it' if len(paths) == 1 else 'them'}{rounding}.",
            evidence=(
                Evidence("update_norm", paths[0], step, 0.0),
                Evidence("grad_norm", paths[0], int(gradient["first_step"]), float(gradient["first"])),
            ),
            advice=(ROUNDING_ADVICE,) if severity == "info" else (*STUCK_ADVICE, ROUNDING_ADVICE),
            phase="update",
            ruled_out=("Not frozen and not without gradient: its gradient was not 0 for at least 8 rows.",),
            confidence=0.5 if severity == "info" else 1.0,
        )

    def _no_update(self, still: Standstill) -> Finding:
        return Finding(
            self.code,
            self.name,
            "critical",
            "",
            still.step,
            summary=f"No update was ever made: {still.passes} training passes, and no step of an optimizer that is "
            "watched.",
            evidence=(Evidence("update_norm", "", still.step, 0.0),),
            advice=("Call optimizer.step() after loss.backward(), on the optimizer given to watch.", *STUCK_ADVICE),
            phase="update",
        )

    def _in_vain(self, digest: Digest, parameters: list[Parameter], held: Group) -> Finding:
        paths = [each.path for each in parameters]
        group = parameters[0].group or ""
        update, lr = state_of(digest, "update_norm", paths[0]), state_of(digest, "lr", group)
        assert update is not None
        names = sorted({_optimizer_of(each) for each in parameters} - {""})
        who = f"Optimizer {listing(names)}" if names else "The optimizer"
        step = int(update["first_step"])
        everything, lasts = len(parameters) == len(held), block_start(digest.step + 1) - step >= IN_VAIN_STEPS
        return Finding(
            self.code,
            self.name,
            "critical" if everything else "warning" if lasts else "info",
            common_module(paths),
            step,
            summary=f"{who} made updates, but {listing(paths)} never received a gradient (None): "
            f"{'nothing is' if everything else 'none of what it holds is'} trained.",
            evidence=(
                Evidence("update_norm", paths[0], step, 0.0),
                *(() if lr is None else (Evidence("lr", group, step, float(lr["first"])),)),
            ),
            advice=(
                "Look for detach(), no_grad() or .data between what they compute and the loss that is meant to train "
                "them; call backward() on that loss before the step.",
                "If they are not meant to train, leave out the step, or freeze them with requires_grad_(False).",
            ),
            phase="backward",
            ruled_out=(f"Not an optimizer that waits for its turn: it was stepped at least {ZERO_ROWS} times.",),
        )

    def _without_gradient(self, digest: Digest, held: Group) -> Iterator[Finding]:
        rows = digest.take("rows", "grad_norm", held.paths)
        if rows.all() or not (rows >= ZERO_ROWS).any():
            return
        missing = [path for path, count in zip(held.paths, rows.tolist()) if not count]
        paths, states = digest.select("grad_norm", held.paths)
        step, way = int(states["first_step"].min()), course(digest)
        harm = way is not None and way.standing >= UNLEARNED and _runs_in_front(digest, missing, paths)
        cut = ": what they compute is cut off from the loss on its way through the others" if harm else ""
        yield Finding(
            self.code,
            self.name,
            "warning" if harm else "info",
            missing[0].rpartition(".")[0] if harm else "",
            step,
            summary=f"{listing(missing)} never received a gradient (None), while {len(paths)} other parameters did"
            f"{cut}.",
            evidence=(
                Evidence("grad_norm", paths[0], step, float(states["first"][0])),
                *((way.evidence(),) if way is not None and harm else ()),
            ),
            advice=(
                "Check that they take part in the forward pass and are not cut off by detach() or no_grad(); freeze "
                "them otherwise.",
            ),
            phase="backward",
            confidence=0.8 if harm else 0.5,
        )


class ParameterInNoOptimizer(Rule):
    """A trainable parameter is in no optimizer.

    What it means:
        It receives a gradient, but no optimizer that is watched holds it, and it does not move.

    Why it hurts:
        It stays as it was initialised. Typical for a layer that was added or replaced after the optimizer had been
        built.

    How it is decided:
        Exactly: requires a gradient, belongs to no group, its gradient was not 0 at least once, and in 8 rows neither
        did an update move it nor did its norm change. A warning; critical when no parameter at all is held. Info when
        it looks deliberate: all parameters left out come before all those held, have at least half of the elements,
        and at most a third of the parameters are held (a head trained on a network that was not frozen).

    What to try:
        Build the optimizer after the last change to the model, or add the parameter with add_param_group. If it is
        meant to stay, call requires_grad_(False): its gradient costs time and memory.

    Not reported when:
        It moves all the same: another optimizer, which is not watched, holds it.

    References:
        huggingface/accelerate#2665 by way of TrainCheck (OSDI 2025): the optimizer held parameters from before
        wrapping.
    """

    code: ClassVar[str] = "U004"
    name: ClassVar[str] = "parameter-in-no-optimizer"
    exact: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, at the parameter or at the module that holds all of them."""
        left_out = [
            each
            for each in trainable(digest)
            if each.group is None and _had_gradient(digest, each.path, 1) and _stands_still(digest, each.path)
        ]
        if not left_out:
            return
        paths = [each.path for each in left_out]
        gradient = state_of(digest, "grad_norm", paths[0])
        assert gradient is not None
        step = int(gradient["first_step"])
        yield Finding(
            self.code,
            self.name,
            _severity_left_out(trainable(digest), left_out),
            common_module(paths),
            step,
            summary=f"No optimizer holds {listing(paths)} ({len(paths)} of {len(trainable(digest))} trainable "
            "parameters): a gradient arrives, but nothing moves.",
            evidence=(
                Evidence("grad_norm", paths[0], step, float(gradient["first"])),
                Evidence("update_norm", paths[0], step, 0.0),
            ),
            advice=(
                "Build the optimizer after the last change to the model, or call optimizer.add_param_group.",
                "If they are meant to stay, freeze them with requires_grad_(False).",
            ),
            phase="update",
        )


def _stepped_in_vain(digest: Digest, held: Group) -> list[Parameter]:
    """What those optimizers hold of which every parameter was stepped, but none ever had a gradient or moved."""
    gradients = digest.take("rows", "grad_norm", held.paths)
    rows, zeros = (digest.take(name, "update_norm", held.paths) for name in ("rows", "zeros"))
    alive = (gradients > 0) | (rows < ZERO_ROWS) | (rows > zeros)
    working = {_optimizer_of(each) for each, lives in zip(held, alive.tolist()) if lives}
    return [each for each in held if _optimizer_of(each) not in working]


def _optimizer_of(parameter: Parameter) -> str:
    return (parameter.group or "").rpartition(".")[0]


def _severity_left_out(everything: Sequence[Parameter], left_out: list[Parameter]) -> Severity:
    held = [each for each in everything if each.group is not None]
    if not held:
        return "critical"
    paths = [each.path for each in everything]
    in_front = all(paths.index(each.path) < paths.index(held[0].path) for each in left_out)
    large = 2 * sum(each.size for each in left_out) >= sum(each.size for each in everything)
    return "info" if in_front and large and 3 * len(held) <= len(everything) else "warning"


def _runs_in_front(digest: Digest, missing: Sequence[str], trained: Sequence[str]) -> bool:
    """Whether these parameters are those of modules whose outputs were seen, all of them before any that trains."""
    order = {path: number for number, path in enumerate(leaves(digest))}
    homes = {path.rpartition(".")[0] for path in missing}
    if not all(home in order and state_of(digest, "activation_std", home) is not None for home in homes):
        return False
    later = [order.get(path.rpartition(".")[0], -1) for path in trained]
    return max(order[home] for home in homes) < min(later)


def _had_gradient(digest: Digest, path: str, rows: int) -> bool:
    """Whether its gradient was finite and not 0 in at least so many rows."""
    state = state_of(digest, "grad_norm", path)
    return state is not None and bool(state["finite"] - state["zeros"] >= rows)


def _stands_still(digest: Digest, path: str) -> bool:
    """Whether its update has been exactly 0 from its first row on, for long enough to count, and its norm the same."""
    update, norm = (state_of(digest, name, path) for name in ("update_norm", "param_norm"))
    still = update is not None and bool(update["zeros"] == update["rows"] >= ZERO_ROWS)
    return still and (norm is None or bool(norm["minimum"] == norm["maximum"]))


def _never_moved(digest: Digest, parameter: Parameter) -> bool:
    """As `_stands_still`, with the rows taken off in which a learning rate of 0 explains it."""
    lr = state_of(digest, "lr", parameter.group or "")
    update = state_of(digest, "update_norm", parameter.path)
    if lr is None or update is None or update["zeros"] != update["rows"]:
        return False
    return bool(lr["zeros_from"] < 0 and update["rows"] - lr["zeros"] >= ZERO_ROWS)


def _rounding_explains(digest: Digest, parameter: Parameter) -> bool:
    """Whether float32 loses the first plain step of a vector; a matrix has small elements, which move."""
    if len(parameter.shape) >= 2:
        return False
    first = [
        float("nan") if state is None else float(state["first"])
        for state in (
            state_of(digest, "lr", parameter.group or ""),
            state_of(digest, "grad_norm", parameter.path),
            state_of(digest, "param_norm", parameter.path),
        )
    ]
    lr, gradient, norm = first
    return bool(lr * gradient < ROUNDING * norm)
