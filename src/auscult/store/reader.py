"""load: a directory becomes a Run. Creates and changes nothing, needs no lock, never imports torch.

A run that goes on can be read at any time; the Run shows it as it stood when it was loaded.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from auscult.core.detail import Detail
from auscult.core.digest import BLOCK_STEPS, Block
from auscult.core.errors import StoreError
from auscult.core.metric import Stream
from auscult.core.run import Run, Segment
from auscult.core.sink import Channel, Values
from auscult.store.damage import Damage, readable
from auscult.store.details import list_details, read_detail
from auscult.store.history import History, read_history
from auscult.store.layout import CHANNELS, FORMAT, RUN, read_info
from auscult.store.lines import read_lines
from auscult.store.rescued import appended, read_rescued
from auscult.store.snapshot import NOTHING, Snapshot, take_snapshot
from auscult.store.stored import NEVER_STEP, StoredStream

LIST_DEPTH = 3


class StoreSource:
    """Hands out what a directory holds; see `auscult.core.run.Source`."""

    def __init__(self, path: Path, streams: Mapping[Stream, StoredStream], details: Mapping[int, Path]) -> None:
        self._path = path
        self._streams = streams
        self._details = details

    def streams(self) -> tuple[Stream, ...]:
        """The streams that have at least one channel."""
        return tuple(self._streams)

    def channels(self, stream: Stream) -> tuple[Channel, ...]:
        """The columns of a stream."""
        return self._streams[stream].channels

    def rows(self, stream: Stream, start: int, stop: int) -> tuple[NDArray[np.int64], Values]:
        """Steps `(R,)` and rows `(R, C)` with start <= step < stop; a column younger than a row is unobserved there."""
        with readable(self._path):
            return self._streams[stream].rows(start, stop)

    def columns(
        self, stream: Stream, positions: list[int], stop: int, start: int = 0
    ) -> Iterator[tuple[NDArray[np.int64], Values]]:
        """Steps `(R,)` and values `(K, R)` of some columns with start <= step < stop, piece by piece in step order."""
        with readable(self._path):
            yield from self._streams[stream].columns(positions, stop, start)

    def blocks(self, stream: Stream, level: int = BLOCK_STEPS) -> Iterator[Block]:
        """The stored digests of closed blocks of 64 or 1,024 steps, in order."""
        with readable(self._path):
            yield from self._streams[stream].blocks(level)

    def details(self) -> tuple[int, ...]:
        """The steps of which everything was recorded, increasing."""
        return tuple(self._details)

    def detail(self, step: int) -> Detail:
        """What was recorded of one of them."""
        with readable(self._path):
            return read_detail(self._details[step])


def load(path: str | os.PathLike[str], *, skip_damage: bool = False) -> Run:
    """Open a run.

    Args:
        path: Its directory; may be read-only, and the run may still be going on.
        skip_damage: Check everything at once, leave out what is damaged and list it in `run.damage`, instead of raising
            when it is met.

    Raises:
        StoreError: if there is no run, a later auscult wrote it, or something that is read is damaged.

    Warns:
        StoreWarning: if rows are missing, as in a copy that was made while the run went on.
    """
    path = Path(path)
    if "\0" in str(path):
        raise StoreError(
            f"Expected `path` to name a directory, but got {str(path)!r}, which has a NUL character in it."
        )
    with readable(path):
        info, count = read_info(path)
        snapshots: dict[Stream, Snapshot] = {
            stream: take_snapshot(path / stream, stream) for stream in _list_streams(path)
        }
        history = read_history(path, count)
        for stream in _list_streams(path):
            if stream not in snapshots or snapshots[stream].stop < history.rows(stream):  # written since
                snapshots[stream] = take_snapshot(path / stream, stream)
        damage = Damage(skip_damage, history.finished)
        history.tell(damage)
        streams = _open_streams(path, snapshots, history, damage)
        details = _find_details(path, history, damage)
    return Run(
        info,
        history.segments or (Segment(0, info.created, versions=info.versions),),
        StoreSource(path, streams, details),
        history.events,
        damage.entries,
        _stop(streams, history),
    )


def list_runs(directory: str | os.PathLike[str]) -> list[Path]:
    """Directories that hold a run: the one given or those up to three levels below it, sorted."""
    return sorted(_find_runs(Path(directory), LIST_DEPTH))


def _find_runs(directory: Path, depth: int) -> Iterator[Path]:
    if is_run(directory):
        yield directory
    elif depth:
        try:
            below = [each for each in directory.iterdir() if each.is_dir()]
        except (OSError, ValueError):  # not ours to look into, or no name of a directory
            return
        for each in below:
            yield from _find_runs(each, depth - 1)


def is_run(directory: Path) -> bool:
    """Whether a directory holds a run, told from the first bytes of its `run.json`."""
    try:
        with (directory / RUN).open("rb") as file:
            return f'"format": "{FORMAT}"'.encode() in file.read(200)
    except (OSError, ValueError):  # not ours to read, or no name of a file
        return False


def _list_streams(path: Path) -> list[Stream]:
    return [stream for stream in get_args(Stream) if (path / stream).is_dir()]


def _open_streams(
    path: Path, snapshots: Mapping[Stream, Snapshot], history: History, damage: Damage
) -> dict[Stream, StoredStream]:
    """The streams that have a channel; what is missing or damaged is told to `damage`."""
    channels = _read_channels(path, damage)
    if not channels and any(snapshot.width for snapshot in snapshots.values()):
        damage.report(f"Expected {path / CHANNELS} to name the channels of the run, but it names none of them.")
    streams: dict[Stream, StoredStream] = {}
    rescued = {} if history.finished else read_rescued(path, len(history.segments) - 1, damage)
    for stream in get_args(Stream):
        known = channels.get(stream, {})
        snapshot = snapshots.get(stream, NOTHING)
        if known and not history.rows(stream) and stream not in snapshots and stream not in _list_streams(path):
            damage.miss(f"Expected {path / stream} to be there, as {CHANNELS} says, but it is not.")
        if snapshot.width > max(known, default=-1) + 1:
            damage.miss(
                f"Expected {path / CHANNELS} to name {snapshot.width} channels of {stream}, but got {len(known)}; the "
                "others are left out."
            )
        snapshot.tell(damage)
        history.tell_rows(stream, snapshot.stop, damage)
        snapshot = appended(snapshot, known, rescued.get(stream, ()))
        if known and (stream in snapshots or stream in rescued):
            starts, lost = history.starts(stream), max(history.lost_segments, default=-1)
            streams[stream] = StoredStream(path / stream, stream, snapshot, known, starts, lost, damage)
    if history.lost_segments and "steps" in streams:
        rewinds = streams["steps"].find_rewinds()
        for stream in streams.keys() - {"steps"}:
            streams[stream].rewinds = rewinds
    if damage.skip:
        for stored in streams.values():
            stored.verify()
    return streams


def _find_details(path: Path, history: History, damage: Damage) -> dict[int, Path]:
    """The details of the run; where damage is skipped, those that are whole."""
    starts = {number: start.step for number, start in history.starts("steps").items()}
    found = list_details(path, starts)
    if not damage.skip:
        return found
    whole: dict[int, Path] = {}
    for step, file in found.items():
        try:
            read_detail(file)
        except StoreError as error:
            damage.report(str(error))
        else:
            whole[step] = file
    return whole


def _stop(streams: Mapping[Stream, StoredStream], history: History) -> int:
    """Where a run that goes on is cut, so that all streams show the same moment although they are read in turn."""
    cut = streams["steps"].end if "steps" in streams and not history.finished else 0
    return cut or NEVER_STEP


def _read_channels(path: Path, damage: Damage) -> dict[str, dict[int, Channel]]:
    """The channels of each stream by position."""
    lines = read_lines(path / CHANNELS)
    for message in lines.damage:
        damage.report(message)
    channels: dict[str, dict[int, Channel]] = {}
    for each in lines.objects:
        channels.setdefault(each["stream"], {})[each["position"]] = Channel(each["metric"], each["path"])
    return channels
