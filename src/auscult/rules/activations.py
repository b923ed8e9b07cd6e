"""Rules about what flows forward: A001 dead-units, A002 saturated.

Know the outputs of modules that were observed, and nothing of operations that are no module.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from auscult.core.digest import Digest
from auscult.core.finding import Evidence, Finding, Severity
from auscult.core.run import Module
from auscult.rules.channels import (
    death,
    finite_tails,
    leaves,
    listing,
    loss_has_fallen,
    recent_start,
    state_of,
    training_loss,
    worded,
)
from auscult.rules.rule import Rule

BLOCKS = 2
DEAD_INFO, DEAD_ALARM, DEAD_ALL = 0.6, 0.9, 0.995
SMALL_BATCH = 8
LEARNS = 0.5
SATURATED_START, SATURATED_ALARM = 0.5, 0.9
SPARSE = 0.15  # mean^2 / mean square; 2 / pi for a half-normal one


class DeadUnits(Rule):
    """Most units of a layer are 0 for every sample.

    What it means:
        A ReLU whose input is negative for all data passes neither signal nor gradient; it will hardly ever come back.

    Why it hurts:
        The layer has lost most of its width. If all units are dead, nothing in front of it learns any more.

    How it is decided:
        From the lowest `dead_fraction` in each of the last two blocks: at least 0.6 in both gives info, 0.9 a
        warning, 0.995 critical; where the loss has fallen by half all the same, the finding says so. The share of zeros
        is not used: half or more zeros are normal for a ReLU. Only the module that comes first in forward order is
        reported; those behind it (pooling, dropout) see the same zeros. The onset is exact where units were dead from
        the first observation on; otherwise it is the first block in which they were dead throughout, so they died no
        later than at its start.

    What to try:
        A lower learning rate with warm-up; He initialisation and zero biases; normalisation before the activation; a
        LeakyReLU or GELU.

    Not reported when:
        Most of the network has no gradient (see G001), outputs can be negative, or fewer than two blocks were observed.
        With 8 samples a batch or fewer it is info at most, because units that are rarely needed are then silent in most
        batches. So it is where the loss has fallen by half and the units that are not silent answer to few samples as
        well (mean^2 / mean square of the outputs is below 0.15 of their share): a sparse code.

    References:
        Karpathy, makemore part 3 (2022), dead neurons; AutoTrainer (ICSE 2021): share of zeros >= 0.7 (a rule that
        alarms on healthy runs, hence not followed).
    """

    code: ClassVar[str] = "A001"
    name: ClassVar[str] = "dead-units"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        dead = list(_lasting(digest, "dead_fraction", DEAD_INFO))
        if not dead or death(digest) is not None:
            return  # where the whole network is dead, zero-gradient says so, with the cause
        worst = [each for each in dead if each[2] >= DEAD_ALARM] or dead
        module, state, share = worst[0]
        bound = DEAD_ALARM if share >= DEAD_ALARM else DEAD_INFO
        begin, value = _since(state, bound)
        others = [each.path for each, _, _ in worst[1:]]
        behind = f" Modules behind it show the same: {listing(others)}." if others else ""
        latest = "" if begin == state["first_step"] else " at the latest"
        loss = training_loss(digest)
        fallen = loss_has_fallen(loss, LEARNS)
        sparse = fallen and any(_is_sparse(digest, each.path, part) for each, _, part in worst)
        learns = (
            f" The run learns all the same: the loss has fallen from {loss.state['first']:.3g} to "
            f"{loss.state['recent_mean'][-1]:.3g}."
            if loss is not None and fallen
            else ""
        )
        yield Finding(
            self.code,
            self.name,
            "info" if sparse else self._severity(digest, share),
            module.path,
            begin,
            summary=f"{share:.0%} of the units of {worded(module)} have been 0 for every sample since step {begin}"
            f"{latest}.{behind}{learns}",
            evidence=(Evidence("dead_fraction", module.path, begin, value, bound),),
            advice=(
                "Lower the learning rate or warm it up: one update that is too large can switch a layer off for good.",
                "Initialise with torch.nn.init.kaiming_normal_ and biases of 0; standardise the inputs.",
                "Put a normalisation layer before the activation, or use LeakyReLU or GELU.",
            ),
            phase="forward",
            confidence=0.9 if share >= DEAD_ALARM else 0.5,
        )

    def _severity(self, digest: Digest, share: float) -> Severity:
        batch = digest.audit.input_shape[0] if digest.audit is not None and digest.audit.input_shape else None
        if share < DEAD_ALARM or (batch is not None and batch <= SMALL_BATCH):
            return "info"
        return "critical" if share >= DEAD_ALL else "warning"


def _is_sparse(digest: Digest, path: str, dead: float) -> bool:
    """Whether the units of a module that are not dead answer to few samples only."""
    mean, std = (state_of(digest, name, path) for name in ("activation_mean", "activation_std"))
    if mean is None or std is None:
        return False
    squares = float(mean["last"]) ** 2, float(std["last"]) ** 2
    return squares[0] < SPARSE * (1 - dead) * (squares[0] + squares[1])


class Saturated(Rule):
    """A tanh works at its limits.

    What it means:
        Most outputs of a tanh lie beyond +-0.97, where its slope is below 0.06.

    Why it hurts:
        The gradient is multiplied by that slope on its way back, so the layers in front learn slowly or not at all.

    How it is decided:
        From the lowest `saturated_fraction` in each of the last two blocks, for modules whose type is a tanh. At
        least 0.5 from the first observation on gives info, at least 0.9 from the first observation on a warning while
        the loss has not fallen by a tenth. Saturation that developed while training gives info at 0.9.

    What to try:
        Scale the weights in front by gain / sqrt(fan_in) (gain 5/3 for tanh); normalise before it; standardise the
        inputs.

    Not reported when:
        The module is a sigmoid, a softmax or a recurrent cell: gates and attention are meant to open and close. The
        last module of the forward pass became saturated by training: a bounded output at its bound may be right.

    References:
        Karpathy, makemore part 3 (2022), |h| > 0.97; Glorot and Bengio, AISTATS 2010, section 3.
    """

    code: ClassVar[str] = "A002"
    name: ClassVar[str] = "saturated"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, for the first module concerned."""
        last = list(leaves(digest).values())[-1:]
        for module, state, share in _lasting(digest, "saturated_fraction", SATURATED_START):
            if "tanh" not in module.type.lower() or (module in last and state["first"] < SATURATED_START):
                continue
            from_start = bool(state["first"] >= SATURATED_START)
            if share < (SATURATED_START if from_start else SATURATED_ALARM):
                continue
            yield self._finding(digest, module, state, share, from_start)
            return

    def _finding(self, digest: Digest, module: Module, state: Any, share: float, from_start: bool) -> Finding:
        loss = training_loss(digest)
        begin, value = _since(state, SATURATED_START)
        stuck = loss is None or not bool(loss.state["recent_mean"][-1] < 0.9 * loss.state["first"])
        alarm = bool(state["first"] >= SATURATED_ALARM) and share >= SATURATED_ALARM and stuck
        when = "since the first step" if from_start else f"since step {begin}"
        advice = (
            "Scale the weights in front to (5/3) / sqrt(fan_in): torch.nn.init.xavier_normal_(weight, gain=5/3).",
            "Put a normalisation layer before the tanh; standardise the inputs.",
        )
        return Finding(
            self.code,
            self.name,
            "warning" if alarm else "info",
            module.path,
            begin,
            summary=f"{share:.0%} of the outputs of {worded(module)} have been beyond 0.97 in size {when}.",
            evidence=(Evidence("saturated_fraction", module.path, begin, value, SATURATED_START),),
            advice=advice if from_start else ("Lower the learning rate or decay the weights.", *advice[1:]),
            phase="forward",
            confidence=0.8,
        )


def _lasting(digest: Digest, metric: str, bound: float) -> Iterator[tuple[Module, Any, float]]:
    """Leaf modules in forward order with their state and the lowest value over the last blocks, at least `bound`."""
    if not len(digest.index.rows(metric, None)[0]):
        return
    modules = leaves(digest)
    shares = finite_tails(digest.take("recent_minimum", metric, tuple(modules)), BLOCKS).min(1)
    several = list(modules.values())
    for number in np.flatnonzero(shares >= bound).tolist():
        module = several[number]
        yield module, state_of(digest, metric, module.path), float(shares[number])


def _since(state: Any, bound: float) -> tuple[int, float]:
    """Onset and the value there: the first step if it was there from the start, else the block that stayed above."""
    below = np.flatnonzero(~(state["recent_minimum"] >= bound))
    position = int(below[-1]) + 1 if len(below) else 0
    value = float(state["recent_minimum"][min(position, len(state["recent_minimum"]) - 1)])
    if state["first"] >= bound and state["minimum"] >= bound:
        return int(state["first_step"]), float(state["first"])
    return recent_start(state, position), value
