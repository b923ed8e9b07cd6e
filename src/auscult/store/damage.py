"""Damage: what is wrong with a stored run, raised, or listed where the user asked to go on without it.

Knows nothing of files; those who read them tell it.
"""

import warnings

from auscult.core.errors import StoreError

HINT = "`load(path, skip_damage=True)` leaves it out and lists it in `run.damage`."


class StoreWarning(UserWarning):
    """A stored run is readable but not complete."""


class Damage:
    """Collects what is wrong with one run.

    Attributes:
        skip: Whether damage is listed instead of raised.
    """

    def __init__(self, skip: bool) -> None:
        self.skip = skip
        self._entries: dict[str, None] = {}

    @property
    def entries(self) -> tuple[str, ...]:
        """What was found so far, each thing once."""
        return tuple(self._entries)

    def report(self, message: str) -> None:
        """Something that was written cannot be trusted any more.

        Raises:
            StoreError: unless damage is skipped.
        """
        if not self.skip:
            raise StoreError(f"{message} {HINT}")
        self._entries[message] = None

    def warn(self, message: str) -> None:
        """Something is missing, as in the copy of a run that went on; what is there can be trusted."""
        if message not in self._entries:
            self._entries[message] = None
            warnings.warn(message, StoreWarning, stacklevel=2)
