"""Tables: histories as CSV or JSON Lines, one row a step or one row a number."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from auscult.core.errors import StoreError
from auscult.core.sink import Channel
from auscult.imports.account import Account
from auscult.imports.figures import kind_of, number_in, number_of, step_in
from auscult.imports.foreign import Point

STEPS = ("_step", "step", "global_step", "trainer/global_step", "train/global_step", "steps", "iteration", "iter")
"""Names of the column of steps, the first that is there counts; upper and lower case are one."""
LONG = ({"step", "metric", "path", "value"}, {"step", "metric", "value"}, {"step", "key", "value"})
TAG = {"wall time", "step", "value"}
SUMMARIES = ("__min", "__max")
PIECE_LINES = 512

csv.field_size_limit(1 << 24)


def read_csv(file: Path, step_column: str | None, account: Account) -> Iterator[Point]:
    """The numbers of a CSV file.

    Understood are a row per step (W&B, Lightning, Keras with a column of steps), a row per number with its name in
    `metric` (auscult's own export, MLflow's) and TensorBoard's download of one tag, which is named like the file.

    Args:
        file: The file.
        step_column: The column of steps; None looks for a usual name.
        account: Is told everything else.

    Raises:
        StoreError: if there is no column of steps, or a row is damaged and the account does not skip damage.
    """
    read = 0
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        rows = csv.reader(stream, strict=True)
        try:
            head = next(rows, [])
        except csv.Error as error:
            raise StoreError(f"Expected {file} to be CSV, but its first line is not ({error}).") from None
        layout = Layout(file, head, step_column)
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                account.report_damage(f"Expected line {rows.line_num} of {file} to be CSV, but it is not ({error}).")
                continue
            if row is None:
                break
            if rows.line_num - read >= PIECE_LINES:
                account.on_bytes((rows.line_num - read) * 64)
                read = rows.line_num
            if not row:
                continue
            step = step_in(row[layout.step]) if len(row) == len(head) else None
            if step is None:
                account.report_damage(
                    f"Expected line {rows.line_num} of {file} to have {len(head)} cells and a whole number in "
                    f"{head[layout.step]!r}, but got {','.join(row)[:80]!r}."
                )
                continue
            yield from layout.points(row, step, account)


class Layout:
    """Which columns of a table hold steps, names and numbers.

    Args:
        file: The table.
        head: Names of the columns.
        step_column: The one of steps, if it was named.

    Attributes:
        step: Position of the column of steps.

    Raises:
        StoreError: if there is none.
    """

    def __init__(self, file: Path, head: Sequence[str], step_column: str | None) -> None:
        lower = [each.strip().lower() for each in head]
        self.step = _step_position(file, head, lower, step_column)
        self._names: list[str] = [each.strip() for each in head]
        self._long = next((names for names in LONG if names == set(lower)), None)
        self._places = {name: place for place, name in enumerate(lower)}
        if set(lower) == TAG:
            self._columns = [(self._places["value"], file.stem)]
        else:
            self._columns = [
                (place, name)
                for place, name in enumerate(self._names)
                if place != self.step and name and not name.lower().endswith(SUMMARIES)
            ]

    def points(self, row: Sequence[str], step: int, account: Account) -> Iterator[Point]:
        """The numbers of a row; an empty cell is none."""
        columns: list[tuple[int, str | Channel]] = list(self._columns)
        if self._long is not None:
            metric = row[self._places["metric" if "metric" in self._places else "key"]]
            path = row[self._places["path"]] if "path" in self._places else ""
            columns = [(self._places["value"], Channel(metric, path) if "path" in self._places else metric)]
        for place, name in columns:
            number = number_in(row[place])
            if number is not None:
                yield Point(name, step, number)
            elif row[place].strip():
                account.left_out[f"text in {name!r}"] += 1


def read_jsonl(file: Path, step_column: str | None, account: Account) -> Iterator[Point]:
    """The numbers of a file with a JSON object a line; nested ones have dotted names.

    Args:
        file: The file.
        step_column: The key of steps; None looks for a usual name.
        account: Is told everything else.

    Raises:
        StoreError: if a line is damaged or has no step, and the account does not skip damage.
    """
    with file.open("rb") as stream:
        for count, line in enumerate(stream, 1):
            account.on_bytes(len(line))
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                account.report_damage(f"Expected line {count} of {file} to be JSON, but it is not ({error}).")
                continue
            names = _step_names(row, step_column) if isinstance(row, dict) else []
            step = step_in(row[names[0]]) if names else None
            if step is None:
                wanted = repr(step_column) if step_column else f"one of {', '.join(STEPS)}"
                account.report_damage(
                    f"Expected line {count} of {file} to be an object with {wanted} >= 0, but got "
                    f"{line[:80].decode('utf-8', 'replace').strip()!r}. `--step NAME` names another key."
                )
                continue
            yield from _row_points(row, names[0], step, account)


def _row_points(row: dict[str, Any], axis: str, step: int, account: Account) -> Iterator[Point]:
    if {"metric", "value"} <= row.keys() <= {"step", "metric", "path", "value"}:
        name, number = str(row["metric"]), number_of(row["value"])
        if number is not None:
            yield Point(Channel(name, str(row["path"])) if "path" in row else name, step, number)
        return
    for name, number in _flat("", row, account):
        if name != axis:
            yield Point(name, step, number)


def _flat(prefix: str, row: dict[str, Any], account: Account) -> Iterator[tuple[str, float]]:
    for key, value in row.items():
        if isinstance(value, dict) and "_type" not in value:
            yield from _flat(f"{prefix}{key}.", value, account)
            continue
        number = number_of(value)
        if number is not None:
            yield prefix + key, number
        elif value is not None:
            account.left_out[f"{kind_of(value)} in {prefix + key!r}"] += 1


def _step_names(row: dict[str, Any], step_column: str | None) -> list[str]:
    if step_column is not None:
        return [step_column] if step_column in row else []
    lower = {name.lower(): name for name in row}
    return [lower[name] for name in STEPS if name in lower]


def _step_position(file: Path, head: Sequence[str], lower: Sequence[str], step_column: str | None) -> int:
    if step_column is not None and step_column in head:
        return list(head).index(step_column)
    found = [lower.index(name) for name in STEPS if name in lower] if step_column is None else []
    if not found:
        wanted = repr(step_column) if step_column else f"one of {', '.join(STEPS)}"
        listed = ", ".join(repr(each) for each in head[:12]) or "nothing"
        raise StoreError(
            f"Expected {file} to have a column of steps, {wanted}, but got {listed}. Name it: --step COLUMN "
            "(`import_runs(..., step=COLUMN)`)."
        )
    return found[0]
