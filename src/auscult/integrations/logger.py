"""LoggerSink: the logger that a training has already, whatever it is, called on the training thread."""

from typing import Protocol

from auscult.core.finding import Finding
from auscult.core.sink import Record
from auscult.integrations.excerpt import Excerpt, Group
from auscult.integrations.selection import Selection


class Log(Protocol):
    """Takes the numbers of one step by key, as `accelerator.log` does."""

    def __call__(self, values: dict[str, float], *, step: int) -> object:
        """Log them."""
        ...


class LoggerSink:
    """Hands numbers to a function; what that costs or blocks, the training pays, so it is for loggers in use already.

    One that raises gets nothing more, and the user is told once.

    Args:
        log: Called as `log(values, step=step)`, each step at most once, in order.
        selection: What is handed over, and how often.
    """

    def __init__(self, log: Log, selection: Selection | None = None) -> None:
        self._log = log
        self._excerpt = Excerpt(selection, "the logger")

    def write(self, record: Record) -> None:
        """Take one row."""
        self._hand_over(self._excerpt.add(record))

    def write_finding(self, step: int, finding: Finding) -> None:
        """Nothing: findings are in the log of Python and in the run."""

    def close(self) -> None:
        """Hand over what is left."""
        self._hand_over(self._excerpt.rest())

    def _hand_over(self, group: Group | None) -> None:
        if group is not None and (values := self._excerpt.values(group)):
            self._log(values, step=group.step)
