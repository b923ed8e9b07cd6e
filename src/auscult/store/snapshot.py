"""Snapshot: which rows a stream holds at one moment, and where they are.

A run that goes on moves rows from tails to tiles and on to larger tiles; a snapshot looks again until it has found each
of them. Knows nothing of channels' names and of segments.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep

from auscult.core.metric import Stream
from auscult.store.damage import COPIED, Damage
from auscult.store.tails import TAIL_ROWS, Tail, list_tails, read_tail, tail_name
from auscult.store.tiles import MANIFEST, Tile, choose_tiles, list_tiles, read_manifest, tile_span

ATTEMPTS = 5
PAUSE_S = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Where the rows of a stream are.

    Attributes:
        tiles: Sealed rows, in order, without overlaps.
        tails: Rows that are not sealed yet, in order, none of them in a tile; each has at least one.
        stop: One past the largest ordinal, also if that row cannot be read.
        damage: A sentence for each thing that is damaged.
        absent: A sentence for each stretch of rows whose tile is not there.
        holes: A sentence for each stretch of rows that is not there and never was in a tile.
    """

    tiles: tuple[Tile, ...]
    tails: tuple[Tail, ...]
    stop: int
    damage: tuple[str, ...]
    absent: tuple[str, ...] = ()
    holes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of values of the widest row."""
        return max([0, *(tile.channels for tile in self.tiles), *(tail.values.shape[1] for tail in self.tails)])

    @property
    def last(self) -> tuple[int, int]:
        """Ordinal and step of the last row; -1 and -1 if there is none."""
        tiles = ((tile.last, tile.last_step) for tile in self.tiles[-1:])
        tails = ((int(tail.ordinals[-1]), int(tail.steps[-1])) for tail in self.tails[-1:])
        return max([(-1, -1), *tiles, *tails])

    def tell(self, damage: Damage) -> None:
        """Say what is missing or damaged.

        Raises:
            StoreError: where `damage` does.
        """
        for message in self.damage:
            damage.report(message)
        for message in self.absent:
            damage.miss(message)
        for message in self.holes:
            damage.warn(message)


NOTHING = Snapshot((), (), 0, ())


def take_snapshot(directory: Path, stream: Stream) -> Snapshot:
    """Find all rows of a stream."""
    snapshot = _look(directory, stream)
    for _ in range(ATTEMPTS - 1):
        if snapshot is not None and not (snapshot.damage or snapshot.absent or snapshot.holes):
            return snapshot
        sleep(PAUSE_S)
        snapshot = _look(directory, stream)
    if snapshot is None:
        restless = f"Expected the files of {directory} to stay where they are while they are read, but they do not."
        return replace(NOTHING, damage=(restless,))
    return snapshot


def _look(directory: Path, stream: Stream) -> Snapshot | None:
    """One attempt; None if a file went away meanwhile."""
    listed = list_tails([each.name for each in directory.iterdir()])  # first: one that is gone by now is in a tile
    manifest, broken = read_manifest(directory)
    tiles, unusable = list_tiles(directory, manifest)
    chosen = choose_tiles(tiles)
    spans = {tile.first: tile.stop for tile in chosen}
    damage = list(broken)
    tails: list[Tail] = []
    for first in listed:
        if _covered(first, spans):
            continue
        try:
            tail = read_tail(directory / tail_name(first), stream)
        except FileNotFoundError:
            return None
        damage += tail.damage
        if len(tail.ordinals):
            tails.append(tail)
        spans[first] = first + (TAIL_ROWS if tail.damage else len(tail.ordinals))
    for name, message in unusable.items():
        first, rows = tile_span(name) or (0, 0)
        if not _covered(first, spans):
            damage.append(message)
            spans[first] = first + rows
    stop = max([0, *spans.values(), *(tile.stop for tile in manifest.values())])
    absent, holes = _missing(directory, manifest, spans, stop)
    return Snapshot(tuple(chosen), tuple(tails), stop, tuple(damage), absent, holes)


def _missing(
    directory: Path, manifest: dict[str, Tile], spans: dict[int, int], stop: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A sentence for each stretch of rows whose tile is not there, and for each that never was in a tile."""
    absent: list[str] = []
    holes: list[str] = []
    for start, end in _gaps(spans, stop):
        tile = next((each for each in manifest.values() if each.first < end and each.stop > start), None)
        if tile is not None:
            absent.append(f"Expected {directory} to hold {tile.name}, which its {MANIFEST} lists, but it does not.")
        else:
            holes.append(f"Expected {directory} to hold rows {start} to {end - 1}, but they are missing. {COPIED}")
    return tuple(absent), tuple(holes)


def _covered(ordinal: int, spans: dict[int, int]) -> bool:
    return any(first <= ordinal < stop for first, stop in spans.items())


def _gaps(spans: dict[int, int], stop: int) -> list[tuple[int, int]]:
    """Stretches of ordinals below `stop` that no span covers."""
    gaps: list[tuple[int, int]] = []
    done = 0
    for start, end in [*sorted(spans.items()), (stop, stop)]:
        if start > done:
            gaps.append((done, start))
        done = max(done, end)
    return gaps
