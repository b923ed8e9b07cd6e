"""Pulse: when the files of a run last grew, told from their sizes and times alone. Opens nothing."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from auscult.core.metric import Stream
from auscult.store.layout import CHANNELS, EVENTS, RUN
from auscult.store.tails import list_tails, tail_name

GRAIN_NS = 2_000_000_000
"""Within this time a directory may change twice and have one time of change, on the coarsest of filesystems."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """The files of a run at one moment.

    Attributes:
        shape: Sizes and times of what grows: as long as it is equal, nothing was written.
        written: Time of the last change of one of them, seconds since the epoch; 0 if there is none.
        events: Size of `events.jsonl` in bytes; 0 if there is none.
    """

    shape: tuple[tuple[int, int], ...]
    written: float
    events: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes alone: where they differ something was written since, whatever the times say."""
        return tuple(size for size, _ in self.shape)


class PulseTaker:
    """Takes the pulse of one run again and again, for a dozen calls of `stat` each time.

    Args:
        path: Directory of the run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tails: dict[Stream, tuple[int, Path]] = {}  # time of the directory, its newest tail

    def take(self) -> Pulse:
        """The pulse now."""
        known = [*(_look(self._path / name) for name in (EVENTS, RUN, CHANNELS)), *self._streams()]
        return Pulse(tuple(known), max((time for _, time in known), default=0) / 1e9, known[0][0])

    def _streams(self) -> Iterator[tuple[int, int]]:
        """Of each stream the size and time of its newest tail; a directory changes when a tail is added or sealed."""
        for stream in get_args(Stream):
            directory = self._path / stream
            _, changed = _look(directory)
            if not changed:
                continue
            before, tail = self._tails.get(stream, (0, directory))
            if before != changed:
                tail = _newest_tail(directory)
                if time.time_ns() - changed > GRAIN_NS:
                    self._tails[stream] = changed, tail
            yield _look(tail)


def _newest_tail(directory: Path) -> Path:
    """The tail with the largest first ordinal; where there is none, the manifest of tiles has the last change."""
    try:
        first = list_tails(os.listdir(directory))  # noqa: PTH208  (names alone are wanted)
    except OSError:
        first = []
    return directory / (tail_name(first[-1]) if first else "tiles.jsonl")


def _look(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds; zeros if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns
