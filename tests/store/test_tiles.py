from zlib import crc32

import numpy as np
import pytest

from auscult.core.errors import StoreError
from auscult.core.sink import NOT_OBSERVED_32
from auscult.store.tiles import (
    choose_tiles,
    find_mergeable,
    inspect_tile,
    merge_tiles,
    read_columns,
    read_head,
    write_tile,
)


def make(directory, first, rows, channels=2, seed=0):
    values = np.random.default_rng(seed + first).standard_normal((channels, rows)).astype(np.float32)
    return write_tile(directory, first, np.arange(first, first + rows) * 3, values), values


def test_numpy_alone_reads_a_tile(tmp_path):
    _, values = make(tmp_path, 256, 256, channels=7)
    with (tmp_path / "000000000256-256.npy").open("rb") as file:
        steps, checksums, read, (values_at, head) = (np.load(file) for _ in range(4))
    np.testing.assert_array_equal(steps, np.arange(256, 512) * 3)
    np.testing.assert_array_equal(read, values)
    assert checksums.tolist() == [crc32(row.tobytes()) for row in values]
    assert crc32((tmp_path / "000000000256-256.npy").read_bytes()[:values_at]) == head


def test_a_tile_describes_itself(tmp_path):
    tile, _ = make(tmp_path, 512, 256)
    assert inspect_tile(tmp_path / tile.name) == tile
    data = (tmp_path / tile.name).read_bytes()
    for damaged in (data[:100], data[:-1], b"", data[:50] + b"?" + data[51:]):
        (tmp_path / tile.name).write_bytes(damaged)
        with pytest.raises(StoreError):
            inspect_tile(tmp_path / tile.name)


def test_merging_keeps_values_and_marks_what_was_not_there_yet(tmp_path):
    parts = [make(tmp_path, first, 256, channels=2 + (first >= 1024)) for first in range(0, 4096, 256)]
    tiles = [tile for tile, _ in parts]
    assert find_mergeable(tiles, 4) == tiles
    assert find_mergeable(tiles[1:], 4) is None
    assert find_mergeable(tiles, 4_000_000) is None
    merged = merge_tiles(tmp_path, tiles, "norms")
    assert choose_tiles([*tiles, merged]) == [merged]
    head = read_head(tmp_path, merged)
    np.testing.assert_array_equal(head.steps, np.arange(4096) * 3)
    values, damaged = read_columns(tmp_path, merged, head, range(4), "norms")
    assert not damaged
    np.testing.assert_array_equal(values[:2], np.concatenate([part[:2] for _, part in parts], axis=1))
    np.testing.assert_array_equal(values[2, 1024:], np.concatenate([part[2] for _, part in parts[4:]]))
    assert (values[2, :1024].view(np.uint32) == NOT_OBSERVED_32).all()
    assert (values[3].view(np.uint32) == NOT_OBSERVED_32).all()


def test_a_damaged_part_is_not_merged(tmp_path):
    tiles = [make(tmp_path, first, 256)[0] for first in range(0, 4096, 256)]
    path = tmp_path / tiles[5].name
    data = bytearray(path.read_bytes())
    data[tiles[5].values_at + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="channel 0"):
        merge_tiles(tmp_path, tiles, "norms")
    assert not list(tmp_path.glob("*-4096.npy*"))
