"""load: a directory becomes a Run. Creates and changes nothing, needs no lock, never imports torch.

A run that goes on can be read at any time; the Run shows it as it stood when it was loaded.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from auscult.core.digest import BLOCK_STEPS, Block
from auscult.core.metric import Stream
from auscult.core.run import Run, Segment
from auscult.core.sink import Channel, Values
from auscult.store.damage import Damage
from auscult.store.layout import CHANNELS, EVENTS, FORMAT, RUN, read_info, segment_from_fields
from auscult.store.lines import read_lines
from auscult.store.snapshot import take_snapshot
from auscult.store.stored import Start, StoredStream

LIST_DEPTH = 3


class StoreSource:
    """Hands out what a directory holds; see `auscult.core.run.Source`."""

    def __init__(self, streams: Mapping[Stream, StoredStream]) -> None:
        self._streams = streams

    def streams(self) -> tuple[Stream, ...]:
        """The streams that have at least one channel."""
        return tuple(self._streams)

    def channels(self, stream: Stream) -> tuple[Channel, ...]:
        """The columns of a stream."""
        return self._streams[stream].channels

    def rows(self, stream: Stream, start: int, stop: int) -> tuple[NDArray[np.int64], Values]:
        """Steps `(R,)` and rows `(R, C)` with start <= step < stop; a column younger than a row is unobserved there."""
        return self._streams[stream].rows(start, stop)

    def columns(self, stream: Stream, positions: list[int], stop: int) -> Iterator[tuple[NDArray[np.int64], Values]]:
        """Steps `(R,)` and values `(K, R)` of some columns with step < stop, piece by piece in step order."""
        return self._streams[stream].columns(positions, stop)

    def blocks(self, stream: Stream, level: int = BLOCK_STEPS) -> list[Block]:
        """The stored digests of closed blocks of 64 or 1,024 steps, in order."""
        return self._streams[stream].blocks(level)


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
    info, count = read_info(path)
    damage = Damage(skip_damage)
    names = [stream for stream in get_args(Stream) if (path / stream).is_dir()]
    snapshots = {stream: take_snapshot(path / stream, stream, damage) for stream in names}
    channels = _read_channels(path, damage)
    events = read_lines(path / EVENTS)
    for message in events.damage:
        damage.report(message)
    begun = {each["segment"]: each for each in events.objects if each["kind"] == "segment"}
    if len(begun) < count:
        damage.report(f"Expected {path / EVENTS} to tell of {count} segments, but got {len(begun)}.")
    streams: dict[Stream, StoredStream] = {}
    for stream, snapshot in snapshots.items():
        known = channels.get(stream, {})
        if snapshot.width > max(known, default=-1) + 1:
            damage.warn(
                f"Expected {path / CHANNELS} to name {snapshot.width} channels of {stream}, but got {len(known)}; the "
                "others are left out. Was it copied while the run was going on? Copy it again."
            )
        if known:
            starts = {key: Start(each["ordinals"].get(stream, 0), each["step"]) for key, each in begun.items()}
            streams[stream] = StoredStream(path / stream, stream, snapshot, known, starts, count, damage)
    if skip_damage:
        for stored in streams.values():
            stored.verify()
    return Run(
        info,
        _segments(events.objects) or (Segment(0, info.created, versions=info.versions),),
        StoreSource(streams),
        _current_events(events.objects),
        damage.entries,
    )


def list_runs(directory: str | os.PathLike[str]) -> list[Path]:
    """Directories that hold a run: the one given or those up to three levels below it, sorted."""
    return sorted(_find_runs(Path(directory), LIST_DEPTH))


def _find_runs(directory: Path, depth: int) -> Iterator[Path]:
    if _is_run(directory):
        yield directory
    elif depth:
        try:
            below = [each for each in directory.iterdir() if each.is_dir()]
        except OSError:  # not ours to look into
            return
        for each in below:
            yield from _find_runs(each, depth - 1)


def _is_run(directory: Path) -> bool:
    try:
        with (directory / RUN).open("rb") as file:
            return f'"format": "{FORMAT}"'.encode() in file.read(200)
    except OSError:
        return False


def _read_channels(path: Path, damage: Damage) -> dict[str, dict[int, Channel]]:
    """The channels of each stream by position."""
    lines = read_lines(path / CHANNELS)
    for message in lines.damage:
        damage.report(message)
    channels: dict[str, dict[int, Channel]] = {}
    for each in lines.objects:
        channels.setdefault(each["stream"], {})[each["position"]] = Channel(each["metric"], each["path"])
    return channels


def _segments(events: tuple[dict[str, Any], ...]) -> tuple[Segment, ...]:
    """The segments, each in forward order where its first pass was seen."""
    segments: list[Segment] = []
    for event in events:
        if event["kind"] == "segment":
            segments.append(segment_from_fields(event))
        elif event["kind"] == "order" and segments:
            segments[-1] = segments[-1].in_forward_order(event["modules"])
    return tuple(segments)


def _current_events(events: tuple[dict[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
    """The events that no later segment made obsolete; segments always stay."""
    kept: list[Mapping[str, Any]] = []
    limit = np.iinfo(np.int64).max
    for event in reversed(events):
        if event["kind"] == "segment":
            kept.append(event)
            limit = min(limit, event["step"])
        elif event["step"] < limit:
            kept.append(event)
    return tuple(reversed(kept))
