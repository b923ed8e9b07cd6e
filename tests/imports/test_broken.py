"""Broken and truncated logs: an error that says so, or with `skip_damage` what is intact, and never a wrong number."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.imports.conftest import SOURCES, points_of

import auscult
from auscult.core.errors import AuscultError, SetupError, StoreError
from auscult.imports.importer import import_runs


def files_of(source: Path) -> list[Path]:
    return [source] if source.is_file() else sorted(each for each in source.rglob("*") if each.is_file())


def keys(points, with_steps: bool = True) -> set:
    """Points as they compare, NaN included."""
    return {(each.name, each.step * with_steps, np.float64(each.value).tobytes()) for each in points}


@pytest.mark.parametrize("tool", ["tensorboard", "wandb"])
def test_a_flipped_bit_anywhere_is_never_a_wrong_number(tool, logs, tmp_path) -> None:
    source = max(files_of(logs / SOURCES[tool]), key=lambda file: file.stat().st_size)
    whole, unplaced = keys(points_of(source)), keys(points_of(source), False)
    copy = tmp_path / source.name
    data = source.read_bytes()
    random = np.random.default_rng(0)
    places = [*range(0, 40, 2), *random.integers(0, len(data), 40).tolist()]
    refused = lost = 0
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << int(random.integers(8))
        copy.write_bytes(changed)
        try:
            assert keys(points_of(copy)) == whole, "unnoticed, but of no consequence"
        except StoreError as error:
            refused += 1
            assert str(error).startswith("Expected")
        try:
            kept = list(points_of(copy, skip_damage=True))
        except StoreError:  # the file's own header
            continue
        # Where W&B's definition of an axis is lost, its numbers are at the `_step` of their row, and a note says so.
        assert keys(kept) <= whole or (tool == "wandb" and keys(kept, False) <= unplaced), place
        lost += keys(kept) < whole
    assert refused >= len(places) - 2 and lost > 20


@pytest.mark.parametrize("tool", ["tensorboard", "wandb"])
def test_a_log_that_ends_anywhere_gives_what_was_whole(tool, logs, tmp_path) -> None:
    source = max(files_of(logs / SOURCES[tool]), key=lambda file: file.stat().st_size)
    whole = list(points_of(source))
    copy = tmp_path / source.name
    data = source.read_bytes()
    sizes = set()
    for size in range(len(data) // 2, len(data) // 2 + 4000, 97):
        copy.write_bytes(data[:size])
        kept = list(points_of(copy, skip_damage=True))
        assert keys(kept) <= keys(whole) and len(kept) > len(whole) // 4
        assert [*map(str, kept)] == [*map(str, whole[: len(kept)])], "in order, up to a point"
        sizes.add(len(kept))
    assert len(sizes) > 3
    with pytest.raises(StoreError, match=r"--skip-damage"):
        copy.write_bytes(data[:-3])
        list(points_of(copy))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("trainer_state.json", '{"log_history": [{"loss": 1.0,', "Was it cut off"),
        ("trainer_state.json", '{"epoch": 1.0}', "log_history"),
        ("trainer_state.json", '{"log_history": [{"loss": 1.0}]}', "to have a step"),
        ("trainer_state.json", '{"log_history": [7]}', "to have a step"),
        ("trainer_state.json", '{"log_history": []}', "nothing to import"),
        ("a.csv", "step,loss\n0,1.0\n1\n", "line 3"),
        ("a.csv", "step,loss\n0,1.0\nx,1.0\n", "'step'"),
        ("a.csv", "step,loss\n-1,1.0\n", "'step'"),
        ("a.csv", 'step,loss\n0,"1.0\n', "is not"),
        ("a.csv", "", "column of steps"),
        ("a.csv", "step,note\n0,hello\n", "1 × text in 'note'"),
        ("a.jsonl", '{"step": 0, "loss": 1.0}\n{"step": 1, "lo', "line 2"),
        ("a.jsonl", '{"loss": 1.0}\n', "`--step NAME`"),
        ("a.jsonl", "[1, 2]\n", "to be an object"),
        ("a.wandb", ":W&B", "to begin with"),
        ("a.wandb", "", "to begin with"),
        ("a.txt", "hello", "is recognised"),
        ("mlflow.db", "SQLite format 3\0 and no more", "is recognised"),
        ("events.out.tfevents.1.host", "", "numbers over steps"),
        ("events.out.tfevents.1.host", "nothing of the kind", "damaged length"),
    ],
)
def test_what_cannot_be_read_is_one_message(name, text, message, tmp_path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StoreError, match=r"^Expected") as refused:
        import_runs(tmp_path / name, tmp_path / "out")
    assert message in str(refused.value)
    assert not (tmp_path / "out").exists(), "nothing is left behind"


def test_damaged_rows_are_skipped_where_asked_and_told(tmp_path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("step,loss\n0,1.0\nx,2.0\n2,0.5\n")
    imported = import_runs(file, tmp_path / "out", skip_damage=True)[0]
    assert auscult.load(imported.path).series("loss").values.tolist() == [1.0, 0.5]
    assert "line 3" in imported.provenance.notes[0]


def test_mlflow_metrics_that_are_cut_off(logs, tmp_path) -> None:
    shutil.copytree(logs / "mlruns", tmp_path / "mlruns")
    file = next((tmp_path / "mlruns").rglob("accuracy"))
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(StoreError, match=r"line 60 of .*accuracy to be 'time value step'"):
        import_runs(tmp_path / "mlruns", tmp_path / "out")
    imported = import_runs(tmp_path / "mlruns", tmp_path / "out", skip_damage=True)
    assert {len(auscult.load(each.path).steps) for each in imported} == {60, 1}


def test_a_database_that_is_damaged_inside(logs, tmp_path) -> None:
    data = bytearray((logs / "mlflow.db").read_bytes())
    with closing(sqlite3.connect(logs / "mlflow.db")) as store:
        (page,) = store.execute("SELECT rootpage FROM sqlite_master WHERE name = 'metrics'").fetchone()
        (size,) = store.execute("PRAGMA page_size").fetchone()
    data[(page - 1) * size : page * size] = bytes(size)
    (tmp_path / "mlflow.db").write_bytes(data)
    with pytest.raises(StoreError, match="database of MLflow that can be read"):
        import_runs(tmp_path / "mlflow.db", tmp_path / "out")


def test_what_is_not_there_or_not_known(logs, tmp_path) -> None:
    with pytest.raises(StoreError, match=r"there is none\. Is the path right"):
        import_runs(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match=r"known \(tensorboard, wandb, mlflow, transformers, csv, jsonl\).* nothing"):
        import_runs(tmp_path / "empty")
    with pytest.raises(SetupError, match="one of tensorboard"):
        import_runs(logs / "wandb", log_format="comet")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"called 'third', but it holds \"first 'run'\", 'second'"):
        import_runs(logs / "mlflow.db", names=["third"])
    with pytest.raises(AuscultError, match="a run of auscult itself, which needs no import"):
        run = import_runs(logs / "trainer", tmp_path / "run")[0].path
        import_runs(run)
