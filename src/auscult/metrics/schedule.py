"""Schedule: which steps are measured, so that measuring stays inside its budget.

Norms are taken at every N-th step, samples (moments, activations) at every S-th; N and S are powers of two. With a
fixed `every` they stay as given. Otherwise they follow the measured cost, and change only at multiples of 256 steps.
"""

import math
from dataclasses import dataclass
from statistics import fmean, median

from auscult.core.errors import SetupError

REVIEW_STEPS = 256
LONGEST = 1024
FIRST_EXAMINED = 64
CLOSER_STEPS, CLOSER_LOOKS = 16, 8
_SAMPLING = 16  # samples per norms: they cost several times as much
_PLANNED = 0.85  # of the budget: what was measured of some steps is off by about a tenth for those that follow


@dataclass(frozen=True, slots=True)
class Cadence:
    """Norms at every `norms`-th step, samples at every `samples`-th."""

    norms: int
    samples: int


class Schedule:
    """Decides by step number alone which steps are measured, and adapts the cadence to the budget.

    Besides, few steps are examined in full detail: the first, the last where it is known, and those whose number is a
    power of two, 64 or more; of these, with an adapting cadence, only those that the budget has room for. Where
    something is found, the last measured step is examined although it is over, and an adapting cadence looks closer for
    a while; a fixed one stays as given.

    Attributes:
        fixed: Whether the cadence is fixed.
        cadence: What is followed.
        alone: Whether this process decides by itself; otherwise it only proposes.
        proposal: The cadence that its own costs ask for.

    Args:
        every: A fixed cadence: norms at every k-th step and samples at every 16 k-th, or the pair (norms, samples);
            powers of two. None adapts.
        budget: Share of the bare step time that measuring may take; used when `every` is None.
        last: The last step of the training; None where it is not known.

    Raises:
        SetupError: if `every` is not a power of two, or the budget is not between 0 and 1.
    """

    def __init__(self, every: int | tuple[int, int] | None, budget: float, last: int | None = None) -> None:
        pair = (every, every * _SAMPLING) if isinstance(every, int) else every or (1, _SAMPLING)
        for each in pair:
            if each < 1 or each & (each - 1):
                raise SetupError(
                    f"Expected `every` to be a power of two (or two of them), but got {every}. Blocks of 64 steps need "
                    f"it; write every={2 ** max(0, round(math.log2(max(each, 1))))}."
                )
        if not 0 < budget < 1:
            raise SetupError(f"Expected `budget` to be between 0 and 1, but got {budget}. Write budget=0.02 for 2 %.")
        self.fixed = every is not None
        self.cadence = self.proposal = Cadence(*pair)
        self.alone = True
        self._budget = budget
        self._window: dict[tuple[bool, bool], list[float]] = {}  # (norms, samples) to seconds, since the last review
        self._costs: dict[tuple[bool, bool], float] = {}  # typical cost of each kind of step, as last seen
        self._bare: list[float] = []
        self._last = last
        self._examining = 0.0  # seconds that the last examined step took
        self._trained = 0.0  # seconds of training so far
        self._looked_at: set[object] = set()
        self._looked_back: set[object] = set()
        self._looking_back = 0.0  # seconds that the last look back took
        self._not_of_the_step = 0.0  # seconds that looking back has taken since the last update
        self._step_time = 0.0  # of the last step, without auscult
        self._closer = range(0)  # steps in which everything is measured, the first in full detail

    def norms(self, step: int) -> bool:
        """Whether norms are taken at this step."""
        return step % self.cadence.norms == 0 or step in self._closer

    def samples(self, step: int) -> bool:
        """Whether moments and activations are taken at this step."""
        return step % self.cadence.samples == 0 or step in self._closer

    def examines(self, step: int) -> bool:
        """Whether this step is examined in full detail."""
        if step in (0, self._last):
            return True
        wanted = (step >= FIRST_EXAMINED and step & (step - 1) == 0) or step in self._closer[:1]
        return wanted and (self.fixed or self._examining <= self._budget / 4 * self._trained)

    def look_closer(self, step: int, cause: object) -> None:
        """Something was found while a step was in progress: the next one is examined, and 16 are measured completely.

        Once for each cause, and for eight causes at most; not with a fixed cadence.
        """
        if self.fixed or cause in self._looked_at or len(self._looked_at) == CLOSER_LOOKS:
            return
        self._looked_at.add(cause)
        self._closer = range(step + 1, step + 1 + CLOSER_STEPS)

    def looks_back(self, cause: object) -> bool:
        """Something was found: whether a step that is over is made again and examined.

        Once for each cause, and for eight causes at most; with an adapting cadence only where the budget has room for
        another step beside what examining takes.
        """
        price = max(self._looking_back, self._step_time + self._examining)
        room = self.fixed or price <= self._budget / 4 * self._trained
        if not room or cause in self._looked_back or len(self._looked_back) == CLOSER_LOOKS:
            return False
        self._looked_back.add(cause)
        return True

    def looked_back(self, seconds: float) -> None:
        """Note what that took, which says nothing about what a step costs."""
        self._looking_back = seconds
        self._not_of_the_step += seconds

    def spent(self, step: int, inside: float, whole: float | None, examined: bool = False) -> Cadence | None:
        """Note what a step took.

        Args:
            step: The step.
            inside: Seconds of it spent inside auscult.
            whole: Seconds from the update before to this one; None for the first.
            examined: Whether it was examined in full detail, which says nothing about what other steps cost.

        Returns:
            The new cadence, if it changes with the next step.
        """
        apart, self._not_of_the_step = self._not_of_the_step, 0.0
        inside -= apart
        if examined:
            self._examining = inside
        if whole is None:
            return None
        whole -= apart
        self._step_time = whole - inside
        self._trained += self._step_time
        if not examined:
            self._window.setdefault((self.norms(step), self.samples(step)), []).append(inside)
            self._bare.append(whole - inside)
        if self.fixed or (step + 1) % REVIEW_STEPS:
            return None
        new = self._review()
        self._window.clear()
        self._bare.clear()
        self.proposal = new
        return new if self.alone and self.adopt(new) else None

    def adopt(self, cadence: Cadence) -> bool:
        """Follow a cadence from the next step on. Returns whether it is another one."""
        before, self.cadence = self.cadence, cadence
        return before != cadence

    def _review(self) -> Cadence:
        """The densest cadence that the costs allow.

        Measuring more than before needs a margin of two, and a cadence that keeps the budget is not left for less.
        A kind of step that did not occur since the last review costs what it did when it was last seen. Steps without
        measurements count by their mean, because now and then one of them closes a block.
        """
        for kind, seconds in self._window.items():
            self._costs[kind] = median(seconds) if any(kind) else fmean(seconds)
        idle = self._costs.get((False, False), 0.0)
        norms = max(0.0, self._costs.get((True, False), idle) - idle)
        samples = max(0.0, self._costs.get((True, True), idle) - idle - norms)
        budget = self._budget * median(self._bare)
        allowed = _PLANNED * budget - idle
        new = _densest(norms, samples, allowed)
        if new.norms < self.cadence.norms:
            return min(self.cadence, _densest(norms, samples, allowed / 2), key=lambda each: each.norms)
        return self.cadence if _price(self.cadence, norms, samples) <= budget - idle else new


def _densest(norms: float, samples: float, allowed: float) -> Cadence:
    cadence = Cadence(1, _SAMPLING)
    while cadence.norms < LONGEST and _price(cadence, norms, samples) > allowed:
        cadence = Cadence(2 * cadence.norms, min(2 * cadence.norms * _SAMPLING, LONGEST))
    return cadence


def _price(cadence: Cadence, norms: float, samples: float) -> float:
    """What the measurements of a cadence cost by the step."""
    return norms / cadence.norms + samples / cadence.samples
