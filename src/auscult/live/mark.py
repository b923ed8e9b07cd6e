"""Mark: how far into a run a viewer has read; the id of its server-sent events.

A mark says everything that is needed to go on, so that a viewer catches up after a drop as well as after a restart of
the server, which remembers nothing.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from auscult.core.run import Run

_MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of a run.

    Attributes:
        run: Eight hexadecimal digits made from the run's own id: another run in the same place is another run.
        segments: How often training had begun; after a resume earlier steps may have been made again.
        step: The last step that was read; -1 before the first.
    """

    run: str
    segments: int
    step: int

    @classmethod
    def of(cls, run: Run, step: int) -> "Mark":
        """The mark of a step in a run."""
        digits = sha256(run.info.id.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return cls(digits, len(run.segments), step)

    @classmethod
    def parse(cls, text: str) -> "Mark | None":
        """The inverse of `str`; None for anything else."""
        run, _, rest = text.partition(".")
        segments, _, step = rest.partition(".")
        plain = run.isascii() and run.isalnum() and len(run) == 8
        if not plain or not _is_number(segments) or not _is_number(step.removeprefix("-")):
            return None
        return cls(run, int(segments), int(step))

    def __str__(self) -> str:
        return f"{self.run}.{self.segments}.{self.step}"

    def way_to(self, later: "Mark") -> Literal["here", "on", "anew"]:
        """Whether nothing is to be read to get to another mark, the steps in between, or everything anew."""
        if (self.run, self.segments) != (later.run, later.segments) or self.step > later.step:
            return "anew"
        return "here" if self.step == later.step else "on"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
