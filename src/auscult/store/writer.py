"""StoreWriter: writes a run to disk while it trains.

Rows cost one write to the end of a file; everything slower happens on the sealer's thread. Knows nothing of how
rows are read back.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

from auscult.core.detail import Detail
from auscult.core.digest import Block
from auscult.core.errors import SetupError, StoreError
from auscult.core.finding import Finding
from auscult.core.metric import Stream
from auscult.core.run import RunInfo, Segment
from auscult.core.sink import Channel, Record, Rows
from auscult.store.damage import Damage, readable
from auscult.store.details import write_detail
from auscult.store.history import read_history
from auscult.store.hold import Hold
from auscult.store.layout import (
    CHANNELS,
    DRAFT,
    EVENTS,
    FORMAT_VERSION,
    RUN,
    read_info,
    segment_to_fields,
    write_info,
)
from auscult.store.lines import Lines, encode_line, read_lines
from auscult.store.log import AppendLog
from auscult.store.rescued import after, read_rescued
from auscult.store.rowlog import RowLog
from auscult.store.sealer import Sealer, SealingError

IfExists = Literal["new", "resume", "error"]


@dataclass(frozen=True, slots=True)
class Loss:
    """Rows of one stream that could not be written: how many, the step of the first and of the last."""

    rows: int
    step: int
    last_step: int


class StoreWriter:
    """A Sink that keeps everything; make one with `StoreWriter.create`.

    All methods belong to the thread that made it. In a forked process (a worker of a DataLoader) they do nothing.

    Attributes:
        path: Directory of the run, absolute.
        info: Identity of the run; of a resumed one, as stored.
        resumed: Whether it continues a run that was there before.
    """

    def __init__(self, path: Path, info: RunInfo, segments: int, resumed: bool, hold: Hold) -> None:
        self.path = path
        self.info = info
        self.resumed = resumed
        self._process = os.getpid()
        self._hold = hold
        self._segments = segments
        self._segment_step = 0
        self._closed = False
        self._sealer = Sealer()
        self._streams: dict[Stream, RowLog] = {}
        self._losses: dict[Stream, Loss] = {}  # not written down yet
        known = _read_strictly(path / CHANNELS)
        self._events = AppendLog(path / EVENTS)
        self._events.cut(_read_strictly(path / EVENTS).end)
        self._channels = AppendLog(path / CHANNELS)
        self._channels.cut(known.end)
        for stream in dict.fromkeys(each["stream"] for each in known.objects):
            channels = [Channel(each["metric"], each["path"]) for each in known.objects if each["stream"] == stream]
            self._open(stream, channels).seal()

    @classmethod
    def create(cls, path: str | os.PathLike[str], info: RunInfo, if_exists: IfExists = "new") -> "StoreWriter":
        """Begin or continue a run.

        Args:
            path: Where; missing directories are created.
            info: Identity and environment.
            if_exists: What to do if `path` holds something: `"new"` writes to `path-2` (or the next number that is
                free), `"resume"` continues the run there, `"error"` refuses.

        Raises:
            SetupError: if `path` holds something and may not be used, cannot be made, or is the run to be continued and
                has a writer still.
            StoreError: if the run to be continued cannot be read.
        """
        path = Path(path).absolute()
        if if_exists == "resume" and (path / RUN).exists():
            return cls._resume(path)
        hold = _claim(path)
        if hold is None:
            if if_exists != "new":
                raise SetupError(_occupied(path, if_exists))
            beside = (path.with_name(f"{path.name}-{n}") for n in count(2))
            path, hold = next((each, held) for each in beside if (held := _claim(each)) is not None)
        info = replace(info, format_version=FORMAT_VERSION)
        write_info(path, info, segments=0)
        return cls(path, info, 0, False, hold)

    @classmethod
    def _resume(cls, path: Path) -> "StoreWriter":
        with readable(path):
            hold = Hold(path / EVENTS)  # before anything is read that another writer might change
        try:
            with readable(path):
                stored, segments = read_info(path)
                events = _read_strictly(path / EVENTS).objects
                history = read_history(path, segments)
            segments = max(segments, sum(each["kind"] == "segment" for each in events))
            writer = cls(path, stored, segments, True, hold)
            if not history.finished:
                writer._take_in(read_rescued(path, segments - 1, Damage(False, False)))
        except BaseException:
            hold.end()
            raise
        return writer

    @property
    def segment(self) -> int:
        """Number of the segment that rows belong to; -1 before the first."""
        return self._segments - 1

    def begin_segment(self, segment: Segment, **facts: Any) -> None:
        """Write down that training begins, or goes on from a step.

        Values, blocks and events of earlier segments that belong to this step or a later one are obsolete from now on:
        they stay on disk, but nobody who reads the run is given them.

        Args:
            segment: The step and the model.
            **facts: What else is worth knowing, such as the environment of a resumed run.
        """
        if not self._mine():
            return
        fields = {**facts, **segment_to_fields(segment), "segment": self._segments, "ordinals": self._settle()}
        self._write_line("segment", segment.step, fields)
        self._segments += 1
        self._segment_step = segment.step
        write_info(self.path, self.info, self._segments)
        for log in self._streams.values():
            log.begin_segment(segment.step)

    def write(self, record: Record) -> None:
        """Append one row; see `write_rows`."""
        self.write_rows(Rows.of(record))

    def write_rows(self, rows: Rows) -> None:
        """Append rows of one stream; they survive the death of the process.

        Raises:
            SetupError: if a step is not later than that of the row before.
            OSError: if one could not be written, in which case neither it nor those behind it were.
            SealingError: if they were written, but the sealing of earlier rows has failed since the last call. Those
                rows stay in their tails, and sealing is tried again.
        """
        if not self._mine():
            return
        log = self._streams.get(rows.stream)
        before = 0 if log is None else log.ordinal
        try:
            log = log or self._open(rows.stream, [])
            before = log.ordinal
            log.append(rows)
        except OSError:
            self._lose(rows, 0 if log is None else log.ordinal - before)
            raise
        if rows.stream in self._losses:
            with suppress(OSError):  # it is tried again
                self._tell_losses()
        if self._sealer.error is not None:
            self._raise_kept()

    def write_block(self, block: Block) -> None:
        """Append the digest of one closed block."""
        if not self._mine():
            return
        log = self._streams.get(block.stream) or self._open(block.stream, [])
        segment = max(self._segments - 1, 0)
        log.append_block(segment, block, complete_from=self._segment_step if segment else 0)

    def write_detail(self, detail: Detail) -> None:
        """Write everything about one step to a file of its own."""
        if self._mine():
            write_detail(self.path, max(self._segments - 1, 0), detail)

    def write_event(self, kind: str, step: int, **facts: Any) -> None:
        """Append a line to `events.jsonl`; non-finite floats become strings.

        The line of kind `end` also says how many rows there are, so that a loss is noticed.
        """
        if self._mine():
            self._write_line(kind, step, {**facts, "ordinals": self._settle()} if kind == "end" else facts)

    def write_finding(self, step: int, finding: Finding) -> None:
        """Append a finding, at the step at which it became known."""
        self.write_event("finding", step, finding=finding.to_dict())

    def close(self) -> None:
        """Seal what is complete and end the thread; later calls do nothing.

        Raises:
            SealingError: if sealing has failed; the rows are in their tails.
        """
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        try:
            for log in self._streams.values():
                log.close()
            self._sealer.close()
            self._events.close()
            self._channels.close()
        finally:
            self._hold.end()
        if self._sealer.error is not None:
            self._raise_kept()

    def _take_in(self, rescued: Mapping[Stream, Sequence[Rows]]) -> None:
        """Rows that another rank has rescued become rows like any other."""
        for stream, rows in rescued.items():
            log = self._streams.get(stream) or self._open(stream, [])
            for each in after(rows, log.last_step):
                self.write_rows(each)

    def _mine(self) -> bool:
        """Whether this process may write."""
        if os.getpid() != self._process:
            return False
        if self._closed:
            raise SetupError(f"Expected the store {self.path} to be open, but it was closed. Call `watch` again.")
        return True

    def _write_line(self, kind: str, step: int, facts: dict[str, Any]) -> None:
        self._events.append(encode_line({"kind": kind, "step": step, **facts}))

    def _settle(self) -> dict[Stream, int]:
        """Make sure that the rows stay where they are, whatever happens, and count them."""
        self._tell_losses()
        for log in self._streams.values():
            log.sync()
        return {stream: log.ordinal for stream, log in self._streams.items()}

    def _lose(self, rows: Rows, written: int) -> None:
        """Rows could not be written, but for the first of them."""
        lost = rows.steps[written:].tolist()
        known = self._losses.get(rows.stream, Loss(0, lost[0], lost[0]))
        self._losses[rows.stream] = replace(known, rows=known.rows + len(lost), last_step=lost[-1])

    def _tell_losses(self) -> None:
        for stream, loss in tuple(self._losses.items()):
            facts = {"stream": stream, "rows": loss.rows, "last_step": loss.last_step}
            self._write_line("lost", loss.step, facts)
            del self._losses[stream]

    def _open(self, stream: Stream, known: list[Channel]) -> RowLog:
        log = RowLog(self.path / stream, stream, known, self._channels, self._sealer, self.info.id)
        log.last_step = max(log.last_step, self._segment_step - 1)
        self._streams[stream] = log
        return log

    def _raise_kept(self) -> None:
        error, self._sealer.error = self._sealer.error, None
        raise SealingError(
            f"Expected {self.path} to take sealed rows, but got: {error}. They stay in their tails."
        ) from error


def _claim(path: Path) -> Hold | None:
    """Make a directory our own; None if something is there already, or another process was faster."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not _is_free(path):
            return None
        made = _make(path / EVENTS)
        hold = Hold(path / EVENTS)
    except (FileExistsError, SetupError):
        return None
    except OSError as error:
        raise SetupError(
            f"Expected a directory that can be made at {path}, but got: {error.strerror or error}. Name a path below a "
            "directory that may be written to."
        ) from error
    if (made or hold.certain) and _is_free(path):
        return hold
    hold.end()
    return None


def _is_free(path: Path) -> bool:
    """Whether a directory holds nothing, or what is left where a process was killed while it claimed it."""
    return all(each.name == DRAFT or (each.name == EVENTS and not each.stat().st_size) for each in path.iterdir())


def _make(file: Path) -> bool:
    """Make an empty file; False if another process was faster."""
    try:
        AppendLog(file, new=True).close()
    except FileExistsError:
        return False
    return True


def _occupied(path: Path, if_exists: IfExists) -> str:
    if if_exists == "error" and (path / RUN).exists():
        return (
            f"Expected {path} to be free, but it holds a run. Continue it with `if_exists='resume'`, or write "
            "beside it with `if_exists='new'`."
        )
    return f"Expected {path} to be free, but it holds something that is not a run. Name a directory of its own."


def _read_strictly(path: Path) -> Lines:
    lines = read_lines(path)
    if lines.damage:
        raise StoreError(f"{lines.damage[0]} The run cannot be continued; write a new one with `if_exists='new'`.")
    return lines
