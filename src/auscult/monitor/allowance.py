"""Allowance: whether there is time to judge now, or better later."""

from time import perf_counter

SHARE = 0.002
"""Of the time since the first step, what judging may take."""

AT_ONCE = 128
"""Steps in which nothing is put off or counted: two blocks, as what is wrong from the beginning is best told then."""


class Allowance:
    """Counts the seconds spent judging against those since the first step.

    Args:
        step: The first step.
    """

    __slots__ = ("_begun", "_spent", "_until")

    def __init__(self, step: int) -> None:
        self._spent = 0.0
        self._until = step + AT_ONCE
        self._begun = perf_counter()

    def permits(self, step: int) -> bool:
        """Whether there is time for it after this step; it may take longer than is left, and the next one waits."""
        return step < self._until or self._spent <= SHARE * (perf_counter() - self._begun)

    def spend(self, step: int, seconds: float) -> None:
        """Judging after this step has taken so long."""
        if step >= self._until:
            self._spent += seconds
