"""Damage: what is wrong with a stored run, raised, or listed where the user asked to go on without it.

Knows nothing of the layout of files; those who read them tell it.
"""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from auscult.core.errors import StoreError

HINT = "`load(path, skip_damage=True)`, or --skip-damage, leaves it out and lists it in `run.damage`."
COPIED = "Was it copied while the run was going on? Copy it again."


class StoreWarning(UserWarning):
    """A stored run is readable but not complete."""


class Damage:
    """Collects what is wrong with one run.

    Args:
        skip: Whether damage is listed instead of raised.
        finished: Whether the run has ended, so that everything it wrote must be there.
    """

    def __init__(self, skip: bool, finished: bool) -> None:
        self.skip = skip
        self.finished = finished
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
        """Something is missing; what is there can be trusted."""
        if message not in self._entries:
            self._entries[message] = None
            warnings.warn(message, StoreWarning, stacklevel=2)

    def miss(self, message: str) -> None:
        """Something that was written is not there: damage to a finished run; a copy of one that goes on may lack it.

        Raises:
            StoreError: if the run is finished, unless damage is skipped.
        """
        if self.finished:
            self.report(f"{message} {COPIED}")
        else:
            self.warn(f"{message} {COPIED}")


@contextmanager
def readable(path: Path) -> Generator[None]:
    """What the system refuses to read in the body is a StoreError that names the file.

    Args:
        path: Of the run.

    Raises:
        StoreError: instead of any other OSError.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        found = f"Expected {error.filename or path} to be readable, but got: {error.strerror or error}."
        raise StoreError(f"{found} {_advice(error, path)}") from error


def _advice(error: OSError, path: Path) -> str:
    if isinstance(error, PermissionError):
        return f"Its owner can let you read it: chmod -R a+rX {path}."
    if isinstance(error, FileNotFoundError):
        return "Was the run moved or removed? Load it from where it is now."
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return "Something else was put in its place; copy the run again from where it was written."
    return "Is the disk there and in order? Copy the run to another one and load it from there."
