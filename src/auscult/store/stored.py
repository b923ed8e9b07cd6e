"""StoredStream: one stream of a run on disk, read piece by piece.

What a resumed run made obsolete is left out here. Knows nothing of the other streams.
"""

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
from auscult.store.snapshot import ATTEMPTS, Snapshot, take_snapshot
from auscult.store.tails import TAIL_ROWS
from auscult.store.tiles import MERGE_COUNT, Tile, TileHead, read_columns, read_head

NEVER_STEP = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Start:
    """Where a segment begins: the ordinal of its first row in this stream, and its first step."""

    ordinal: int
    step: int


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Consecutive rows that are read together.

    Attributes:
        tile: The tile that holds them; None for the tail.
        head: Its head; None for the tail.
        ordinals: int64 `(R,)`.
        steps: int64 `(R,)`.
        current: Values that no later segment made obsolete, bool `(R,)`.
    """

    tile: Tile | None
    head: TileHead | None
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
        starts: Where each segment begins, by its ordinal.
        segments: How many segments there are; more than `starts` has if the lines of some are damaged.
        damage: Who is told of damage.
    """

    def __init__(
        self,
        directory: Path,
        stream: Stream,
        snapshot: Snapshot,
        channels: Mapping[int, Channel],
        starts: Mapping[int, Start],
        segments: int,
        damage: Damage,
    ) -> None:
        self._directory = directory
        self._stream: Stream = stream
        self._snapshot = snapshot
        self._stop = snapshot.stop
        self._positions = sorted(channels)
        self._starts = starts
        self._last_lost = max(set(range(segments)) - starts.keys(), default=-1)
        self._damage = damage
        self._pieces: list[Piece] | None = None
        self.channels = tuple(channels[position] for position in self._positions)

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
                    if values is not None:
                        yield piece.steps[keep], values[:, keep]
                    done = int(piece.ordinals[-1]) + 1
                return
            except FileNotFoundError:  # merged meanwhile
                if attempt + 1 == ATTEMPTS:
                    raise StoreError(
                        f"Expected the tiles of {self._directory} to stay, but they were removed."
                    ) from None
                self._snapshot = take_snapshot(self._directory, self._stream, self._damage)
                self._pieces = None

    def rows(self, start: int, stop: int) -> tuple[NDArray[np.int64], Values]:
        """Steps `(R,)` and rows `(R, C)` with start <= step < stop."""
        parts = list(self.columns(range(len(self.channels)), stop, start, whole=False))
        if not parts:
            return np.empty(0, np.int64), empty_row(self._stream, 0).reshape(0, len(self.channels))
        steps = np.concatenate([steps for steps, _ in parts])
        return steps, np.ascontiguousarray(np.concatenate([values for _, values in parts], axis=1).T)

    def blocks(self, level: int) -> list[Block]:
        """The digests of closed blocks, in order.

        Blocks that a resumed run interrupted, and those that are damaged, are summed up from their rows.

        Args:
            level: Steps per block, 64 or 1,024.
        """
        if level == BLOCK_STEPS:
            return self._fine(lambda start: True)
        coarse = self._stored_blocks(COARSE_STEPS, lambda start: True)
        done = {block.start for block in coarse}
        fine = self._fine(lambda start: start - start % COARSE_STEPS not in done)
        groups = groupby(fine, lambda block: block.start // COARSE_STEPS)
        return sorted((*coarse, *(coarsen_blocks(list(group)) for _, group in groups)), key=lambda block: block.start)

    def verify(self) -> None:
        """Check everything, so that damage is known before anything is read."""
        for _ in self.columns(range(len(self.channels)), NEVER_STEP):
            pass
        for level in (BLOCK_STEPS, COARSE_STEPS):
            self._stored_blocks(level, lambda start: True)

    def _load(self) -> list[Piece]:
        if self._pieces is None:
            parts: list[tuple[Tile | None, TileHead | None, NDArray[np.int64], NDArray[np.int64]]] = []
            for tile in self._snapshot.tiles:
                try:
                    head = read_head(self._directory, tile)
                except StoreError as error:
                    self._damage.report(str(error))
                    continue
                parts.append((tile, head, np.arange(tile.first, tile.stop), head.steps))
            tail = self._snapshot.tail
            if len(tail.ordinals):
                parts.append((None, None, tail.ordinals, tail.steps))
            current = self._current([part[2] for part in parts], [part[3] for part in parts])
            self._pieces = [Piece(*part, keep) for part, keep in zip(parts, current, strict=True)]
        return self._pieces

    def _current(self, ordinals: list[NDArray[np.int64]], steps: list[NDArray[np.int64]]) -> list[NDArray[np.bool_]]:
        """Which rows no later segment made obsolete.

        A row is obsolete if a segment that begins behind it begins at its step or earlier, and, should the line of that
        segment be damaged, if a later row has its step or an earlier one.
        """
        if not ordinals:
            return []
        every, when = np.concatenate(ordinals), np.concatenate(steps)
        keep = every < self._stop
        for start in self._starts.values():
            keep &= (every >= start.ordinal) | (when < start.step)
        later = np.minimum.accumulate(np.where(keep, when, NEVER_STEP)[::-1])[::-1]
        keep[:-1] &= when[:-1] < later[1:]
        return np.split(keep, np.cumsum([len(each) for each in ordinals])[:-1])

    def _read(self, piece: Piece, positions: list[int], whole: bool) -> Values | None:
        """Values `(K, R)` of a piece; None if they must be left out."""
        if piece.tile is None or piece.head is None:
            tail = self._snapshot.tail.values
            values = np.empty((len(positions), len(tail)), row_dtype(self._stream))
            for into, position in zip(values, positions, strict=True):
                into[:] = tail[:, position] if position < tail.shape[1] else empty_row(self._stream, len(tail))
            return values
        values, damaged = read_columns(self._directory, piece.tile, piece.head, positions, self._stream)
        for position in damaged:
            file = self._directory / piece.tile.name
            self._damage.report(f"Expected channel {position} of {file} to fit its checksum, but it does not.")
        return None if damaged and whole else values

    def _fine(self, wanted: Callable[[int], bool]) -> list[Block]:
        blocks = {block.start: block for block in self._stored_blocks(BLOCK_STEPS, wanted)}
        if blocks:
            for block in self._missing_blocks(blocks, wanted):
                blocks[block.start] = block
        return [blocks[start] for start in sorted(blocks)]

    def _missing_blocks(self, known: Mapping[int, Block], wanted: Callable[[int], bool]) -> Iterator[Block]:
        """Blocks before the last one known that have rows but are not known, summed up from their rows."""
        steps = np.concatenate([np.empty(0, np.int64), *(some for some, _ in self.columns([], NEVER_STEP))])
        starts = np.unique(steps // BLOCK_STEPS * BLOCK_STEPS).tolist()
        missing = [start for start in starts if start < max(known) and start not in known and wanted(start)]
        for _, group in groupby(missing, lambda start: start // (TAIL_ROWS * MERGE_COUNT)):
            near = list(group)
            at, rows = self.rows(near[0], near[-1] + BLOCK_STEPS)
            for start in near:
                inside = (at >= start) & (at < start + BLOCK_STEPS)
                if inside.any():
                    some = np.ascontiguousarray(rows[inside])
                    yield digest_rows(self._stream, self.channels, at[inside], some, start + BLOCK_STEPS)

    def _stored_blocks(self, level: int, wanted: Callable[[int], bool]) -> list[Block]:
        """The stored blocks of a level that are current, in order."""
        path = self._directory / digest_name(level)
        if not path.exists():
            return []
        blocks: dict[int, Block] = {}
        with path.open("rb", buffering=0) as file:
            found, damage = scan_blocks(file, path)
            for message in damage:
                self._damage.report(message)
            newest = {each.start: each for each in found if wanted(each.start) and self._is_current(each)}
            for each in newest.values():
                try:
                    start, stop, values = read_block(file, path, each)
                except StoreError as error:
                    self._damage.report(str(error))
                    continue
                positions = [position for position in self._positions if position < len(values)]
                kept = values if len(positions) == len(values) else values[positions]
                blocks[start] = Block(self._stream, start, stop, self.channels[: len(positions)], kept)
        return [blocks[start] for start in sorted(blocks)]

    def _is_current(self, block: BlockFrame) -> bool:
        """Whether a block holds what its steps hold now: it began within its segment, and no later one cut into it."""
        if block.segment < self._last_lost or (block.segment and block.segment not in self._starts):
            return False
        opening = block.segment == 0 or block.start >= self._starts[block.segment].step
        return opening and all(
            start.step >= block.stop for segment, start in self._starts.items() if segment > block.segment
        )
