"""Importer: a foreign run becomes a run of ours on disk."""

import os
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from auscult.core.digest import BLOCK_STEPS, block_start, digest_rows
from auscult.core.errors import StoreError
from auscult.core.metric import Stream
from auscult.core.provenance import Provenance
from auscult.core.run import RunInfo, Segment
from auscult.core.sink import Channel, Rows, Values, empty_rows
from auscult.core.version import __version__
from auscult.imports.account import Account
from auscult.imports.foreign import ForeignRun, Purge
from auscult.imports.formats import Format, find_others, find_runs
from auscult.imports.names import Place, places, renamed, sent
from auscult.imports.spill import Spill
from auscult.pages.wording import counted
from auscult.store.damage import StoreWarning
from auscult.store.writer import IfExists, StoreWriter

FINITE = Channel("finite", "")
CELLS = 1 << 20  # of a table of rows that is made at once


@dataclass(frozen=True, slots=True)
class Imported:
    """A run that was imported.

    Attributes:
        name: What its tool calls it.
        path: Where it is now; `auscult.load` opens it.
        steps: How many steps it has.
        values: How many numbers.
        provenance: Where it comes from, what was renamed, left out, replaced.
    """

    name: str
    path: Path
    steps: int
    values: int
    provenance: Provenance


def import_runs(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    log_format: Format | None = None,
    names: Sequence[str] = (),
    step: str | None = None,
    if_exists: IfExists = "new",
    skip_damage: bool = False,
    on_progress: Callable[[str, int, int], object] | None = None,
) -> list[Imported]:
    """Read what another tool logged, and write it as runs of auscult.

    Args:
        source: A TensorBoard, W&B or MLflow file or directory, a `trainer_state.json`, a CSV or JSON Lines file.
        path: Directory of the run; of several, the directory they are written below. None writes to `runs/<name>`.
        log_format: What the source is; None tells from the files.
        names: Import only runs of these names, each of which must be there; empty imports all.
        step: The column of steps of a CSV or JSON Lines file; None looks for a usual name.
        if_exists: As in `watch`: `"new"` writes beside what is there, `"error"` refuses.
        skip_damage: Leave out what is damaged and list it in `provenance.notes`, instead of raising.
        on_progress: Called with the name of a run, how much of it was read, and how much there is.

    Returns:
        The runs, in the order in which they were found. A run without a number over steps is left out, and so are
        logs of a second tool in the same directory; a `StoreWarning` says so.

    Raises:
        StoreError: if the source is not there, not recognised, damaged, or has no number over steps.
        SetupError: if `path` cannot be written.
    """
    source = Path(source)
    found = find_runs(source, log_format, step)
    others = {} if log_format is not None else find_others(source, found, names)
    chosen = _chosen(source, found, names, others)
    if others:
        warnings.warn(_besides(source, chosen, others), StoreWarning, stacklevel=2)
    single = len(chosen) == 1
    target = Path(path) if path is not None else Path("runs") / _file_name(chosen[0].name if single else source.stem)
    imported: list[Imported] = []
    empty: list[str] = []
    for each in chosen:
        account = Account(each.name, skip_damage)
        with closing(Spill()) as spill:
            columns = _read(each, account, spill, on_progress)
            if not spill.count:
                empty.append(_emptiness(each, account))
                continue
            directory = target if single else target / _file_name(each.name)
            imported.append(_write(directory, source, each, account, spill, columns, if_exists))
    if not imported:
        raise StoreError(
            f"Expected {source} to hold numbers over steps, but {'; '.join(empty)}. There is nothing to import."
        )
    if empty:
        told = f"{source} also holds runs without numbers over steps, which are left out: {'; '.join(empty)}."
        warnings.warn(told, StoreWarning, stacklevel=2)
    return imported


def imported_lines(imported: Imported) -> list[str]:
    """What became of a run, a line for each thing that is worth knowing."""
    origin = imported.provenance
    lines = [
        f"{imported.name}: {imported.values:,} numbers at {imported.steps:,} steps, logged by {origin.tool}",
        *(f"renamed    {old} -> {new}" for old, new in origin.renamed.items()),
        *(f"left out   {count:,} × {kind}" for kind, count in origin.left_out.items()),
    ]
    return [*lines, *(f"note       {each}" for each in origin.notes), f"run        {imported.path}"]


def _chosen(
    source: Path, found: Sequence[ForeignRun], names: Sequence[str], others: Mapping[Format, Sequence[ForeignRun]]
) -> list[ForeignRun]:
    """The runs of the names that were asked for; without names all."""
    missing = [name for name in dict.fromkeys(names) if name not in {each.name for each in found}]
    if missing:
        listed = ", ".join(repr(each.name) for each in found[:12])
        more = f" and {len(found) - 12} more" if len(found) > 12 else ""
        elsewhere = f" There is {_counted(others)} of that name: take it with {_formats(others)}." if others else ""
        raise StoreError(
            f"Expected {source} to hold a run called {' or '.join(map(repr, missing))}, but it holds {listed}{more}."
            f"{elsewhere} Leave `--run` out to import all."
        )
    return [each for each in found if not names or each.name in names]


def _besides(source: Path, chosen: Sequence[ForeignRun], others: Mapping[Format, Sequence[ForeignRun]]) -> str:
    return (
        f"{source} holds logs of several tools. Taken: {counted(len(chosen), 'run')} of {chosen[0].tool}. "
        f"Not taken: {_counted(others)}; take these with {_formats(others)}."
    )


def _counted(others: Mapping[Format, Sequence[ForeignRun]]) -> str:
    return ", ".join(f"{counted(len(runs), 'run')} of {runs[0].tool}" for runs in others.values())


def _formats(others: Mapping[Format, Sequence[ForeignRun]]) -> str:
    return f"{' or '.join(f'--format {each}' for each in others)} (`log_format={next(iter(others))!r}`)"


def _read(
    foreign: ForeignRun, account: Account, spill: Spill, on_progress: Callable[[str, int, int], object] | None
) -> list[str | Channel]:
    """Take every number of a run. Returns the names of the columns."""
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done = min(done + count, foreign.size)
        if on_progress is not None:
            on_progress(foreign.name, done, foreign.size)

    account.on_bytes = on_bytes
    columns: dict[str | Channel, int] = {}
    for each in foreign.read(account):
        if isinstance(each, Purge):
            spill.cut(each.step)
        elif each.step < 0:
            account.report_damage(f"Expected steps from 0 on, but {each.name!r} has a value at step {each.step}.")
        else:
            name = sent(each.name) if account.own and isinstance(each.name, str) else each.name
            spill.add(each.step, columns.setdefault(name, len(columns)), each.value)
    return list(columns)


def _write(
    directory: Path,
    source: Path,
    foreign: ForeignRun,
    account: Account,
    spill: Spill,
    columns: Sequence[str | Channel],
    if_exists: IfExists,
) -> Imported:
    kept = places(columns, account.trainer)
    windows = spill.windows()
    opening = next(windows, None)
    if opening is None:
        raise StoreError(f"Expected {source} to hold numbers over steps, but all of them were withdrawn again.")
    first = int(opening["step"][0])
    with closing(StoreWriter.create(directory, _info(foreign, account), if_exists)) as writer:
        writer.begin_segment(Segment(first, account.created, versions=account.versions))
        tables = Tables(writer, [kept[each] for each in columns])
        steps = values = last = 0
        for window in chain((opening,), windows):
            last = int(window["step"][-1])
            steps += tables.write(window)
            values += len(window)
        provenance = _provenance(source, foreign, account, spill, kept)
        writer.write_event("import", first, **provenance.to_dict())
        writer.write_event("end", last, reason=account.state)
    return Imported(account.name, writer.path, steps, values, provenance)


class Tables:
    """The streams of a run that is being written.

    Args:
        writer: The store.
        several: Where each column of the log belongs.
    """

    def __init__(self, writer: StoreWriter, several: Sequence[Place]) -> None:
        self._writer = writer
        several = (*several, *(each for each in (Place("steps", FINITE),) if each not in several))
        self._finite = several.index(Place("steps", FINITE))
        self._streams: dict[Stream, tuple[tuple[Channel, ...], NDArray[np.intp]]] = {}
        for stream in ("steps", "norms", "sampled", "user", "evaluation"):
            here = [place for place, each in enumerate(several) if each.stream == stream]
            positions = np.full(len(several), -1, np.intp)
            positions[here] = np.arange(len(here))
            if here:
                self._streams[stream] = tuple(several[place].channel for place in here), positions
        self._open: dict[Stream, list[tuple[NDArray[np.int64], Values]]] = {}

    def write(self, window: "NDArray[np.void]") -> int:
        """Write numbers, as `Spill.windows` gives them. Returns how many steps they have."""
        steps, begins = np.unique(window["step"], return_index=True)
        window = self._with_finite(window, steps, begins)
        for stream, (channels, positions) in self._streams.items():
            inside = window[positions[window["column"]] >= 0]
            rows = max(1, CELLS // len(channels))
            mine = np.unique(inside["step"])
            for begin in range(0, len(mine), rows):
                some = mine[begin : begin + rows]
                low, high = np.searchsorted(inside["step"], (some[0], some[-1] + 1))
                part = inside[low:high]
                table = empty_rows(stream, len(some), len(channels))
                numbers = np.where(np.isnan(part["value"]), np.nan, part["value"])  # no NaN but the common one
                table[np.searchsorted(some, part["step"]), positions[part["column"]]] = numbers
                self._put(stream, some, channels, table)
        return len(steps)

    def _with_finite(
        self, window: "NDArray[np.void]", steps: NDArray[np.int64], begins: NDArray[np.intp]
    ) -> "NDArray[np.void]":
        """The same with a `finite` at every step, so that every step has a row of the stream `steps`."""
        missing = ~np.isin(steps, window["step"][window["column"] == self._finite])
        told = np.zeros(int(missing.sum()), window.dtype)
        told["step"] = steps[missing]
        told["column"] = self._finite
        told["value"] = np.logical_and.reduceat(np.isfinite(window["value"]), begins)[missing]
        return np.insert(window, np.append(begins[1:], len(window))[missing], told)

    def _put(self, stream: Stream, steps: NDArray[np.int64], channels: tuple[Channel, ...], table: Values) -> None:
        """Write rows, and the digests of the blocks of 64 steps that are complete by them."""
        self._writer.write_rows(Rows(stream, steps, channels, table))
        blocks = steps // BLOCK_STEPS
        bounds = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(steps)]
        for begin, end in pairwise(bounds):
            waiting = self._open.setdefault(stream, [])
            if waiting and block_start(int(waiting[0][0][0])) != block_start(int(steps[begin])):
                self._close(stream, channels)
                waiting = self._open[stream] = []
            waiting.append((steps[begin:end], table[begin:end]))

    def _close(self, stream: Stream, channels: tuple[Channel, ...]) -> None:
        waiting = self._open[stream]
        steps = np.concatenate([each for each, _ in waiting])
        rows = np.concatenate([each for _, each in waiting])
        stop = block_start(int(steps[0])) + BLOCK_STEPS
        self._writer.write_block(digest_rows(stream, channels, steps, rows, stop))


def _info(foreign: ForeignRun, account: Account) -> RunInfo:
    return RunInfo(
        id=account.id or uuid4().hex,
        name=account.name,
        created=account.created or time.time(),
        format_version=0,
        config=account.config,
        command=account.command,
        seed=None,
        git_commit=account.git_commit,
        versions={"auscult": __version__, **account.versions},
        host=account.host,
        devices=(),
    )


def _provenance(
    source: Path, foreign: ForeignRun, account: Account, spill: Spill, kept: "dict[str | Channel, Place]"
) -> Provenance:
    notes = [f"Damaged: {each}" for each in account.damage]
    if spill.repeats:
        notes.append(f"{spill.repeats:,} values came again at their step; the last one is kept.")
    if spill.withdrawn:
        notes.append(f"{spill.withdrawn:,} values were withdrawn by the log itself, where training was restarted.")
    if not account.created:
        notes.append("The log does not say when the run began; the time is that of the import.")
    return Provenance(
        foreign.tool, str(source), account.state, renamed(kept), dict(sorted(account.left_out.items())), tuple(notes)
    )


def _emptiness(foreign: ForeignRun, account: Account) -> str:
    others = ", ".join(f"{count:,} × {kind}" for kind, count in account.left_out.items())
    return f"{foreign.name!r} has none" + (f" (but {others})" if others else "")


def _file_name(name: str) -> str:
    """A name as one part of a path."""
    part = re.sub(r"[^\w.+=@ -]+", "-", name).strip(". ")
    return part[:120] or "run"
