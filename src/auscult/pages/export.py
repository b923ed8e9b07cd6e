"""Export: a run as one long table for other programs, in CSV, JSON Lines or Parquet.

One row per observed value: step, metric, path, value. Knows nothing of the programs that read it.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auscult.core.catalogue import METRICS
from auscult.core.errors import MissingExtra, SetupError
from auscult.core.metric import Stream
from auscult.core.run import Run
from auscult.core.series import Series
from auscult.core.sink import Channel, observed

Steps = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Selection = Mapping[Stream, Sequence[Channel]]

CHUNK_VALUES = 1 << 18
GROUP_ROWS = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Observed values of one stream, ordered by step and then by channel.

    Attributes:
        channels: What is exported of the stream, `(K,)`.
        steps: int64 `(M,)`.
        columns: Which of the channels each value belongs to, int64 `(M,)`.
        values: float64 `(M,)`.
    """

    channels: Sequence[Channel]
    steps: Steps
    columns: NDArray[np.intp]
    values: Floats


def export_run(
    run: Run,
    path: str | os.PathLike[str],
    metrics: Sequence[str] | None = None,
    paths: Sequence[str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a run as one table: a row `step, metric, path, value` for every value that was observed.

    Rows are ordered by stream, then by step. A value is the float64 that `run.series` gives, to the last bit; what is
    not finite is `nan`, `inf` or `-inf`, in JSON Lines (one object per row) as a string. In CSV metric and path are
    quoted, so that the path `"0"` stays text. The file is there in full or not at all; memory does not grow with the
    length of the run.

    Args:
        run: A run, as `load` gives it.
        path: Where to write it; `.csv`, `.jsonl` or `.parquet` decides what is written. Folders are made.
        metrics: Names of what to write, derived metrics included; None writes everything that was recorded.
        paths: Patterns (`encoder.*`) of which a path must match one; None writes all.
        on_progress: Called with the number of values done and the number of all, observed or not.

    Returns:
        The path written.

    Raises:
        SetupError: if the suffix is another one, nothing is selected, or the file cannot be written.
        UnknownName: if neither the catalogue nor the run knows a metric.
        MissingExtra: if pyarrow, which Parquet needs, is not installed.
    """
    target = Path(path)
    write = _WRITERS.get(target.suffix.lower())
    if write is None:
        raise SetupError(
            f"Expected `path` to end in .csv, .jsonl or .parquet, but got {str(target)!r}. "
            "Write: auscult export RUN -o run.csv."
        )
    selection = _select(run, metrics, paths)
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    _begin(draft, target)
    try:
        write(draft, _read(run, selection, on_progress))
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def _begin(draft: Path, target: Path) -> None:
    """Make sure that a file can be written, before a long time is spent on what is in it."""
    try:
        if target.is_dir():
            raise IsADirectoryError("it is a directory")
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.touch()
    except (OSError, ValueError) as error:
        raise SetupError(
            f"Expected `path` to be a file that can be written, but got {str(target)!r} ({error}). Name another one."
        ) from None


def _select(run: Run, metrics: Sequence[str] | None, paths: Sequence[str] | None) -> Selection:
    """What to write of each stream: recorded channels in their order, then derived ones."""
    derived = [Channel(metric, path) for metric in dict.fromkeys(metrics or ()) for path in run.paths(metric)]
    derived = [each for each in derived if _inputs(each)]
    named: dict[Stream, list[Channel]] = {}
    for stream in run.streams:
        recorded = [each for each in run.source.channels(stream) if metrics is None or each.metric in metrics]
        named[stream] = recorded + [each for each in derived if METRICS[each.metric].stream == stream]
    known = {each.path for channels in named.values() for each in channels}
    if metrics is not None and not known:
        raise SetupError(
            f"Expected `metrics` to name something that was observed, but got {', '.join(metrics) or 'none'}. "
            "`run.metrics` lists what was recorded; leave `metrics` out to write it all."
        )
    for pattern in paths or ():
        if not any(fnmatchcase(path, pattern) for path in known):
            raise SetupError(
                f"Expected each of `paths` to match a path, but got {pattern!r}, which matches none of {len(known)}. "
                "`run.paths(metric)` lists them; what is inside a module is 'module.*'."
            )
    if paths is not None:
        known = {path for path in known if any(fnmatchcase(path, pattern) for pattern in paths)}
    selection: dict[Stream, list[Channel]] = {}
    for stream, channels in named.items():
        kept = [each for each in channels if each.path in known]
        if kept:
            selection[stream] = kept
    return selection


def _read(run: Run, selection: Selection, on_progress: Callable[[int, int], None] | None) -> Iterator[Cells]:
    """What was observed, a quarter of a million values at a time."""
    total = done = 0
    if on_progress is not None:
        for stream, channels in selection.items():
            total += sum(len(steps) for steps, _ in run.source.columns(stream, [], run.stop)) * len(channels)
    for stream, channels in selection.items():
        for steps, values, seen in _read_columns(run, stream, channels):
            rows, columns = np.nonzero(seen.T)
            yield Cells(channels, steps[rows], columns, values.T[rows, columns])
            if on_progress is not None:
                done += values.size
                on_progress(done, total)


def _read_columns(run: Run, stream: Stream, channels: Sequence[Channel]) -> Iterator[tuple[Steps, Floats, Mask]]:
    """Steps `(R,)`, values `(K, R)` and what was observed `(K, R)` of recorded and derived channels."""
    position = {channel: number for number, channel in enumerate(run.source.channels(stream))}
    sources = dict.fromkeys(source for channel in channels for source in _sources(channel))
    here = [each for each in sources if each in position]
    elsewhere = [Series(*each) if each.path else run.series(each.metric) for each in sources if each not in position]
    size = max(1, CHUNK_VALUES // len(channels))
    for every, piece in run.source.columns(stream, [position[each] for each in here], run.stop):
        for start in range(0, len(every), size):
            steps, part = every[start : start + size], np.ascontiguousarray(piece[:, start : start + size])
            known = dict(zip(here, zip(part.astype(np.float64), observed(part))))
            known |= {Channel(each.metric, each.path): _at(each, steps) for each in elsewhere}
            found = [_value(channel, known) for channel in channels]
            yield steps, np.stack([values for values, _ in found]), np.stack([seen for _, seen in found])


def _inputs(channel: Channel) -> list[Channel]:
    """The channels from which a derived one is computed; none for a recorded one."""
    names = METRICS[channel.metric].inputs if channel.metric in METRICS else ()
    return [Channel(name, "" if METRICS[name].scope == "run" else channel.path) for name in names]


def _sources(channel: Channel) -> list[Channel]:
    """The recorded channels behind a channel, itself if it is recorded."""
    inputs = _inputs(channel)
    return [source for each in inputs for source in _sources(each)] if inputs else [channel]


def _value(channel: Channel, known: Mapping[Channel, tuple[Floats, Mask]]) -> tuple[Floats, Mask]:
    """Values `(R,)` of a channel and whether they were observed."""
    derive = METRICS[channel.metric].derive if channel.metric in METRICS else None
    if derive is None:
        return known[channel]
    values, seen = zip(*(_value(each, known) for each in _inputs(channel)))
    with np.errstate(all="ignore"):
        return derive(*values), np.logical_and.reduce(seen)


def _at(series: Series, steps: Steps) -> tuple[Floats, Mask]:
    """Values of a series at some steps, and whether there are such."""
    place = np.searchsorted(series.steps, steps)
    return np.append(series.values, 0.0)[place], np.append(series.steps, -1)[place] == steps


def _write_csv(path: Path, chunks: Iterable[Cells]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        file.write("step,metric,path,value\n")
        for cells in chunks:
            names = [f"{_quoted(metric)},{_quoted(path)}" for metric, path in cells.channels]
            lines = (f"{step},{names[column]},{value}\n" for step, column, value in _rows(cells))
            file.write("".join(lines))


def _write_jsonl(path: Path, chunks: Iterable[Cells]) -> None:
    with path.open("w", encoding="ascii", newline="") as file:
        for cells in chunks:
            names = [f'"metric": {json.dumps(metric)}, "path": {json.dumps(path)}' for metric, path in cells.channels]
            lines = (
                f'{{"step": {step}, {names[column]}, "value": {_json_number(value)}}}\n'
                for step, column, value in _rows(cells)
            )
            file.write("".join(lines))


def _write_parquet(path: Path, chunks: Iterable[Cells]) -> None:
    arrow, parquet = _import_pyarrow()
    name = arrow.dictionary(arrow.int32(), arrow.string())
    schema = arrow.schema([("step", arrow.int64()), ("metric", name), ("path", name), ("value", arrow.float64())])

    def batch(cells: Cells) -> Any:
        names: list[Any] = []
        for texts in zip(*cells.channels):
            number = {text: place for place, text in enumerate(dict.fromkeys(texts))}
            places = np.array([number[text] for text in texts], np.int32)[cells.columns]
            distinct = [text.encode("utf-8", "backslashreplace") for text in number]
            names.append(arrow.DictionaryArray.from_arrays(places, arrow.array(distinct, arrow.string())))
        return arrow.record_batch([arrow.array(cells.steps), *names, arrow.array(cells.values)], schema=schema)

    with parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=["step", "metric", "path"]) as writer:
        group: list[Any] = []
        for cells in chunks:
            group.append(batch(cells))
            if sum(map(len, group)) >= GROUP_ROWS:
                writer.write_table(arrow.Table.from_batches(group).unify_dictionaries())
                group.clear()
        if group:
            writer.write_table(arrow.Table.from_batches(group).unify_dictionaries())


_WRITERS: Mapping[str, Callable[[Path, Iterable[Cells]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}


def _rows(cells: Cells) -> Iterable[tuple[int, int, float]]:
    return zip(cells.steps.tolist(), cells.columns.tolist(), cells.values.tolist())


def _json_number(value: float) -> str:
    """A number as strict JSON allows it; `auscult.core.finding.number_to_json` as text, many times faster."""
    return repr(value) if value - value == 0 else f'"{value}"'


def _quoted(text: str) -> str:
    """A field of CSV as RFC 4180 quotes it; always, so that no reader takes the path `0` for a number."""
    return '"' + text.replace('"', '""') + '"'


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtra(
            f"Expected pyarrow to be installed, which writes .parquet files, but got: {error}. "
            "Install it: pip install 'auscult[parquet]'; or write a .csv or .jsonl file."
        ) from None
