"""Window: a run of which only some steps are read, so that what is new, or zoomed into, costs what it is."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from auscult.core.detail import Detail
from auscult.core.digest import Block
from auscult.core.metric import Stream
from auscult.core.run import Run, Source
from auscult.core.sink import Channel, Values


class WindowSource:
    """A source that hands out no step before `start` and no block at all; see `auscult.core.run.Source`."""

    def __init__(self, source: Source, start: int) -> None:
        self._source = source
        self._start = start

    def streams(self) -> tuple[Stream, ...]:
        """The streams that have at least one channel."""
        return self._source.streams()

    def channels(self, stream: Stream) -> tuple[Channel, ...]:
        """The columns of a stream."""
        return self._source.channels(stream)

    def rows(self, stream: Stream, start: int, stop: int) -> tuple[NDArray[np.int64], Values]:
        """Steps `(R,)` and rows `(R, C)` with start <= step < stop, as far as they are in the window."""
        return self._source.rows(stream, max(start, self._start), stop)

    def columns(
        self, stream: Stream, positions: list[int], stop: int, start: int = 0
    ) -> Iterator[tuple[NDArray[np.int64], Values]]:
        """Steps `(R,)` and values `(K, R)` of some columns with start <= step < stop, as far as they are in it."""
        return self._source.columns(stream, positions, stop, max(start, self._start))

    def blocks(self, stream: Stream) -> list[Block]:
        """None: blocks have edges of their own."""
        return []

    def details(self) -> tuple[int, ...]:
        """The steps of which everything was recorded, increasing."""
        return tuple(step for step in self._source.details() if step >= self._start)

    def detail(self, step: int) -> Detail:
        """What was recorded of one of them."""
        return self._source.detail(step)


def window(run: Run, first: int, last: int) -> Run:
    """The run with the steps from `first` to `last` alone; events and segments stay."""
    return replace(run, source=WindowSource(run.source, first), stop=min(run.stop, last + 1))
