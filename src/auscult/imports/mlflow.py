"""MLflow: a tracking store as files (`mlruns/`) or as a SQLite database (`mlflow.db`), read without MLflow."""

import re
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from math import inf, nan
from pathlib import Path
from sys import float_info
from urllib.parse import quote

from auscult.core.errors import StoreError
from auscult.core.provenance import NAMED, OWN
from auscult.imports.account import Account, State
from auscult.imports.figures import number_in
from auscult.imports.foreign import ForeignRun, Point

META = "meta.yaml"
STATES: dict[str, State] = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "failed", "RUNNING": "running"}
CODES: dict[str, State] = {"3": "finished", "4": "failed", "5": "failed", "1": "running"}  # in files
TABLES = {"runs", "metrics", "params"}


def is_database(file: Path) -> bool:
    """Whether a file is a SQLite database with MLflow's tables."""
    with file.open("rb") as stream:
        if stream.read(16) != b"SQLite format 3\0":
            return False
    try:
        with closing(_connect(file)) as store:
            return {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} >= TABLES
    except sqlite3.Error:
        return False


def database_runs(file: Path) -> list[ForeignRun]:
    """The runs in a database that were not deleted, oldest first."""
    with _reading(file), closing(_connect(file)) as store:
        columns = {row[1] for row in store.execute("PRAGMA table_info(runs)")}
        name = "name" if "name" in columns else "run_uuid"
        rows = store.execute(
            f"SELECT run_uuid, {name}, (SELECT count(*) FROM metrics WHERE metrics.run_uuid = runs.run_uuid) "
            "FROM runs WHERE lifecycle_stage IS NOT 'deleted' ORDER BY start_time, run_uuid"
        ).fetchall()
    return [
        ForeignRun(name or run, "MLflow", max(count, 1), partial(_read_database, file, run))
        for run, name, count in rows
    ]


def run_directories(directory: Path) -> list[Path]:
    """The runs of a file store, of one of its experiments, or the run itself; deleted ones are left out."""
    below = (directory, *sorted(directory.glob("*")), *sorted(directory.glob("*/*")))
    return [each for each in below if _is_run(each) and ".trash" not in each.parts]


def directory_run(directory: Path) -> ForeignRun:
    """A run of a file store."""
    size = sum(file.stat().st_size for file in _metric_files(directory))
    name = _read_meta(directory / META).get("run_name") or directory.name
    return ForeignRun(name, "MLflow", max(size, 1), partial(_read_directory, directory))


def _is_run(directory: Path) -> bool:
    return (directory / META).is_file() and (directory / "metrics").is_dir()


def _metric_files(directory: Path) -> list[Path]:
    return sorted(each for each in (directory / "metrics").rglob("*") if each.is_file())


def _read_directory(directory: Path, account: Account) -> Iterator[Point]:
    meta = _read_meta(directory / META)
    account.id = meta.get("run_id", directory.name)
    account.state = CODES.get(meta.get("status", ""), STATES.get(meta.get("status", ""), "unknown"))
    account.began((number_in(meta.get("start_time", "")) or 0.0) / 1000)
    _tell_params(((file.relative_to(directory / "params").as_posix(), file.read_text("utf-8", "replace"))
                  for file in sorted((directory / "params").rglob("*")) if file.is_file()), account)  # fmt: skip
    names = _tell_tags(_tags(directory / "tags"), account)
    for file in _metric_files(directory):
        key = file.relative_to(directory / "metrics").as_posix()
        account.on_bytes(file.stat().st_size)
        yield from _read_metric(file, _named(key, names), account)


def _read_metric(file: Path, name: str, account: Account) -> Iterator[Point]:
    """The numbers of a metric, one a line: `time value [step [...]]`, in the order in which they were logged."""
    with file.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            parts = line.split()
            try:
                if len(parts) < 2 or not line.endswith("\n"):
                    raise ValueError("it is cut off")
                yield Point(name, int(parts[2]) if len(parts) > 2 else 0, _unlimited(float(parts[1])))
            except ValueError as error:
                account.report_damage(
                    f"Expected line {number} of {file} to be 'time value step', but got {line.strip()!r} ({error})."
                )


def _read_database(file: Path, run: str, account: Account) -> Iterator[Point]:
    with _reading(file), closing(_connect(file)) as store:
        status, start = store.execute("SELECT status, start_time FROM runs WHERE run_uuid = ?", (run,)).fetchone()
        account.id = run
        account.state = STATES.get(status, "unknown")
        account.began((start or 0) / 1000)
        _tell_params(store.execute("SELECT key, value FROM params WHERE run_uuid = ? ORDER BY key", (run,)), account)
        names = _tell_tags(store.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run,)), account)
        rows = store.execute(
            "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY key, step, timestamp, value",
            (run,),
        )
        for key, step, value, is_nan in rows:
            account.on_bytes(1)
            name = _named(key, names)
            if isinstance(step, int) and isinstance(value, (int, float)):
                yield Point(name, step, nan if is_nan else _unlimited(float(value)))
            else:
                account.report_damage(
                    f"Expected {name!r} of run {run} in {file} to have numbers at steps, but got {value!r} at {step!r}."
                )


def _unlimited(value: float) -> float:
    """The value that was logged: a database of MLflow keeps an infinity as the largest float."""
    return value if abs(value) < float_info.max else inf if value > 0 else -inf if value < 0 else value


def _tell_params(params: Iterable[tuple[str, str]], account: Account) -> None:
    account.config.update(params)
    if "transformers_version" in account.config:
        account.trainer = "transformers"


def _tags(directory: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(directory.rglob("*")) if directory.is_dir() else ():
        if file.is_file():
            yield file.relative_to(directory).as_posix(), file.read_text("utf-8", "replace")


def _tell_tags(tags: Iterable[tuple[str, str]], account: Account) -> dict[str, str]:
    """Tell what tags say. Returns, by the digits that end their keys, names that a sink of auscult had to change."""
    names: dict[str, str] = {}
    for name, value in tags:
        if name == "mlflow.runName" and value:
            account.name = value
        elif name == f"{OWN}.run_id":
            account.own = True
        elif name == "mlflow.source.git.commit":
            account.git_commit = value
        elif name == "mlflow.source.name":
            account.command = (value,)
        elif name.startswith(NAMED):
            names[name.removeprefix(NAMED)] = value
    return names


def _named(key: str, names: Mapping[str, str]) -> str:
    """The name that was logged under a key."""
    _, separator, digits = key.rpartition("-")
    return names.get(digits, key) if separator else key


def _read_meta(file: Path) -> dict[str, str]:
    """The entries of a flat YAML file, as MLflow writes its `meta.yaml`: one `name: value` a line."""
    found: dict[str, str] = {}
    for line in file.read_text("utf-8", "replace").splitlines():
        match = re.match(r"([A-Za-z_]+): ?(.*)$", line)
        if match:
            text = match[2].strip()
            found[match[1]] = text[1:-1].replace("''", "'") if text[:1] == text[-1:] == "'" else text.strip('"')
    return {name: text for name, text in found.items() if text not in ("null", "")}


def _connect(file: Path) -> sqlite3.Connection:
    """Read-only, so that looking at a store never changes it."""
    return sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)


@contextmanager
def _reading(file: Path) -> Generator[None]:
    """What SQLite cannot read in the body is a StoreError that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"Expected {file} to be a database of MLflow that can be read, but got: {error}. Copy it again while "
            "nothing writes to it."
        ) from error
