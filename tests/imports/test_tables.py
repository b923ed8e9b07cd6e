"""Tables as people have them: doubled and disordered steps, other encodings, gzip, texts; nothing lost silently."""

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.imports.conftest import points_of
from tests.imports.events import event, write_events

import auscult
from auscult.core.errors import StoreError
from auscult.core.sink import Channel
from auscult.imports.importer import import_runs
from auscult.imports.names import sent
from auscult.imports.wandb import Axes

TEXT = "step,loss,größe\n0,1.5,1\n1,NaN,2\n2,0.5,3\n"
FORMS = {
    "as it is": TEXT.encode(),
    "Windows": b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode(),
    "an old Mac": TEXT.replace("\n", "\r").encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "gzip": gzip.compress(TEXT.encode()),
    "gzipped UTF-16": gzip.compress(TEXT.replace("\n", "\r\n").encode("utf-16")),
}


def imported(folder: Path, name: str, data: "bytes | str", **options) -> tuple[auscult.Run, tuple[str, ...], dict]:
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    (one,) = import_runs(folder / name, folder / "run", **options)
    return auscult.load(one.path), one.provenance.notes, dict(one.provenance.left_out)


@pytest.mark.parametrize("form", FORMS)
def test_a_table_in_any_usual_encoding(form, tmp_path) -> None:
    run, notes, left_out = imported(tmp_path, f"a.csv{'.gz' * ('gzip' in form)}", FORMS[form])
    assert run.info.name == "a" and run.series("loss").steps.tolist() == [0, 1, 2] and not left_out
    assert [*map(str, run.series("loss").values.tolist())] == ["1.5", "nan", "0.5"]
    assert run.series("größe").values.tolist() == [1, 2, 3] and len(notes) == 1


def test_a_line_that_is_no_text_is_damage_and_no_other_name(tmp_path) -> None:
    with pytest.raises(StoreError, match=r"to be text in UTF-8, but line 1 is not.*iconv"):
        imported(tmp_path, "a.csv", "step,größe,große\n0,1,2\n".encode("latin-1"))
    lines = '{"step": 0, "loss": 1}\n{"step": 1, "größe": 1}\n{"step": 2, "loss": 3}\n'.encode("latin-1")
    with pytest.raises(StoreError, match="line 2 is not"):
        imported(tmp_path, "b.jsonl", lines)
    run, (said, *_), _ = imported(tmp_path, "b.jsonl", lines, skip_damage=True)
    assert run.series("loss").steps.tolist() == [0, 2] and "line 2 is not" in said


@pytest.mark.parametrize("cut", [5, 20, 60, -4])
def test_a_gzipped_table_that_is_cut_off(cut, tmp_path) -> None:
    rows = "step,loss\n" + "".join(f"{step},{step / 7}\n" for step in range(20_000))
    data = gzip.compress(rows.encode())
    with pytest.raises(StoreError, match="Expected"):
        imported(tmp_path, "a.csv.gz", data[:cut])
    if cut == -4:
        run, notes, _ = imported(tmp_path, "a.csv.gz", data[:cut], skip_damage=True)
        assert 10_000 < len(run.steps) < 20_000 and "to be whole, but behind line" in notes[0]
        assert (run.series("loss").values * 7).round(6).tolist() == run.steps.tolist()
    with pytest.raises(StoreError, match="Expected"):
        imported(tmp_path, "b.csv.gz", data[:12] + bytes([data[12] ^ 255]) + data[13:])


def test_steps_that_come_again_or_late_or_not_at_all(tmp_path) -> None:
    steps = [0, 10, 20, 30, 20, 30, 40, 5, 1000]
    text = "step,loss\n" + "".join(f"{step},{place}\n" for place, step in enumerate(steps))
    run, notes, _ = imported(tmp_path, "a.csv", text)
    series = run.series("loss")
    assert series.steps.tolist() == [0, 5, 10, 20, 30, 40, 1000] == run.steps.tolist()
    assert series.values.tolist() == [0, 7, 1, 4, 5, 6, 8]
    assert "2 values came again at their step; the last one is kept." in notes


def test_steps_as_texts_and_floats(tmp_path) -> None:
    text = "step,loss\n0.0,1\n 1 ,2\n2e0,3\n1e6,4\n"
    assert imported(tmp_path, "a.csv", text)[0].steps.tolist() == [0, 1, 2, 1_000_000]
    assert imported(tmp_path, "b.jsonl", '{"step": 3.0, "a": 1}\n{"step": "4", "a": 2}')[0].steps.tolist() == [3, 4]
    for wrong in ("0.5", "-1", "nan", "inf", "1e300", "", "true", "1_0"):
        with pytest.raises(StoreError, match="whole number"):
            imported(tmp_path, "c.csv", f"step,loss\n{wrong},1\n")
    with pytest.raises(StoreError, match="whole number"):
        imported(tmp_path, "d.jsonl", '{"step": 0.5, "loss": 1}\n')
    run, *_ = imported(tmp_path, "e.csv", "epoch,loss\n0,1\n1,2\n", step="epoch")
    assert run.steps.tolist() == [0, 1]


def test_what_is_no_number_is_counted_and_nothing_is_lost_silently(tmp_path) -> None:
    _, _, left_out = imported(tmp_path, "a.csv", ",step,loss,x,loss__MIN\n7,0,1.5,N/A,1\n8,1,oops,,2\n")
    assert left_out == {
        "column without a name": 1, "column of least or largest values": 1, "text in 'x'": 1, "text in 'loss'": 1,
    }  # fmt: skip
    rows = [{"step": 0, "a": 1, "b": None, "c": "0.5", "d": [1], "e": {"f": True, "g": 2}}]
    run, _, left_out = imported(tmp_path, "b.jsonl", json.dumps(rows[0]))
    assert left_out == {"null in 'b'": 1, "text in 'c'": 1, "list in 'd'": 1, "boolean in 'e.f'": 1}
    assert run.series("e.g").values.tolist() == [2]
    long = '{"step": 0, "metric": "loss", "value": 1}\n{"step": 1, "metric": "loss", "value": "broken"}\n'
    assert imported(tmp_path, "c.jsonl", long)[2] == {"text in 'loss'": 1}
    with pytest.raises(StoreError, match="'loss' is there twice"):
        imported(tmp_path, "d.csv", "step,loss,loss\n0,1,2\n")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "9" * 10_000, "\0\0\0", "nul"])
def test_json_that_python_cannot_take_is_damage(text, tmp_path) -> None:
    with pytest.raises(StoreError, match="Expected"):
        imported(tmp_path, "a.jsonl", text)
    with pytest.raises(StoreError, match="Expected"):
        imported(tmp_path, "trainer_state.json", text)


def test_a_download_of_tensorboard_is_named_by_its_tag(tmp_path) -> None:
    run, *_ = imported(tmp_path, "run-lr-0.1-tag-train_loss.csv", "Wall time,Step,Value\n1.5e9,0,2.0\n1.5e9,1,1.0\n")
    assert run.series("train/loss").values.tolist() == [2, 1]


def test_an_event_that_is_none_inside_is_damage(tmp_path) -> None:
    tensor = b"\x08\x01\x22\x02ab"  # a float32 in two bytes
    value = b"\x0a\x01a\x42" + bytes([len(tensor)]) + tensor + b"\x4a\x0b\x0a\x09\x0a\x07scalars"
    summary = b"\x0a" + bytes([len(value)]) + value
    file = tmp_path / "events.out.tfevents.1"
    write_events(file, [event(1) + b"\x2a" + bytes([len(summary)]) + summary])
    with pytest.raises(StoreError, match="to be an Event"):
        list(points_of(file))


def test_an_axis_that_is_not_finite_moves_no_step() -> None:
    axes = Axes()
    axes.define(b"\x0a\x04loss\x22\x04step")
    for value in (4.0, float("inf"), float("nan"), 4.5, -1.0):
        axes.advance({"step": value})
        assert axes.step_of("loss", 9) == 4


def test_a_database_whose_numbers_are_none(logs, tmp_path) -> None:
    (tmp_path / "mlflow.db").write_bytes((logs / "mlflow.db").read_bytes())
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store, store:
        store.execute("UPDATE metrics SET value = 'lost' WHERE key = 'accuracy' AND step = 7")
    with pytest.raises(StoreError, match=r"'accuracy' of run .* but got 'lost' at 7"):
        import_runs(tmp_path / "mlflow.db", tmp_path / "run")
    first, _ = import_runs(tmp_path / "mlflow.db", tmp_path / "run", skip_damage=True)
    assert 7 not in auscult.load(first.path).series("accuracy").steps


def test_keys_of_our_own_sinks_tell_metric_and_path() -> None:
    known = {
        "grad_norm/conv1.weight": ("grad_norm", "conv1.weight"),
        "grad_norm": ("grad_norm", ""),
        "lr/0": ("lr", "0"),
        "update_ratio/a": ("update_ratio", "a"),
        "loss": ("loss", ""),
        "loss/total": ("loss/total", ""),
        "val/accuracy": ("val/accuracy", ""),
        "train/loss": ("train/loss", ""),
    }
    assert {key: sent(key) for key in known} == {key: Channel(*channel) for key, channel in known.items()}


def test_a_table_of_our_metrics_has_one_row_a_step(tmp_path) -> None:
    """A learning rate is of the stream `steps`, in which every step has a row; a column of `finite` may have gaps."""
    run, *_ = imported(tmp_path, "a.csv", 'step,metric,path,value\n0,lr,"0",0.5\n1,loss,,nan\n2,lr,"0",0.25\n')
    assert run.steps.tolist() == [0, 1, 2] and run.series("lr", "0").steps.tolist() == [0, 2]
    assert run.series("finite").values.tolist() == [1, 0, 1]
    run, *_ = imported(tmp_path, "b.csv", "step,metric,path,value\n0,finite,,1\n0,loss,,1\n1,loss,,2\n")
    assert run.series("finite").values.tolist() == [1, 1] and run.series("loss").steps.tolist() == [0, 1]
