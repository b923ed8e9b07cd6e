"""W&B: the file that the client of Weights & Biases keeps of a run, offline or online: `run-<id>.wandb`.

Knows the records in it, nothing of the bytes around them. Field numbers are those of `wandb_internal.proto`.
"""

import json
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from auscult.core.errors import StoreError
from auscult.core.provenance import OWN
from auscult.imports.account import Account
from auscult.imports.figures import kind_of, number_of, step_in
from auscult.imports.foreign import Point
from auscult.imports.leveldb import read_log
from auscult.imports.wire import BYTES, WireError, fields, message_of, signed_of, text_of

IDENT, HEADER = b":W&B\xe1\xbe\x00", 7
HISTORY, CONFIG, METRIC, RUN, EXIT = 2, 5, 12, 17, 18
UPDATE_AXES = re.compile(r"(^|[/._])(global_)?step$")
"""Names of step metrics that count updates; another axis, as `epoch`, is no step of ours."""


def is_wandb(file: Path) -> bool:
    """Whether a file begins as one of W&B's does."""
    with file.open("rb") as stream:
        return stream.read(4) == IDENT[:4]


def read_wandb(file: Path, account: Account) -> Iterator[Point]:
    """The history of a run.

    A number belongs to the step metric that `define_metric` gave its name, where that counts updates (`step`,
    `global_step`), as W&B would draw it; otherwise to W&B's own `_step`.

    Args:
        file: The file.
        account: Is told everything else.

    Raises:
        StoreError: if it is none of W&B's, or damaged and the account does not skip damage.
    """
    with file.open("rb") as stream:
        header = stream.read(HEADER)
    if header != IDENT:
        raise StoreError(
            f"Expected {file} to begin with {IDENT!r}, but got {header!r}. A later W&B may have written it; export the "
            "run's history as CSV or JSON Lines and import that."
        )
    axes = Axes()
    config: dict[str, Any] = {}
    for record in read_log(file, HEADER, account):
        try:
            yield from _read_record(record, axes, config, account)
        except (ValueError, RecursionError) as error:
            account.report_damage(f"Expected every record of {file} to be one of W&B's, but one is not ({error}).")
    if account.damage:
        account.damage.append(
            "Definitions of axes (define_metric) may be among what was lost; numbers whose axis is not known are at "
            "W&B's own `_step`."
        )
    _tell_config(config, account)


class Axes:
    """Which name is drawn over which step metric, as `define_metric` says, and where each of these stands."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._patterns: dict[str, str] = {}
        self._indices: dict[int, str] = {}
        self._steps: dict[str, int] = {}
        self._count = 0

    def define(self, metric: bytes) -> None:
        """Take a `MetricRecord`; a step metric may be given by name, or by the number of its own definition."""
        found = {number: value for number, _, value in fields(metric)}
        name, pattern = (text_of(found[n]) if n in found else "" for n in (1, 2))
        self._count += 1
        if name:
            self._indices[self._count] = name
        axis = text_of(found[4]) if 4 in found else self._indices.get(signed_of(found.get(5, 0)), "")
        if axis and UPDATE_AXES.search(axis):
            if name:
                self._names[name] = axis
            elif pattern:
                self._patterns[pattern] = axis

    def advance(self, row: dict[str, float]) -> None:
        """Take what a row says of the step metrics; one that it does not name stays where it was."""
        for axis in {*self._names.values(), *self._patterns.values()}:
            if (step := step_in(row.get(axis))) is not None:
                self._steps[axis] = step

    def step_of(self, name: str, otherwise: int) -> int:
        """The step of a number of this name in the row that was taken last."""
        axis = self._names.get(name)
        if axis is None and not name.startswith("_"):
            axis = next((axis for pattern, axis in self._patterns.items() if fnmatchcase(name, pattern)), None)
        return self._steps.get(axis or name, otherwise)


def _read_record(record: bytes, axes: Axes, config: dict[str, Any], account: Account) -> Iterator[Point]:
    for number, kind, value in fields(record):
        if kind != BYTES:
            continue
        if number == HISTORY:
            yield from _read_history(message_of(value), axes, account)
        elif number == METRIC:
            axes.define(message_of(value))
        elif number == CONFIG:
            _read_items(message_of(value), config)
            account.own |= OWN in config
        elif number == RUN:
            _read_run(message_of(value), config, account)
            account.own |= OWN in config
        elif number == EXIT:
            code = next((signed_of(v) for n, _, v in fields(message_of(value)) if n == 1), 0)
            account.state = "finished" if code == 0 else "failed"


def _read_history(message: bytes, axes: Axes, account: Account) -> Iterator[Point]:
    step = 0
    logged: dict[str, Any] = {}
    for number, _, value in fields(message):
        if number == 1:
            _put(logged, *_item(message_of(value)))
        elif number == 2:
            step = next((signed_of(v) for n, _, v in fields(message_of(value)) if n == 1), 0)
    row: dict[str, float] = {}
    for name, value in logged.items():
        _flatten(name, value, row, account)
    if (known := step_in(row.pop("_step", step))) is None:
        raise WireError("its step is no whole number")
    account.began(row.get("_timestamp", 0.0))
    axes.advance(row)
    for name, number in row.items():
        yield Point(name, axes.step_of(name, known), number)


def _flatten(name: str, value: Any, row: dict[str, float], account: Account) -> None:
    """Numbers of nested values under dotted names, as W&B names them; what is none is counted by its type."""
    if isinstance(value, dict) and "_type" not in value:
        for key, part in value.items():
            _flatten(f"{name}.{key}", part, row, account)
        return
    number = number_of(value)
    if number is not None:
        row[name] = number
    else:
        account.left_out[str(value["_type"]) if isinstance(value, dict) else kind_of(value)] += 1


def _put(logged: dict[str, Any], keys: list[str], value: Any) -> None:
    """Put a value where its keys lead, into a mapping in a mapping where there are several."""
    for key in keys[:-1]:
        inner = logged.setdefault(key, {})
        logged = inner if isinstance(inner, dict) else {}
    logged[keys[-1]] = value


def _item(message: bytes) -> tuple[list[str], Any]:
    """The name of an item, in parts if it is nested, and its value."""
    keys = list[str]()
    text = "null"
    for number, _, value in fields(message):
        if number in (1, 2) and value:
            keys.append(text_of(value))
        elif number == 16:
            text = text_of(value)
    return keys or [""], json.loads(text)


def _read_items(message: bytes, into: dict[str, Any]) -> None:
    """Take the updates of a `ConfigRecord`."""
    for number, _, value in fields(message):
        if number == 1:
            _put(into, *_item(message_of(value)))


def _read_run(message: bytes, config: dict[str, Any], account: Account) -> None:
    texts: dict[int, Callable[[str], None]] = {
        1: lambda text: setattr(account, "id", text),
        8: lambda text: setattr(account, "name", text or account.name),
        13: lambda text: setattr(account, "host", text),
    }
    for number, kind, value in fields(message):
        if number in texts and kind == BYTES:
            texts[number](text_of(value))
        elif number == 4 and kind == BYTES:
            _read_items(message_of(value), config)
        elif number == 17 and kind == BYTES:
            account.began(float(next((signed_of(v) for n, _, v in fields(message_of(value)) if n == 1), 0)))


def _tell_config(config: dict[str, Any], account: Account) -> None:
    """Keep what the user configured; W&B's own notes give the versions."""
    own = config.pop("_wandb", {})
    account.config.update(config)
    if "transformers_version" in config:
        account.trainer = "transformers"
    for name in ("cli_version", "python_version"):
        if isinstance(own, dict) and name in own:
            account.versions[{"cli_version": "wandb", "python_version": "python"}[name]] = str(own[name])
