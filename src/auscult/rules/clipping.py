"""Rules about gradient clipping: G004 over-clipping.

Know the total norm that clipping saw and the bound it had, for clipping by one factor for all gradients.
"""

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import numpy as np

from auscult.core.digest import BLOCK_STEPS, Digest
from auscult.core.finding import Evidence, Finding
from auscult.rules.channels import Logs, finite_tail, norm_of_all, recent_start, state_of, trainable
from auscult.rules.course import Course, course, travel
from auscult.rules.rule import Rule

BLOCKS, HEAVY = 4, 1.0  # number, decades
SHARE, SIZE = 0.9, 0.1  # of the squares, of the elements
SHORT_WAY, UNMOVED = 0.1, 0.85  # multiple of a norm, share of the loss


class Clipped(NamedTuple):
    """Clipping at every single step.

    Attributes:
        step: Since when.
        ratios: log10 of the median norm / bound of the last blocks `(B,)`.
        last: The last step at which it was observed.
        bound: What the norm is clipped to, as far as it can be told from the norms of all gradients.
        usual: The norm that about one step in a hundred exceeds.
    """

    step: int
    ratios: Logs
    last: int
    bound: float
    usual: float

    @property
    def times(self) -> float:
        """Median norm / bound."""
        return 10 ** float(np.median(self.ratios))

    @property
    def heavy(self) -> bool:
        """Whether all of the last blocks were clipped to a tenth and less."""
        return bool(self.ratios.min() >= HEAVY)


def clipped_throughout(digest: Digest) -> Clipped | None:
    """Whether each step of the last four blocks was clipped; of a shorter run that has ended, each step of all."""
    state, ratio = state_of(digest, "clip_coefficient"), state_of(digest, "clip_ratio")
    if state is None or ratio is None:
        return None
    blocks = BLOCKS
    if digest.finished and state["rows"] >= BLOCK_STEPS:
        blocks = min(BLOCKS, int(state["blocks"]))
    ratios = finite_tail(ratio["recent"], blocks)
    if not (state["recent_maximum"][-blocks:] < 1).all() or len(ratios) < blocks:
        return None
    unclipped = np.flatnonzero(~(state["recent_maximum"] < 1))
    totals = norm_of_all(digest.take("recent", "grad_norm", trainable(digest).paths))
    offsets = finite_tail(totals - ratio["recent"], blocks)
    bound = 10 ** float(np.median(offsets)) if len(offsets) else float("nan")
    return Clipped(
        recent_start(state, int(unclipped[-1]) + 1 if len(unclipped) else 0),
        ratios,
        int(ratio["last_step"]),
        bound,
        bound * float(np.median(finite_tail(ratio["recent_maximum"], blocks))),
    )


class OverClipping(Rule):
    """The gradient is clipped at every single step.

    What it means:
        The bound is never met, so every step has the length that the bound sets, whatever the gradient's own.

    Why it hurts:
        Under plain SGD the learning rate is then lr x max_norm / norm, a schedule nobody chose, and it can be so small
        that nothing is learned. Adam is indifferent to a constant factor, and many healthy runs clip through their
        whole warm-up: hence info. What does hurt besides is one parameter that is far louder than the rest: the step
        then follows it alone.

    How it is decided:
        `clip_coefficient` was below 1 at every step of the last four blocks (256 steps; of all blocks in a run that
        ended sooner, of 64 steps at least): info. A warning when, besides, the median `clip_ratio` of each of these
        blocks is at least 10 and either the update ratios of all steps add up to less than a tenth while the loss is
        still at 0.85 or more of its beginning, or a single parameter with less than a tenth of the elements holds at
        least 90 % of the squared gradient norm.

    What to try:
        The bound that would have cut about one step in a hundred, which is the median over blocks of 64 steps of the
        largest norm in each; look at the loudest parameter first.

    Not reported when:
        Some steps go unclipped (30 to 60 % clipped steps are usual), or nothing clips.

    References:
        Drevo, Training run diagnostic metrics (2026), clip ratio; Pascanu et al., ICML 2013; DeepCrime (ISSTA 2021),
        operator "change gradient clip".
    """

    code: ClassVar[str] = "G004"
    name: ClassVar[str] = "over-clipping"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        found = clipped_throughout(digest)
        if found is None:
            return
        loudest = _loudest(digest) if found.heavy and len(found.ratios) == BLOCKS else None
        way, moved = course(digest), travel(digest)
        starved = way is not None and found.heavy and _starved(way, moved)
        alarm = starved or loudest is not None
        culprit = f" {loudest[0]} alone holds {loudest[1]:.0%} of it." if loudest is not None else ""
        effect = f" In all, the median weight has moved by {moved:.1%} of its norm." if starved else ""
        look = () if loudest is None else (f"Look at {loudest[0]}: its initialisation and the scale of its input.",)
        yield Finding(
            self.code,
            self.name,
            "warning" if alarm else "info",
            "" if loudest is None else loudest[0],
            found.step,
            summary=f"Every step since step {found.step} was clipped; the gradient norm is {found.times:.2g} times "
            f"max_norm in the median.{culprit}{effect}",
            evidence=(
                Evidence("clip_ratio", "", found.last, found.times, 10**HEAVY),
                *((way.evidence(way.start),) if way is not None and starved else ()),
            ),
            advice=(
                *look,
                f"Raise max_norm {found.bound:.2g} -> about {found.usual:.2g}, which cuts one step in a hundred"
                f"{'' if starved else ', and lower the learning rate to match'}.",
            ),
            phase="update",
            ruled_out=("Not the learning rate: the step is this small because of the bound.",) if starved else (),
            confidence=0.9 if starved else 0.8,
        )


def _starved(way: Course, moved: float) -> bool:
    return bool(0 < moved < SHORT_WAY and way.now >= UNMOVED * way.start)


def _loudest(digest: Digest) -> tuple[str, float] | None:
    """The small parameter that holds nearly all of the squared gradient over the last blocks, with its share."""
    paths, states = digest.select("grad_norm", trainable(digest).paths)
    if len(paths) < 2:
        return None
    recent = states["recent"][:, -BLOCKS:]
    squares = np.where(np.isnan(recent), 0.0, 10.0 ** (2.0 * recent))
    shares = squares / np.maximum(squares.sum(0), np.finfo(np.float64).tiny)
    lowest = shares.min(1)
    culprit = int(lowest.argmax())
    sizes = {each.path: each.size for each in digest.parameters}
    elements = sizes[paths[culprit]] / sum(sizes[path] for path in paths)
    return (paths[culprit], float(lowest[culprit])) if lowest[culprit] >= SHARE and elements < SIZE else None
