"""Formats: what can be imported, by name, and how it is told from the files."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from auscult.core.errors import SetupError, StoreError
from auscult.core.naming import EVALUATIONS
from auscult.imports.account import Account
from auscult.imports.foreign import ForeignRun, Point
from auscult.imports.lines import plain_name
from auscult.imports.mlflow import database_runs, directory_run, is_database, run_directories
from auscult.imports.names import TRAINING
from auscult.imports.table import read_csv, read_jsonl
from auscult.imports.tensorboard import MARK, event_files, read_events
from auscult.imports.trainer_state import NAME as TRAINER_STATE
from auscult.imports.trainer_state import read_trainer_state
from auscult.imports.wandb import is_wandb, read_wandb
from auscult.store.layout import RUN

Format = Literal["tensorboard", "wandb", "mlflow", "transformers", "csv", "jsonl"]
Finder = Callable[[Path, str | None, bool], list[ForeignRun]]
"""Of a path, the column of steps, and whether the user said that it is of this format."""
DEPTH = 6
TIME = re.compile(r"\d{9,}\.\d+")


def find_runs(source: Path, log_format: Format | None, step: str | None) -> list[ForeignRun]:
    """The runs that a file or directory holds, in a fixed order, each with a name of its own.

    Args:
        source: The file or directory.
        log_format: What it is; None tells from the files.
        step: The column of steps of a table.

    Raises:
        SetupError: if the format is unknown.
        StoreError: if there is nothing, nothing that is recognised, or a file that cannot be read.
    """
    if log_format is not None and log_format not in FINDERS:
        raise SetupError(f"Expected a format, one of {', '.join(FINDERS)}, but got {log_format!r}.")
    if not source.exists():
        raise StoreError(f"Expected a file or directory at {source}, but there is none. Is the path right?")
    if log_format is None and (source / RUN).is_file():
        raise StoreError(
            f"Expected the log of another tool, but {source} is a run of auscult itself, which needs no import."
        )
    for finder in (FINDERS[log_format],) if log_format else FINDERS.values():
        found = finder(source, step, log_format is not None)
        if found:
            return _distinct(found)
    wanted = f"of format {log_format}" if log_format else f"of a format that is known ({', '.join(FINDERS)})"
    inside = "" if source.is_file() else f" It holds {_listing(source)}."
    raise StoreError(
        f"Expected {source} to be a log {wanted}, but nothing in it is recognised as one.{inside} "
        "Name its format: --format csv."
    )


def find_others(source: Path, found: Sequence[ForeignRun], names: Sequence[str]) -> dict[Format, list[ForeignRun]]:
    """The runs in a directory by formats other than the one that it was taken for; none of a file.

    Args:
        source: The file or directory.
        found: What `find_runs` gave, of one format.
        names: Only of these names; empty for all.
    """
    others: dict[Format, list[ForeignRun]] = {}
    for log_format in get_args(Format) if source.is_dir() else ():
        runs = FINDERS[log_format](source, None, False)
        chosen = [each for each in runs if not names or each.name in names]
        if chosen and chosen[0].tool != found[0].tool:
            others[log_format] = chosen
    return others


def _tensorboard(source: Path, _step: str | None, meant: bool) -> list[ForeignRun]:
    if source.is_file():
        return [_events(source.name, [("", source)])] if meant or MARK in source.name else []
    folders = {each: event_files(each) for each in _folders(source)}
    groups: dict[Path, list[tuple[str, Path]]] = {}
    for folder, files in folders.items():
        # What was logged into `train/` and `validation/` side by side is one training; torch's `add_hparams` writes
        # into a directory named by the time.
        part, prefix = folder.name.lower(), ""
        owner = folder
        if folder != source and part in TRAINING | EVALUATIONS:
            owner, prefix = folder.parent, f"{part}/"
        elif TIME.fullmatch(part) and folders.get(folder.parent):
            owner = folder.parent
        groups.setdefault(owner, []).extend((prefix, file) for file in files)
    return [
        _events(source.name if owner == source else owner.relative_to(source).as_posix(), files)
        for owner, files in groups.items()
        if files
    ]


def _events(name: str, files: list[tuple[str, Path]]) -> ForeignRun:
    return ForeignRun(name, "TensorBoard", _size(*(file for _, file in files)), partial(read_events, files))


def _wandb(source: Path, _step: str | None, meant: bool) -> list[ForeignRun]:
    if source.is_file():
        files = [source] if meant or source.suffix == ".wandb" or is_wandb(source) else []
    else:
        files = [file for each in _folders(source) for file in sorted(each.glob("*.wandb"))]
    return [ForeignRun(each.stem.removeprefix("run-"), "W&B", _size(each), partial(read_wandb, each)) for each in files]


def _mlflow(source: Path, _step: str | None, meant: bool) -> list[ForeignRun]:
    if source.is_file():
        return database_runs(source) if meant or is_database(source) else []
    found = [directory_run(each) for each in run_directories(source)]
    for below in () if found else (source / "mlruns",):
        found = [directory_run(each) for each in run_directories(below)] if below.is_dir() else []
    return found + [run for file in sorted(source.glob("*.db")) if is_database(file) for run in database_runs(file)]


def _transformers(source: Path, _step: str | None, meant: bool) -> list[ForeignRun]:
    """The file itself; of a directory that of the trainer, or of its last checkpoint, which tells of all before."""
    file = source
    if source.is_dir():
        below = sorted(source.glob(f"checkpoint-*/{TRAINER_STATE}"), key=_checkpoint)
        file = next((each for each in (source / TRAINER_STATE, *reversed(below)) if each.is_file()), source)
    if not file.is_file() or not (meant or file.name == TRAINER_STATE):
        return []
    name = file.absolute().parent
    name = name.parent if name.name.startswith("checkpoint-") else name
    return [ForeignRun(name.name, "transformers", _size(file), partial(read_trainer_state, file))]


def _tables(suffixes: tuple[str, ...], tool: str, read: "Reader") -> Finder:
    def is_table(file: Path) -> bool:
        return plain_name(file).suffix.lower() in suffixes

    def find(source: Path, step: str | None, meant: bool) -> list[ForeignRun]:
        if source.is_file():
            files = [source] if meant or is_table(source) else []
        else:
            files = [each for each in sorted(source.iterdir()) if is_table(each) and each.is_file()]
        return [
            ForeignRun(plain_name(each).stem, tool, _size(each), partial(_read_table, read, each, step))
            for each in files
        ]

    return find


Reader = Callable[[Path, str | None, Account], Iterator[Point]]


def _read_table(read: Reader, file: Path, step: str | None, account: Account) -> Iterator[Point]:
    return read(file, step, account)


FINDERS: Mapping[str, Finder] = MappingProxyType(
    {
        "tensorboard": _tensorboard,
        "wandb": _wandb,
        "mlflow": _mlflow,
        "transformers": _transformers,
        "csv": _tables((".csv",), "CSV", read_csv),
        "jsonl": _tables((".jsonl", ".ndjson"), "JSON Lines", read_jsonl),
    }
)
"""Format to what finds its runs below a path; the first that finds one is meant."""
assert tuple(FINDERS) == get_args(Format)


def _folders(source: Path) -> Iterator[Path]:
    """A directory and those below it, in order; links are not followed."""
    waiting = [(source, 0)]
    while waiting:
        folder, depth = waiting.pop()
        yield folder
        below = [each for each in folder.iterdir() if each.is_dir() and not each.is_symlink()] if depth < DEPTH else []
        waiting += [(each, depth + 1) for each in sorted(below, reverse=True)]


def _size(*files: Path) -> int:
    return max(sum(file.stat().st_size for file in files), 1)


def _checkpoint(file: Path) -> tuple[int, str]:
    number = file.parent.name.removeprefix("checkpoint-")
    return (int(number) if number.isdecimal() else -1, number)


def _distinct(found: list[ForeignRun]) -> list[ForeignRun]:
    """The same with a number behind a name that was there before."""
    seen: dict[str, int] = {}
    distinct: list[ForeignRun] = []
    for each in found:
        seen[each.name] = seen.get(each.name, 0) + 1
        name = each.name if seen[each.name] == 1 else f"{each.name}-{seen[each.name]}"
        distinct.append(ForeignRun(name, each.tool, each.size, each.read))
    return distinct


def _listing(source: Path) -> str:
    names = sorted(each.name for each in source.iterdir())
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") if names else "nothing"
