"""Spill: numbers that come in any order, given back step by step, with a bounded part of them in memory.

What does not fit is sorted and put into temporary files, which are then read side by side.
"""

from array import array
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

PART = 1 << 20  # numbers in memory, 28 bytes each
WINDOW = 1 << 16  # numbers of each file that are looked at together

ENTRY = np.dtype([("step", "<i8"), ("order", "<i8"), ("column", "<i4"), ("value", "<f8")])


class Spill:
    """Takes numbers, and gives them back in the order of their steps.

    Args:
        part: How many numbers are kept in memory.

    Attributes:
        count: How many numbers were taken.
        repeats: How many of those given back were replaced by a later one of the same column and step.
        withdrawn: How many were withdrawn by `cut`.
    """

    def __init__(self, part: int = PART) -> None:
        self.count = self.repeats = self.withdrawn = 0
        self._room = part
        self._steps, self._columns, self._values = _empty()
        self._cuts: list[tuple[int, int]] = []
        self._folder: TemporaryDirectory[str] | None = None
        self._files: list[Path] = []

    def add(self, step: int, column: int, value: float) -> None:
        """Take a number."""
        if len(self._steps) == self._room:
            self._put_away()
        self._steps.append(step)
        self._columns.append(column)
        self._values.append(value)
        self.count += 1

    def cut(self, step: int) -> None:
        """Withdraw everything taken so far of this step and of later ones."""
        self._cuts.append((self.count, step))

    def close(self) -> None:
        """Remove the temporary files."""
        if self._folder is not None:
            self._folder.cleanup()

    def windows(self) -> "Iterator[NDArray[np.void]]":
        """What was taken, as arrays of dtype `ENTRY`, ordered by step and column; no step is in two of them.

        Of numbers of one step and column only the one taken last is there.
        """
        parts: list[NDArray[np.void]] = [np.load(file, mmap_mode="r") for file in self._files]
        parts.append(self._part())
        at = [0] * len(parts)
        while any(begin < len(part) for begin, part in zip(at, parts, strict=True)):
            bound = min(
                int(part["step"][min(begin + WINDOW, len(part)) - 1])
                for begin, part in zip(at, parts, strict=True)
                if begin < len(part)
            )
            ends = [int(np.searchsorted(part["step"], bound, side="right")) for part in parts]
            pieces = [part[begin:end] for begin, end, part in zip(at, ends, parts, strict=True)]
            at = ends
            window = self._settled(_sorted(np.concatenate(pieces)))
            if len(window):
                yield window

    def _put_away(self) -> None:
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="auscult-import-")
        file = Path(self._folder.name) / f"{len(self._files)}.npy"
        np.save(file, self._part())
        self._files.append(file)
        self._steps, self._columns, self._values = _empty()

    def _part(self) -> "NDArray[np.void]":
        """What is in memory, sorted."""
        part = np.empty(len(self._steps), ENTRY)
        part["step"], part["column"], part["value"] = self._steps, self._columns, self._values
        part["order"] = np.arange(self.count - len(part), self.count)
        return _sorted(part)

    def _settled(self, window: "NDArray[np.void]") -> "NDArray[np.void]":
        """Without what was withdrawn or replaced."""
        for order, step in self._cuts:
            gone = (window["order"] < order) & (window["step"] >= step)
            self.withdrawn += int(gone.sum())
            window = window[~gone]
        last = np.ones(len(window), np.bool_)
        if len(window) > 1:
            last[:-1] = (np.diff(window["step"]) != 0) | (np.diff(window["column"]) != 0)
        self.repeats += int((~last).sum())
        return window[last]


def _empty() -> tuple["array[int]", "array[int]", "array[float]"]:
    return array("q"), array("i"), array("d")


def _sorted(part: "NDArray[np.void]") -> "NDArray[np.void]":
    return part[np.lexsort((part["order"], part["column"], part["step"]))]
