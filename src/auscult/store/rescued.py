"""Rescued: the last steps of a run whose first rank died, as another rank had them in memory.

`rescued/<segment>-<first>-<last>-<CRC-32>.npz` is an ordinary NumPy archive whose name tells its steps and checksum. It
is moved into its place, so it is there in full or not at all. Rows that the run has itself are not taken from it.
"""

import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from auscult.core.metric import Stream
from auscult.core.sink import Channel, Rows, Values, empty_rows
from auscult.store.damage import Damage
from auscult.store.snapshot import Snapshot
from auscult.store.tails import Tail

RESCUED = "rescued"
_NAME = re.compile(r"(\d{4,})-(\d{9,})-(\d{9,})-([0-9a-f]{8})\.npz")


def write_rescued(path: Path, segment: int, rows: Sequence[Rows]) -> None:
    """Write rows that the one who writes the run may not have written; not where another rank has done so.

    Args:
        path: Directory of the run; made where this machine does not see it.
        segment: Number of the segment.
        rows: What to write, those of one stream in order; at least one.

    Raises:
        OSError: if it cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {}
    index: dict[str, list[Channel]] = {}
    streams: dict[Stream, None] = dict.fromkeys(each.stream for each in rows)
    for stream in streams:
        some = [each for each in rows if each.stream == stream]
        channels = max((each.channels for each in some), key=len)
        table = empty_rows(stream, sum(len(each.steps) for each in some), len(channels))
        begin = 0
        for each in some:  # columns are only ever added
            table[begin : begin + len(each.steps), : len(each.channels)] = each.values
            begin += len(each.steps)
        index[stream] = list(channels)
        arrays[f"{stream}_steps"] = np.concatenate([each.steps for each in some]).astype("<i8")
        arrays[f"{stream}_values"] = table
    steps = np.concatenate([each.steps for each in rows])
    buffer = io.BytesIO()
    named = np.frombuffer(json.dumps(index).encode(), np.uint8)
    np.savez_compressed(buffer, allow_pickle=False, channels=named, **arrays)
    data = buffer.getvalue()
    span = f"{segment:04d}-{steps.min():09d}-{steps.max():09d}"
    directory = path / RESCUED
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.glob(f"{span}-*.npz")):
        return
    beside = directory / f"{span}-{os.uname().nodename if hasattr(os, 'uname') else ''}-{os.getpid()}.tmp"
    beside.write_bytes(data)
    beside.replace(directory / f"{span}-{crc32(data):08x}.npz")


def read_rescued(path: Path, segment: int, damage: Damage) -> dict[Stream, list[Rows]]:
    """What was rescued of one segment, by stream; files may tell of the same steps.

    Raises:
        StoreError: where `damage` does, if a file is damaged.
    """
    found: dict[Stream, list[Rows]] = {}
    for file in sorted((path / RESCUED).glob("*.npz")) if (path / RESCUED).is_dir() else ():
        match = _NAME.fullmatch(file.name)
        if match is None or int(match[1]) != segment:
            continue
        data = file.read_bytes()
        if crc32(data) != int(match[4], 16):
            damage.report(
                f"Expected {file} to fit the checksum in its name, but it does not: it is damaged. Nothing else of the "
                "run is affected; remove the file to go on without it."
            )
            continue
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            for stream, rows in _rows({name: archive[name] for name in archive.files}):
                found.setdefault(stream, []).append(rows)
    return found


def _rows(arrays: Mapping[str, NDArray[Any]]) -> Iterator[tuple[Stream, Rows]]:
    index = json.loads(arrays["channels"].tobytes())
    for stream in get_args(Stream):
        if stream in index:
            channels = tuple(Channel(*each) for each in index[stream])
            yield stream, Rows(stream, arrays[f"{stream}_steps"], channels, arrays[f"{stream}_values"])


def after(rows: Sequence[Rows], step: int) -> Iterator[Rows]:
    """The rows of one stream behind a step, each step once, in order."""
    for each in sorted(rows, key=lambda some: int(some.steps[0])):
        new = each.steps > step
        if new.any():
            yield Rows(each.stream, each.steps[new], each.channels, np.ascontiguousarray(each.values[new]))
            step = int(each.steps[-1])


def appended(snapshot: Snapshot, known: dict[int, Channel], rows: Sequence[Rows]) -> Snapshot:
    """A stream with rescued rows behind its own; channels that it has not had become columns of `known`."""
    for each in after(rows, snapshot.last[1]):
        places = {channel: position for position, channel in known.items()}
        width = max([snapshot.width, *(position + 1 for position in known)])
        for channel in each.channels:
            if channel not in places:
                places[channel] = width
                known[width] = channel
                width += 1
        table: Values = empty_rows(each.stream, len(each.steps), width)
        table[:, [places[channel] for channel in each.channels]] = each.values
        ordinals = np.arange(snapshot.stop, snapshot.stop + len(each.steps))
        tail = Tail(ordinals, each.steps, table)
        snapshot = replace(snapshot, tails=(*snapshot.tails, tail), stop=snapshot.stop + len(each.steps))
    return snapshot
