"""Tile: sealed rows of a stream, channel-major, in `<first ordinal>-<rows>.npy`.

Four arrays as `numpy.save` writes them, one behind the other: steps int64 `(R,)`, the CRC-32 of each channel uint32
`(C,)`, values `(C, R)`, and uint32 `(2,)` with the number of bytes before the values and their CRC-32. One channel can
be read and checked without the others. Knows nothing of channels' names.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from auscult.core.errors import StoreError
from auscult.core.metric import Stream
from auscult.core.sink import Values, empty_row, row_dtype
from auscult.store.lines import read_lines

MANIFEST = "tiles.jsonl"
MERGE_COUNT = 16
MERGE_BYTES = 64_000_000
_NAME = re.compile(r"(\d{12,})-(\d+)\.npy")


@dataclass(frozen=True, slots=True)
class Tile:
    """A sealed tile, as its line in the manifest has it.

    Attributes:
        name: Of the file.
        first: Ordinal of its first row.
        last: Ordinal of its last row.
        first_step: Step of its first row.
        last_step: Step of its last row.
        rows: Number of rows R.
        channels: Number of channels C.
        values_at: Number of bytes before the values.
        head_crc32: CRC-32 of these bytes.
    """

    name: str
    first: int
    last: int
    first_step: int
    last_step: int
    rows: int
    channels: int
    values_at: int
    head_crc32: int

    @property
    def stop(self) -> int:
        """One past the ordinal of its last row."""
        return self.last + 1


class TileHead(NamedTuple):
    """What stands before the values: steps int64 `(R,)` and the CRC-32 of each channel uint32 `(C,)`."""

    steps: NDArray[np.int64]
    checksums: NDArray[np.uint32]


def tile_span(name: str) -> tuple[int, int] | None:
    """First ordinal and number of rows from the name of a file; None if it is no tile's."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def tile_to_fields(tile: Tile) -> dict[str, Any]:
    """A tile as a line of the manifest."""
    return asdict(tile)


def read_manifest(directory: Path) -> tuple[dict[str, Tile], tuple[str, ...]]:
    """Every tile that was ever sealed or merged in a directory, by name, and a sentence for each damaged line."""
    lines = read_lines(directory / MANIFEST)
    kept = ({name: each[name] for name in Tile.__dataclass_fields__} for each in lines.objects)
    return {each["name"]: Tile(**each) for each in kept}, lines.damage


def list_tiles(directory: Path, manifest: dict[str, Tile]) -> tuple[list[Tile], dict[str, str]]:
    """The tiles on disk; those that the manifest does not name are described from their own checksums.

    Returns:
        The tiles, and by name a sentence for each whose own checksums do not fit.
    """
    tiles: list[Tile] = []
    damage: dict[str, str] = {}
    for path in sorted(directory.iterdir()):
        if tile_span(path.name) is None:
            continue
        try:
            tiles.append(manifest.get(path.name) or inspect_tile(path))
        except FileNotFoundError:
            continue
        except StoreError as error:
            damage[path.name] = str(error)
    return tiles, damage


def write_tile(directory: Path, first: int, steps: NDArray[np.int64], values: Values) -> Tile:
    """Seal rows: the tile is there under its name in full, or not at all.

    Args:
        directory: Of the stream.
        first: Ordinal of the first row; the others follow without a gap.
        steps: int64 `(R,)`.
        values: `(C, R)`, contiguous.
    """
    head = BytesIO()
    np.save(head, steps)
    np.save(head, np.array([crc32(row) for row in values], "<u4"))
    npy.write_array_header_1_0(head, npy.header_data_from_array_1_0(values))
    before = head.getvalue()
    end = BytesIO()
    np.save(end, np.array([len(before), crc32(before)], "<u4"))
    name = f"{first:012d}-{len(steps)}.npy"
    draft = directory / f"{name}.tmp"
    with draft.open("wb") as file:
        file.write(before)
        file.write(values.data)
        file.write(end.getvalue())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(directory / name)
    return _describe(name, first, steps, len(values), before)


def inspect_tile(path: Path) -> Tile:
    """Describe a tile that the manifest does not name, from its own checksums.

    Raises:
        StoreError: if they do not fit.
        FileNotFoundError: if it is gone.
    """
    span = tile_span(path.name)
    assert span is not None
    first, rows = span
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 8, 0))
        values_at, checksum = np.frombuffer(file.read(8).ljust(8, b"\0"), "<u4").tolist()
        file.seek(0)
        before = file.read(min(values_at, size))
    if not before or len(before) != values_at or crc32(before) != checksum:
        raise StoreError(f"Expected {path} to fit the checksum at its end, but it does not.")
    head = _decode_head(before)
    if len(head.steps) != rows:
        raise StoreError(f"Expected {path} to hold {rows} rows, but got {len(head.steps)}.")
    return _describe(path.name, first, head.steps, len(head.checksums), before)


def read_head(directory: Path, tile: Tile) -> TileHead:
    """Steps and checksums of a tile.

    Raises:
        StoreError: if they are damaged.
        FileNotFoundError: if the tile is gone, merged meanwhile.
    """
    path = directory / tile.name
    with path.open("rb") as file:
        before = file.read(tile.values_at)
    if len(before) != tile.values_at or crc32(before) != tile.head_crc32:
        raise StoreError(f"Expected the first {tile.values_at} bytes of {path} to fit their checksum, but they do not.")
    return _decode_head(before)


def read_columns(
    directory: Path, tile: Tile, head: TileHead, positions: Sequence[int], stream: Stream
) -> tuple[Values, tuple[int, ...]]:
    """Some channels of a tile; a channel younger than the tile is unobserved.

    Returns:
        Values `(K, R)`, and the positions among those asked for whose values are damaged (unobserved in the result).

    Raises:
        FileNotFoundError: if the tile is gone, merged meanwhile.
    """
    values = np.empty((len(positions), tile.rows), row_dtype(stream))
    unobserved = empty_row(stream, tile.rows)
    damaged: list[int] = []
    with (directory / tile.name).open("rb", buffering=0) as file:
        for begin, end in _runs(positions):
            read = 0
            if positions[begin] < tile.channels:
                file.seek(tile.values_at + positions[begin] * values[begin].nbytes)
                read = file.readinto(values[begin:end].data) or 0
            for into, position in zip(values[begin:end], positions[begin:end], strict=True):
                read -= into.nbytes
                if position >= tile.channels:
                    into[:] = unobserved
                elif read < 0 or crc32(into.data) != head.checksums[position]:
                    into[:] = unobserved
                    damaged.append(position)
    return values, tuple(damaged)


def merge_tiles(directory: Path, tiles: Sequence[Tile], stream: Stream) -> Tile:
    """Write tiles that follow on one another as one; they themselves stay.

    Raises:
        StoreError: if one of them is damaged.
    """
    rows = sum(tile.rows for tile in tiles)
    values = np.empty((max(tile.channels for tile in tiles), rows), row_dtype(stream))
    steps = np.empty(rows, np.int64)
    done = 0
    for tile in tiles:
        head = read_head(directory, tile)
        part, damaged = read_columns(directory, tile, head, range(len(values)), stream)
        if damaged:
            raise StoreError(
                f"Expected channel {damaged[0]} of {directory / tile.name} to fit its checksum, but it does not."
            )
        steps[done : done + tile.rows] = head.steps
        values[:, done : done + tile.rows] = part
        done += tile.rows
    return write_tile(directory, tiles[0].first, steps, values)


def choose_tiles(tiles: Sequence[Tile]) -> list[Tile]:
    """The largest tiles that do not overlap, in order; what they were merged from is left out."""
    chosen: list[Tile] = []
    for tile in sorted(tiles, key=lambda each: (each.first, -each.rows)):
        if not chosen or tile.first >= chosen[-1].stop:
            chosen.append(tile)
    return chosen


def find_mergeable(tiles: Sequence[Tile], itemsize: int) -> list[Tile] | None:
    """The first 16 tiles of one size in a row that together are no larger than 64 MB, or None."""
    by_span = {(tile.first, tile.rows): tile for tile in tiles}
    for tile in tiles:
        if tile.first % (tile.rows * MERGE_COUNT):
            continue
        group = [by_span.get((tile.first + index * tile.rows, tile.rows)) for index in range(MERGE_COUNT)]
        parts = [each for each in group if each is not None]
        size = tile.rows * MERGE_COUNT * max(each.channels for each in parts) * itemsize
        if len(parts) == MERGE_COUNT and size <= MERGE_BYTES:
            return parts
    return None


def _runs(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where positions follow on one another: [begin, end)."""
    begin = 0
    for end in range(1, len(positions) + 1):
        if end == len(positions) or positions[end] != positions[end - 1] + 1:
            yield begin, end
            begin = end


def _decode_head(before: bytes) -> TileHead:
    stream = BytesIO(before)
    return TileHead(np.load(stream, allow_pickle=False), np.load(stream, allow_pickle=False))


def _describe(name: str, first: int, steps: NDArray[np.int64], channels: int, before: bytes) -> Tile:
    return Tile(
        name,
        first,
        first + len(steps) - 1,
        int(steps[0]),
        int(steps[-1]),
        len(steps),
        channels,
        len(before),
        crc32(before),
    )
