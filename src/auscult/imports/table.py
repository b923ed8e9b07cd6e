"""Tables: histories as CSV or JSON Lines, one row a step or one row a number."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from auscult.core.errors import StoreError
from auscult.core.sink import Channel
from auscult.imports.account import Account
from auscult.imports.figures import kind_of, number_in, number_of, step_in
from auscult.imports.foreign import Point
from auscult.imports.lines import plain_name, read_lines

STEPS = ("_step", "step", "global_step", "trainer/global_step", "train/global_step", "steps", "iteration", "iter")
"""Names of the column of steps, the first that is there counts; upper and lower case are one."""
LONG = ({"step", "metric", "path", "value"}, {"step", "metric", "value"}, {"step", "key", "value"})
TAG = {"wall time", "step", "value"}
SUMMARIES = ("__min", "__max")
DOWNLOADED = "-tag-"
"""What comes in front of the tag in the name of TensorBoard's download."""

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
    with closing(read_lines(file, account)) as lines:
        rows = csv.reader(lines, strict=True)
        try:
            head = next(rows, [])
        except csv.Error as error:
            raise StoreError(f"Expected {file} to be CSV, but its first line is not ({error}).") from None
        layout = Layout(file, head, step_column, account)
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                account.report_damage(f"Expected line {rows.line_num} of {file} to be CSV, but it is not ({error}).")
                continue
            if row is None:
                break
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
        account: Is told of the columns that are left out.

    Attributes:
        step: Position of the column of steps.

    Raises:
        StoreError: if there is none, or two columns have one name.
    """

    def __init__(self, file: Path, head: Sequence[str], step_column: str | None, account: Account) -> None:
        lower = [each.strip().lower() for each in head]
        self.step = _step_position(file, head, lower, step_column)
        self._names: list[str] = [each.strip() for each in head]
        self._long = next((names for names in LONG if names == set(lower)), None)
        self._places = {name: place for place, name in enumerate(lower)}
        if twice := [name for name, count in Counter(self._names).items() if name and count > 1]:
            raise StoreError(
                f"Expected {file} to have a name of its own for every column, but {twice[0]!r} is there twice. Rename "
                "one of them in its first line."
            )
        if set(lower) == TAG:
            self._columns = [(self._places["value"], plain_name(file).stem.rpartition(DOWNLOADED)[2])]
        else:
            self._columns: list[tuple[int, str]] = []
            for place, name in enumerate(self._names):
                if not name:
                    account.left_out["column without a name"] += 1
                elif name.lower().endswith(SUMMARIES):
                    account.left_out["column of least or largest values"] += 1
                elif place != self.step:
                    self._columns.append((place, name))

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
    with closing(read_lines(file, account)) as lines:
        for count, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                account.report_damage(f"Expected line {count} of {file} to be JSON, but it is not ({error}).")
                continue
            names = _step_names(row, step_column) if isinstance(row, dict) else []
            step = step_in(row[names[0]]) if names else None
            if step is None:
                wanted = repr(step_column) if step_column else f"one of {', '.join(STEPS)}"
                account.report_damage(
                    f"Expected line {count} of {file} to be an object with {wanted}, a whole number >= 0, but got "
                    f"{line[:80].strip()!r}. `--step NAME` names another key."
                )
                continue
            yield from _row_points(row, names[0], step, account)


def _row_points(row: dict[str, Any], axis: str, step: int, account: Account) -> Iterator[Point]:
    if {"metric", "value"} <= row.keys() <= {"step", "metric", "path", "value"}:
        name, number = str(row["metric"]), number_of(row["value"])
        if number is not None:
            yield Point(Channel(name, str(row["path"])) if "path" in row else name, step, number)
        else:
            account.left_out[f"{kind_of(row['value'])} in {name!r}"] += 1
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
        else:
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
