"""Fence: the one directory that may be read, and how a name from outside becomes a run inside it."""

import os
from pathlib import Path

from auscult.core.errors import SetupError, StoreError
from auscult.core.run import Run
from auscult.store.reader import list_runs, load


class Fence:
    """A directory of runs.

    Args:
        directory: The directory; links that lead to it are followed once, now.

    Raises:
        SetupError: if it is no directory.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise SetupError(
                f"Expected a directory of runs, but got {directory}, which is none. Write: auscult mcp runs"
            )
        self.root = directory.resolve()

    def names(self) -> list[str]:
        """The runs inside, as paths relative to the directory; `.` is the directory itself."""
        return [path.relative_to(self.root).as_posix() for path in list_runs(self.root) if self._holds(path)]

    def open(self, name: str) -> Run:
        """The run of a name that `names` gave.

        Raises:
            StoreError: if there is no such run, if any file of it lies outside, or if it cannot be read.
        """
        if name not in self.names():
            listed = ", ".join(self.names()[:20]) or "none"
            raise StoreError(f"Expected `run` to be one that list_runs names, but got {name!r}. There are: {listed}.")
        return load(self.root / name)

    def _holds(self, run: Path) -> bool:
        """Whether a run and every file of it lie inside, wherever links lead."""
        return all(
            Path(folder, name).resolve().is_relative_to(self.root)
            for folder, folders, files in os.walk(run)
            for name in ("", *folders, *files)
        )
