"""Idling: counts what is done in training while no update is made, and says when that is no accident any more."""

from auscult.core.standstill import Standstill

SKIPS = 32  # one after the other; a scaler that halves 2**16 this often is below any number that could overflow
PASSES = 8


class Idling:
    """What has been done since the last update."""

    __slots__ = ("_moved", "_passes", "_skips")

    def __init__(self) -> None:
        self._passes = self._skips = 0
        self._moved = False

    def passed(self) -> None:
        """A training forward pass has begun."""
        self._passes += 1

    def skipped(self, step: int) -> Standstill | None:
        """A gradient scaler has left out an update; tells of it when it is the 32nd."""
        self._skips += 1
        return Standstill(step, self._passes, self._skips) if self._skips == SKIPS else None

    def updated(self) -> None:
        """An update has been made."""
        self._passes = self._skips = 0
        self._moved = True

    def ended(self, step: int) -> Standstill | None:
        """Training is over; tells of it if there never was an update."""
        if self._moved or self._passes < PASSES or self._skips >= SKIPS:
            return None
        return Standstill(step, self._passes, self._skips)
