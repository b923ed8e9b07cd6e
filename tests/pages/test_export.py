"""Tables of a run, read back by Python's own csv and json, and by pyarrow where it is installed."""

import csv
import json
import math
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import auscult.pages.export as export
from auscult.core.catalogue import METRICS
from auscult.core.errors import MissingExtra, SetupError, StoreError, UnknownName
from auscult.core.run import Run
from auscult.core.sink import Channel
from auscult.pages.export import export_run

Row = tuple[int, str, str, float]


def read_csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file, strict=True)
    assert head == ["step", "metric", "path", "value"]
    return [(int(step), metric, name, float(value)) for step, metric, name, value in rows]


def read_jsonl(path: Path) -> list[Row]:
    lines = path.read_bytes().decode("ascii").split("\n")
    assert lines.pop() == ""
    objects = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    return [(each["step"], each["metric"], each["path"], float(each["value"])) for each in objects]


def bits(rows: list[Row]) -> list[tuple[int, str, str, bytes]]:
    return [(step, metric, path, np.float64(value).tobytes()) for step, metric, path, value in rows]


def by_channel(rows: list[Row]) -> dict[Channel, tuple[list[int], list[float]]]:
    table: dict[Channel, tuple[list[int], list[float]]] = {}
    for step, metric, path, value in rows:
        steps, values = table.setdefault(Channel(metric, path), ([], []))
        steps.append(step)
        values.append(value)
    return table


def assert_as_series(run: Run, rows: list[Row]) -> None:
    for channel, (steps, values) in by_channel(rows).items():
        series = run.series(*channel)
        np.testing.assert_array_equal(series.steps, steps, strict=True)
        np.testing.assert_array_equal(series.values, values, strict=True)


@pytest.mark.parametrize(("suffix", "read"), [(".csv", read_csv), (".jsonl", read_jsonl)])
def test_every_recorded_value_is_there_to_the_last_bit(poisoned: Run, tmp_path: Path, suffix: str, read: Any) -> None:
    written = export_run(poisoned, tmp_path / "deep" / f"run{suffix.upper()}")
    assert written == tmp_path / "deep" / f"run{suffix.upper()}"
    rows = read(written)
    assert_as_series(poisoned, rows)
    recorded = {each for stream in poisoned.streams for each in poisoned.source.channels(stream)}
    assert set(by_channel(rows)) == recorded
    assert sum(math.isnan(value) for *_, value in rows) > 100


def test_rows_are_in_the_order_of_streams_steps_and_channels(healthy: Run, tmp_path: Path) -> None:
    place = {
        channel: (number, position)
        for number, stream in enumerate(healthy.streams)
        for position, channel in enumerate(healthy.source.channels(stream))
    }
    rows = read_csv(export_run(healthy, tmp_path / "run.csv"))
    order = [(*place[Channel(metric, path)], step) for step, metric, path, _ in rows]
    assert order == sorted(order, key=lambda each: (each[0], each[2], each[1]))


def test_numbers_that_are_not_finite_have_one_spelling(maker: type, tmp_path: Path) -> None:
    built = maker(steps=6)
    built.add("user", "loss", "", [math.nan, math.inf, -math.inf, 0.1, -0.0, 5e-324])
    run = built.make()
    values = ["nan", "inf", "-inf", "0.1", "-0.0", "5e-324"]
    text = "".join(f'{step},"loss","",{value}\n' for step, value in enumerate(values))
    assert export_run(run, tmp_path / "a.csv").read_text() == "step,metric,path,value\n" + text
    lines = export_run(run, tmp_path / "a.jsonl").read_text().splitlines()
    assert lines[2:4] == [
        '{"step": 2, "metric": "loss", "path": "", "value": "-inf"}',
        '{"step": 3, "metric": "loss", "path": "", "value": 0.1}',
    ]
    assert bits(read_jsonl(tmp_path / "a.jsonl")) == bits(read_csv(tmp_path / "a.csv"))


def test_names_of_any_kind_are_one_field_each(hostile: Run, hostile_paths: tuple[str, ...], tmp_path: Path) -> None:
    names = [name for name in hostile_paths if "\0" not in name]  # before 3.11 Python's csv reads no NUL
    patterns = ["".join(f"[{each}]" if each in "*?[" else each for each in name) for name in names]
    rows = read_csv(export_run(hostile, tmp_path / "a.csv", ["grad_norm"], patterns))
    assert list(by_channel(rows)) == [Channel("grad_norm", name) for name in names]
    assert_as_series(hostile, rows)
    rows = read_jsonl(export_run(hostile, tmp_path / "a.jsonl", ["grad_norm"]))
    assert list(by_channel(rows)) == [Channel("grad_norm", name) for name in hostile_paths]


def test_fields_are_quoted_as_rfc_4180_has_it(maker: type, tmp_path: Path) -> None:
    built = maker(steps=1)
    for name in ('a"b', '"', "a,b", "a\r\nb", "0"):
        built.add("user", "loss", name, [1.0])
    text = export_run(built.make(), tmp_path / "a.csv").read_bytes().decode()
    fields = ['"a""b"', '""""', '"a,b"', '"a\r\nb"', '"0"']
    assert text == "step,metric,path,value\n" + "".join(f'0,"loss",{field},1.0\n' for field in fields)


DERIVED = [each.name for each in METRICS.values() if each.inputs]


@pytest.mark.parametrize("metric", DERIVED)
def test_derived_metrics_are_written_when_named_and_equal_the_series(metric: str, maker: type, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    built = maker(steps=700)
    norms = ("grad_norm", "param_norm", "update_norm", "intended_update_norm")
    for name in (*norms, "grad_std", "param_std", "update_std"):
        for path, steps in (("a.weight", np.arange(700)), ("a.bias", np.arange(100, 700, 3))):
            values = random.lognormal(size=len(steps))
            values[random.integers(0, len(steps), 20)] = random.choice([0.0, np.nan, np.inf], 20)
            built.add(METRICS[name].stream, name, path, values, steps)
    clipped = np.sort(random.choice(700, 500, replace=False))
    built.add("steps", "clip_coefficient", "", random.random(500), clipped)
    run = built.make()
    rows = read_csv(export_run(run, tmp_path / "a.csv", [metric]))
    assert set(by_channel(rows)) == {Channel(metric, "a.weight"), Channel(metric, "a.bias")}
    with np.errstate(all="ignore"):
        assert_as_series(run, rows)
    beside = read_csv(export_run(run, tmp_path / "b.csv", [metric, METRICS[metric].inputs[0]]))
    assert bits([row for row in beside if row[1] == metric]) == bits(rows)
    assert not {row[1] for row in read_csv(export_run(run, tmp_path / "c.csv"))} & set(DERIVED)


def test_a_derived_metric_without_the_coefficient_has_no_rows(maker: type, tmp_path: Path) -> None:
    built = maker(steps=3)
    for metric in ("grad_norm", "update_norm"):
        built.add("norms", metric, "a", [1.0, 2.0, 3.0])
    built.add("norms", "param_norm", "b", [1.0, 2.0, 3.0])
    run = built.make()
    assert read_csv(export_run(run, tmp_path / "a.csv", ["effective_lr", "update_ratio"])) == []


def test_metrics_and_paths_select(healthy: Run, tmp_path: Path) -> None:
    rows = read_csv(export_run(healthy, tmp_path / "a.csv", ["lr", "grad_norm", "grad_norm"], ["layers.1.*", "0"]))
    assert list(by_channel(rows)) == [
        Channel("lr", "0"), Channel("grad_norm", "layers.1.weight"), Channel("grad_norm", "layers.1.bias"),
    ]  # fmt: skip
    assert len(rows) == 3 * 201
    rows = read_csv(export_run(healthy.until(3), tmp_path / "a.csv", paths=["layers.?.bias"]))
    assert {path for _, _, path, _ in rows} == {f"layers.{n}.bias" for n in range(4)}
    assert {step for step, *_ in rows} == {0, 1, 2, 3}


def test_what_selects_nothing_is_refused(healthy: Run, tmp_path: Path) -> None:
    target = tmp_path / "folder" / "a.csv"
    with pytest.raises(UnknownName, match="Did you mean 'grad_norm'"):
        export_run(healthy, target, ["gradnorm"])
    with pytest.raises(SetupError, match=r"activation_grad_std.*run\.metrics"):
        export_run(healthy, target, ["activation_grad_std"])
    with pytest.raises(SetupError, match=r"'layers\.9\.\*', which matches none of 8"):
        export_run(healthy, target, ["grad_norm"], ["layers.1.*", "layers.9.*"])
    with pytest.raises(SetupError, match=r"\.csv, \.jsonl or \.parquet, but got .*a\.xlsx"):
        export_run(healthy, target.with_suffix(".xlsx"))
    assert not target.parent.exists()


def test_a_run_without_rows_is_a_table_without_rows(run_of: Callable[..., Run], tmp_path: Path) -> None:
    empty = run_of(steps=0)
    assert read_csv(export_run(empty, tmp_path / "a.csv")) == []
    assert export_run(empty, tmp_path / "a.jsonl").read_bytes() == b""


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_chunks_leave_no_trace(exploding: Run, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = ["effective_lr", "grad_norm", "train/loss", "dead_fraction"]
    whole = export_run(exploding, tmp_path / f"a{suffix}", metrics).read_bytes()
    monkeypatch.setattr(export, "CHUNK_VALUES", 100)
    assert export_run(exploding, tmp_path / f"b{suffix}", metrics).read_bytes() == whole


def test_progress_ends_at_the_number_of_values(healthy: Run, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    rows = read_csv(
        export_run(healthy, tmp_path / "a.csv", ["lr", "grad_norm"], on_progress=lambda *at: calls.append(at))
    )
    assert calls[-1] == (len(rows), len(rows)) and [done for done, _ in calls] == sorted(done for done, _ in calls)


@dataclass(frozen=True)
class LongSource:
    """So many steps of 16 channels, made when read; damaged from a step on."""

    length: int
    damaged: int = 1 << 60

    def streams(self) -> tuple[str, ...]:
        return ("norms",)

    def channels(self, stream: str) -> tuple[Channel, ...]:
        return tuple(Channel("grad_norm", f"p{n}") for n in range(16))

    def columns(self, stream: str, positions: list[int], stop: int) -> Iterator[Any]:
        for start in range(0, min(self.length, stop), 256):
            if start >= self.damaged:
                raise StoreError("Expected a tile to fit its checksum, but it does not.")
            yield np.arange(start, start + 256), np.full((len(positions), 256), start, np.float32)


def test_memory_does_not_grow_with_the_run(healthy: Run, tmp_path: Path) -> None:
    peaks: list[int] = []
    for length in (2_048, 16_384):
        run = replace(healthy, source=LongSource(length))
        tracemalloc.start()
        export_run(run, tmp_path / "a.csv")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] < 20_000_000


def test_a_failure_leaves_what_was_there_before(healthy: Run, tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    target.write_text("before")
    with pytest.raises(StoreError, match="checksum"):
        export_run(replace(healthy, source=LongSource(4_096, damaged=1_024)), target)
    assert target.read_text() == "before" and list(tmp_path.iterdir()) == [target]
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SetupError, match=r"can be written.*folder\.csv"):
        export_run(healthy, tmp_path / "folder.csv")
    with pytest.raises(SetupError, match="can be written"):
        export_run(healthy, target / "below.csv")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.csv", "folder.csv"]


def test_parquet_holds_the_same_table_or_says_what_to_install(
    poisoned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.parquet"
    if find_spec("pyarrow") is None:
        with pytest.raises(MissingExtra, match=r"Expected pyarrow.*pip install 'auscult\[parquet\]'"):
            export_run(poisoned, target)
        assert list(tmp_path.iterdir()) == []
        return
    from pyarrow import parquet

    monkeypatch.setattr(export, "GROUP_ROWS", 2_000)
    rows = bits(read_csv(export_run(poisoned, tmp_path / "a.csv")))
    file = parquet.ParquetFile(export_run(poisoned, target))
    assert file.num_row_groups > 1
    assert [str(field.type) for field in file.schema_arrow] == [
        "int64", *["dictionary<values=string, indices=int32, ordered=0>"] * 2, "double",
    ]  # fmt: skip
    columns = file.read().to_pydict()
    assert bits(list(zip(*columns.values()))) == rows
    empty = parquet.read_table(export_run(poisoned.until(-1), tmp_path / "empty.parquet"))
    assert empty.num_rows == 0 and empty.column_names == ["step", "metric", "path", "value"]
