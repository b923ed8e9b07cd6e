"""StoredStream: one stream of a run on disk, read piece by piece.

What a resumed run made obsolete is left out here. Knows nothing of the other streams.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auscult.core.digest import BLOCK_STEPS, Block, digest_rows
from auscult.core.errors import StoreError
from auscult.core.metric import Stream
from auscult.core.sink import Channel, Values, empty_row, row_dtype
from auscult.store.blocks import COARSE_STEPS, BlockFrame, coarsen_blocks, digest_name, read_block, scan_blocks
from auscult.store.damage import Damage
from auscult.store.history import Start
from auscult.store.snapshot import ATTEMPTS, Snapshot, take_snapshot
from auscult.store.tails import TAIL_ROWS, Tail
from auscult.store.tiles import MERGE_COUNT, Tile, TileHead, read_columns, read_head

NEVER_STEP = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Rewind:
    """A resume that is known only from the steps of the rows, because the line of its segment is damaged.

    Attributes:
        step: The first step that was made again.
        last: The last step that had been made before.
    """

    step: int
    last: int


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Consecutive rows that are read together.

    Attributes:
        place: The tile that holds them and its head, or the tail that does.
        ordinals: int64 `(R,)`.
        steps: int64 `(R,)`.
        current: Values that no later segment made obsolete, bool `(R,)`.
    """

    place: tuple[Tile, TileHead] | Tail
    ordinals: NDArray[np.int64]
    steps: NDArray[np.int64]
    current: NDArray[np.bool_]


class StoredStream:
    """One stream of a run on disk.

    Args:
        directory: Of the stream.
        stream: Its name.
        snapshot: Where its rows were when the run was loaded; later ones are not part of it.
        channels: Its channels by position; a position whose name is damaged is not in it.
        starts: Where each segment begins, by its number.
        last_lost: Number of the last segment whose line is damaged; -1 if there is none.
        damage: Who is told of damage.

    Attributes:
        channels: Its channels whose names are known.
        rewinds: Resumes whose segments are lost; what they made obsolete is left out.
    """

    def __init__(
        self,
        directory: Path,
        stream: Stream,
        snapshot: Snapshot,
        channels: Mapping[int, Channel],
        starts: Mapping[int, Start],
        last_lost: int,
        damage: Damage,
    ) -> None:
        self._directory = directory
        self._stream: Stream = stream
        self._snapshot = snapshot
        self._stop = snapshot.stop
        self._positions = sorted(channels)
        self._starts = starts
        self._last_lost = last_lost
        self._damage = damage
        self._pieces: list[Piece] | None = None
        self.channels = tuple(channels[position] for position in self._positions)
        self.rewinds: Sequence[Rewind] = ()

    @property
    def end(self) -> int:
        """One past the last step that has a row; reads nothing."""
        ordinal, step = self._snapshot.last
        return min([step + 1, *(start.step for start in self._starts.values() if start.ordinal > ordinal)])

    def find_rewinds(self) -> list[Rewind]:
        """Where the steps go back although no segment is known to begin there."""
        pieces = self._load()
        nothing = np.empty(0, np.int64)
        every = np.concatenate([nothing, *(piece.ordinals for piece in pieces)])
        steps = np.concatenate([nothing, *(piece.steps for piece in pieces)])
        steps = steps[self._outlives_resumes(every, steps)]
        return [Rewind(int(steps[at]), int(steps[at - 1])) for at in _falls(steps)]

    def columns(
        self, positions: Sequence[int], stop: int, start: int = 0, *, whole: bool = True
    ) -> Iterator[tuple[NDArray[np.int64], Values]]:
        """Steps `(R,)` and values `(K, R)` of some columns with start <= step < stop, piece by piece in step order.

        Args:
            positions: Of the columns.
            stop: First step that is not wanted.
            start: First step that is wanted.
            whole: Leave out rows of which any column is damaged; otherwise only the damaged values are unobserved.
        """
        stored = [self._positions[position] for position in positions]
        done = 0
        for attempt in range(ATTEMPTS):
            try:
                for piece in self._load():
                    keep = piece.current & (piece.ordinals >= done) & (piece.steps >= start) & (piece.steps < stop)
                    values = self._read(piece, stored, whole) if keep.any() else None
                    if values is not None and keep.all():
                        yield piece.steps, values
                    elif values is not None:
                        yield piece.steps[keep], values[:, keep]
                    done = max(done, int(piece.ordinals[-1]) + 1)
                return
            except FileNotFoundError:  # merged meanwhile
                if attempt + 1 == ATTEMPTS:
                    raise StoreError(
                        f"Expected the tiles of {self._directory} to stay, but they were removed."
                    ) from None
                self._snapshot = take_snapshot(self._directory, self._stream)
                self._snapshot.tell(self._damage)
                self._pieces = None

    def rows(self, start: int, stop: int) -> tuple[NDArray[np.int64], Values]:
        """Steps `(R,)` and rows `(R, C)` with start <= step < stop."""
        parts = list(self.columns(range(len(self.channels)), stop, start, whole=False))
        if not parts:
            return np.empty(0, np.int64), empty_row(self._stream, 0).reshape(0, len(self.channels))
        steps = np.concatenate([steps for steps, _ in parts])
        return steps, np.ascontiguousarray(np.concatenate([values for _, values in parts], axis=1).T)

    def blocks(self, level: int) -> Iterator[Block]:
        """The digests of closed blocks, in order, each read when it is its turn.

        Blocks that a resumed run interrupted, and those that are damaged, are summed up from their rows.

        Args:
            level: Steps per block, 64 or 1,024.
        """
        if level == BLOCK_STEPS:
            yield from self._fine(lambda start: True)
            return
        coarse = list(self._stored_blocks(COARSE_STEPS))
        done = {block.start for block in coarse}
        fine = self._fine(lambda start: start - start % COARSE_STEPS not in done)
        groups = groupby(fine, lambda block: block.start // COARSE_STEPS)
        yield from sorted(
            (*coarse, *(coarsen_blocks(list(group)) for _, group in groups)), key=lambda block: block.start
        )

    def verify(self) -> None:
        """Check everything, so that damage is known before anything is read."""
        for _ in self.columns(range(len(self.channels)), NEVER_STEP):
            pass
        for level in (BLOCK_STEPS, COARSE_STEPS):
            for _ in self._stored_blocks(level):
                pass

    def _load(self) -> list[Piece]:
        """The rows in the order in which they were written; several threads may ask for them."""
        pieces = self._pieces
        if pieces is None:
            parts: list[tuple[tuple[Tile, TileHead] | Tail, NDArray[np.int64], NDArray[np.int64]]] = []
            for tile in self._snapshot.tiles:
                try:
                    head = read_head(self._directory, tile)
                except StoreError as error:
                    self._damage.report(str(error))
                    continue
                parts.append(((tile, head), np.arange(tile.first, tile.stop), head.steps))
            parts += [(tail, tail.ordinals, tail.steps) for tail in self._snapshot.tails]
            parts.sort(key=lambda part: int(part[1][0]))
            current = self._current([part[1] for part in parts], [part[2] for part in parts])
            pieces = self._pieces = [Piece(*part, keep) for part, keep in zip(parts, current, strict=True)]
        return pieces

    def _current(self, ordinals: list[NDArray[np.int64]], steps: list[NDArray[np.int64]]) -> list[NDArray[np.bool_]]:
        """Which rows no later segment made obsolete.

        A row is obsolete if a segment that begins behind it begins at its step or earlier, and, should the line of that
        segment be damaged, if a later row has its step or an earlier one.
        """
        if not ordinals:
            return []
        every, when = np.concatenate(ordinals), np.concatenate(steps)
        keep = self._outlives_resumes(every, when)
        keep[keep] = self._outlives_rewinds(when[keep])
        later = np.minimum.accumulate(np.where(keep, when, NEVER_STEP)[::-1])[::-1]
        keep[:-1] &= when[:-1] < later[1:]
        return np.split(keep, np.cumsum([len(each) for each in ordinals])[:-1])

    def _outlives_resumes(self, ordinals: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows no segment made obsolete whose beginning is known: bool `(R,)`."""
        keep = ordinals < self._stop
        for start in self._starts.values():
            keep &= (ordinals >= start.ordinal) | (steps < start.step)
        return keep

    def _outlives_rewinds(self, steps: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows no lost segment can have made obsolete: bool `(R,)`.

        A stream that has a row at every step shows where the segment begins. In a sparse one it may not be seen whether
        a row was written before or after; all those in question are left out.
        """
        falls = _falls(steps)
        keep = np.ones(len(steps), np.bool_)
        for rewind in self.rewinds:
            seen = falls[(steps[falls] >= rewind.step) & (steps[falls] <= rewind.last)]
            older = np.arange(len(steps)) < seen[-1] if len(seen) >= len(self.rewinds) else steps <= rewind.last
            keep &= ~older | (steps < rewind.step)
        return keep

    def _read(self, piece: Piece, positions: list[int], whole: bool) -> Values | None:
        """Values `(K, R)` of a piece; None if they must be left out."""
        if isinstance(piece.place, Tail):
            table = piece.place.values
            values = np.empty((len(positions), len(table)), row_dtype(self._stream))
            for into, position in zip(values, positions, strict=True):
                into[:] = table[:, position] if position < table.shape[1] else empty_row(self._stream, len(table))
            return values
        tile, head = piece.place
        values, damaged = read_columns(self._directory, tile, head, positions, self._stream)
        for position in damaged:
            file = self._directory / tile.name
            self._damage.report(f"Expected channel {position} of {file} to fit its checksum, but it does not.")
        return None if damaged and whole else values

    def _fine(self, wanted: Callable[[int], bool]) -> Iterator[Block]:
        """Blocks of 64 steps; one without a stored block is summed up from its rows if a later one is stored."""
        expected = -1
        for block in self._stored_blocks(BLOCK_STEPS):
            yield from self._unstored(expected, block.start, wanted)
            expected = block.start + BLOCK_STEPS
            if wanted(block.start):
                yield block

    def _unstored(self, first: int, stop: int, wanted: Callable[[int], bool]) -> Iterator[Block]:
        """Blocks with first <= start < stop, summed up from their rows."""
        if first == stop:
            return
        at = self._starts_with_rows()
        missing = [start for start in at[(at >= first) & (at < stop)].tolist() if wanted(start)]
        for _, group in groupby(missing, lambda start: start // (TAIL_ROWS * MERGE_COUNT)):
            near = list(group)
            steps, rows = self.rows(near[0], near[-1] + BLOCK_STEPS)
            for start in near:
                inside = (steps >= start) & (steps < start + BLOCK_STEPS)
                if inside.any():
                    some = np.ascontiguousarray(rows[inside])
                    yield digest_rows(self._stream, self.channels, steps[inside], some, start + BLOCK_STEPS)

    def _starts_with_rows(self) -> NDArray[np.int64]:
        """First steps of the blocks of 64 steps in which there are rows."""
        steps = np.concatenate([np.empty(0, np.int64), *(some for some, _ in self.columns([], NEVER_STEP))])
        return np.unique(steps // BLOCK_STEPS * BLOCK_STEPS)

    def _stored_blocks(self, level: int) -> Iterator[Block]:
        """The stored blocks of a level that are current, in order."""
        path = self._directory / digest_name(level)
        if not path.exists():
            return
        widths: dict[int, tuple[Channel, ...]] = {}  # one object for all blocks that have the same channels
        with path.open("rb", buffering=0) as file:
            found, damage = scan_blocks(file, path)
            for message in damage:
                self._damage.report(message)
            newest = {each.start: each for each in found if self._is_current(each)}
            for at in sorted(newest):
                try:
                    start, stop, values = read_block(file, path, newest[at])
                except StoreError as error:
                    self._damage.report(str(error))
                    continue
                count = bisect_left(self._positions, len(values))
                kept = values if count == len(values) else values[self._positions[:count]]
                channels = widths.setdefault(count, self.channels[:count])
                yield Block(self._stream, start, stop, channels, kept)

    def _is_current(self, block: BlockFrame) -> bool:
        """Whether a block holds what its steps hold now: it began within its segment, and no later one cut into it."""
        if block.segment < self._last_lost or (block.segment and block.segment not in self._starts):
            return False
        opening = block.segment == 0 or block.start >= self._starts[block.segment].step
        return opening and all(
            start.step >= block.stop for segment, start in self._starts.items() if segment > block.segment
        )


def _falls(steps: NDArray[np.int64]) -> NDArray[np.intp]:
    """Positions at which the step is not later than the one before."""
    return np.flatnonzero(np.diff(steps) <= 0) + 1
