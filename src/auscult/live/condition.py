"""Condition: whether a run is training, stalled, crashed or finished, from what its store says and when it last grew.

`docs/live.md` has the rules in words. Nothing is asked of the training process, which does not know that it is watched.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from auscult.core.run import Run

Word = Literal["training", "stalled", "crashed", "finished", "unreadable"]

QUIET_S = 30.0
QUIET_STEPS = 20
"""A run that wrote nothing for this many seconds, and for this many of its mean steps, does not train any more."""

LOST_S = 3600.0
LOST_STEPS = 100
"""Likewise one of which it cannot be seen whether its process lives: it has crashed."""

_NEVER = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a run is doing.

    Attributes:
        word: In a word.
        reason: Why that is thought, without a full stop.
    """

    word: Word
    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the store says that bears on it.

    Attributes:
        host: Where it trains.
        began: When training last began, seconds since the epoch.
        first_step: The step with which it did.
        last_step: The last recorded step; -1 if there is none.
        end: Why the run was closed; None if it was not.
        waiting: Training passes since the last step without an update, where that was noticed; 0 otherwise.
    """

    host: str
    began: float
    first_step: int
    last_step: int
    end: str | None
    waiting: int

    @classmethod
    def of(cls, run: Run) -> "Facts":
        """The facts on a run that was just loaded."""
        begun = run.segments[-1]
        last_step = run.stop - 1 if run.stop < _NEVER else run.last_step  # one that goes on is cut behind its last step
        ends = [each for each in run.events if each["kind"] == "end"] if run.finished else []
        standstill = run.standstill
        waiting = standstill.passes if standstill is not None and standstill.step > last_step else 0
        end = str(ends[-1].get("reason", "closed")) if ends else None
        return cls(run.info.host, begun.time, begun.step, last_step, end, waiting)

    def is_quiet(self, written: float, now: float) -> bool:
        """Whether a run that was not closed has written nothing for longer than usual.

        Args:
            written: When its files last grew, seconds since the epoch.
            now: The time, likewise.
        """
        return self.end is None and now - written > max(QUIET_S, QUIET_STEPS * self.pace(written))

    def condition(self, written: float, now: float, alive: bool | None = None) -> Condition:
        """What the run is doing.

        Args:
            written: As for `is_quiet`.
            now: Likewise.
            alive: Whether a process has the run's files open; None if that cannot be told. Counts for a quiet run only.
        """
        if self.end is not None:
            return Condition("crashed" if self.end.startswith("exception") else "finished", f"ended: {self.end}")
        if self.waiting:
            return Condition("stalled", f"{self.waiting:,} training passes without an update")
        if not self.is_quiet(written, now):
            return Condition("training", "its files grow")
        silence = f"nothing was written for {duration(now - written)}"
        if alive is not None:
            return (
                Condition("stalled", f"{silence}, but its process lives")
                if alive
                else Condition("crashed", f"{silence}, and its process is gone")
            )
        lost = now - written > max(LOST_S, LOST_STEPS * self.pace(written))
        return Condition("crashed" if lost else "stalled", silence)

    def pace(self, written: float) -> float:
        """Mean seconds between two steps since training last began, evaluations and all."""
        return max(0.0, written - self.began) / max(1, self.last_step - self.first_step + 1)


def duration(seconds: float) -> str:
    """A time span in one unit: `45 s`, `12 min`, `3 h`, `2 days`."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
