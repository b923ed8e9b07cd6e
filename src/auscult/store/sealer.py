"""Sealer: makes tiles of full tails, larger tiles of small ones and coarse blocks of fine ones, on a thread of its own.

Knows nothing of the rows still being written. What it did not get to (queue full, process dead) is found in the
directory and done later.
"""

from collections.abc import Callable
from pathlib import Path
from queue import Full, Queue
from threading import Thread

from auscult.core.errors import StoreError
from auscult.core.metric import Stream
from auscult.core.sink import row_dtype
from auscult.store.layout import require_same_run
from auscult.store.lines import encode_line, read_lines
from auscult.store.log import AppendLog
from auscult.store.tails import list_tails, read_tail, tail_name
from auscult.store.tiles import (
    MANIFEST,
    Tile,
    choose_tiles,
    find_mergeable,
    list_tiles,
    merge_tiles,
    read_manifest,
    tile_to_fields,
    write_tile,
)

QUEUE_LENGTH = 64
KEPT_TAILS = 4

Task = Callable[[], None]


class SealingError(OSError):
    """Rows could not be sealed; they stay in their tails, from which they are read as well."""


class Sealer:
    """Runs tasks in order on a daemon thread, which starts with the first one.

    Attributes:
        error: What went wrong first since the last success; whoever takes it sets it to None.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._failing = False
        self._tasks: Queue[Task | None] = Queue(QUEUE_LENGTH)
        self._thread: Thread | None = None

    def submit(self, task: Task, *, wait: bool = False) -> None:
        """Have a task done; one that does not wait is dropped when the queue is full, or no thread can be started.

        A task that may wait needs no thread of its own: at the end of the interpreter none can be started any more.
        """
        if self._thread is None and wait:
            self._run(task)
            return
        if self._thread is None:
            thread = Thread(target=self._work, name="auscult-sealer", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return
            self._thread = thread
        try:
            self._tasks.put(task, block=wait)
        except Full:
            return

    def close(self) -> None:
        """Finish what was submitted."""
        if self._thread is not None:
            self._tasks.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._run(task)

    def _run(self, task: Task) -> None:
        try:
            task()
            self._failing = False
        except Exception as error:  # raised by the next write, on the training thread
            self.error = self.error if self._failing else error
            self._failing = True


class Shelf:
    """The tiles of one stream; used by the sealer's thread alone.

    Args:
        directory: Of the stream.
        stream: Its name.
        run_id: The run that the directory above it must hold.
    """

    def __init__(self, directory: Path, stream: Stream, run_id: str) -> None:
        self._directory = directory
        self._stream: Stream = stream
        self._run_id = run_id
        self._tiles: list[Tile] | None = None
        self._manifest: AppendLog | None = None
        self._unmergeable: set[str] = set()

    def seal(self, stop: int) -> None:
        """Seal the tails before an ordinal, merge what can be merged.

        The last sealed tails, and what the last merge made superfluous, stay until the next time: whoever copies the
        directory meanwhile finds every row.
        """
        require_same_run(self._directory.parent, self._run_id)
        self._seal_tails(stop)
        self._remove_tails(stop, KEPT_TAILS)
        self._merge()

    def finish(self, stop: int) -> None:
        """The same, and remove everything superfluous: nothing will be written any more."""
        require_same_run(self._directory.parent, self._run_id)
        self._seal_tails(stop)
        self._merge()
        self._remove_tails(stop, 0)
        self._remove_merged()
        if self._manifest is not None:
            self._manifest.close()
            self._manifest = None

    def _seal_tails(self, stop: int) -> None:
        tiles = self._load()
        for first in self._tails(stop):
            if _holds(tiles, first):
                continue
            tail = read_tail(self._directory / tail_name(first), self._stream)
            if tail.whole:
                self._add(write_tile(self._directory, first, tail.steps, tail.values.T.copy()))

    def _remove_tails(self, stop: int, keep: int) -> None:
        tiles = self._load()
        tails = self._tails(stop)
        for first in tails[: max(len(tails) - keep, 0)]:
            if _holds(tiles, first):
                (self._directory / tail_name(first)).unlink(missing_ok=True)

    def _merge(self) -> None:
        itemsize = row_dtype(self._stream).itemsize
        while True:
            candidates = [tile for tile in choose_tiles(self._load()) if tile.name not in self._unmergeable]
            parts = find_mergeable(candidates, itemsize)
            if parts is None:
                return
            self._remove_merged()
            try:
                self._add(merge_tiles(self._directory, parts, self._stream))
            except StoreError:
                self._unmergeable.update(part.name for part in parts)
                raise

    def _remove_merged(self) -> None:
        tiles = self._load()
        chosen = choose_tiles(tiles)
        for tile in tiles:
            if tile not in chosen:
                (self._directory / tile.name).unlink(missing_ok=True)
        self._tiles = chosen

    def _add(self, tile: Tile) -> None:
        if self._manifest is None:
            self._manifest = AppendLog(self._directory / MANIFEST)
            self._manifest.cut(read_lines(self._manifest.path).end)
        self._manifest.append(encode_line(tile_to_fields(tile)))
        self._load().append(tile)

    def _load(self) -> list[Tile]:
        if self._tiles is None:
            self._tiles, _ = list_tiles(self._directory, read_manifest(self._directory)[0])
        return self._tiles

    def _tails(self, stop: int) -> list[int]:
        names = [each.name for each in self._directory.iterdir()]
        return [first for first in list_tails(names) if first < stop]


def _holds(tiles: list[Tile], ordinal: int) -> bool:
    return any(tile.first <= ordinal < tile.stop for tile in tiles)
