"""Unclosed: the monitors that are open, which are closed when the process ends."""

import atexit
from typing import Protocol
from weakref import WeakSet


class Closable(Protocol):
    """What can be closed, for a reason."""

    def close(self, reason: str) -> None:
        """Close it."""
        ...


OPEN: "WeakSet[Closable]" = WeakSet()


@atexit.register
def close_all() -> None:
    """Close every monitor that is open, as at exit."""
    for monitor in list(OPEN):
        monitor.close("exit")
