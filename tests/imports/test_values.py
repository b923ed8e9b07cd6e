"""Every number of every log is the tool's own, at its own step."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tests.imports.conftest import SOURCES, latest

import auscult
from auscult.core.catalogue import METRICS
from auscult.imports.importer import Imported, import_runs
from auscult.pages.export import export_run

TOOLS = {
    "tensorboard": "TensorBoard",
    "wandb": "W&B",
    "mlflow.db": "MLflow",
    "mlruns": "MLflow",
    "transformers": "transformers",
}
ODD = [0.1, -0.0, 1e300, 5e-324, -1.7976931348623157e308, float("nan"), float("inf"), float("-inf"), 1 / 3, 2**53 + 1.0]


def same(run: auscult.Run, channel: tuple[str, str], steps: list[int], values: list[float]) -> bool:
    series = run.series(*channel)
    return series.steps.tolist() == steps and np.array_equal(series.values, values, equal_nan=True)


def channels_of(imported: Imported) -> dict[str, tuple[str, str]]:
    """Where each renamed number is: its name in the log to metric and path."""
    renamed = {old: new.partition(" of ") for old, new in imported.provenance.renamed.items()}
    return {old: (metric, path) for old, (metric, _, path) in renamed.items()}


@pytest.mark.parametrize("tool", SOURCES)
def test_steps_and_values_are_those_of_the_tools_own_reader(tool, logs, truth, tmp_path) -> None:
    imported = import_runs(logs / SOURCES[tool], tmp_path / "run")
    expected = dict(truth[tool])
    assert len(imported) == len(expected)
    counted = 0
    for each in imported:
        assert each.provenance.tool == TOOLS[tool]
        names = expected.pop("." if each.name == "tensorboard" else each.name)
        run, channels = auscult.load(each.path), channels_of(each)
        for name, points in names.items():
            channel = channels.get(name, (name, ""))
            steps, values = latest(points, tool == "mlflow.db")
            assert same(run, channel, steps, values), (name, run.series(*channel), steps, values)
            counted += len(steps)
        own = [name for name in ("_runtime", "_timestamp") if tool == "wandb"]
        assert each.values == sum(len(latest(points, False)[0]) for points in names.values()) + sum(
            len(run.series(name)) for name in own
        )
    assert not expected and counted > 40


def test_what_is_known_besides_numbers(logs, tmp_path) -> None:
    info = auscult.load(import_runs(logs / "wandb", tmp_path / "w")[0].path).info
    assert info.name == "bright sun" and info.config["layers"] == {"sizes": [64, 10]} and info.created > 1.7e9
    imported = import_runs(logs / "wandb", tmp_path / "w")[0]
    assert imported.provenance.state == "finished" and imported.provenance.left_out == {"histogram": 1, "text": 60}
    assert imported.path == tmp_path / "w-2", "nothing is overwritten"
    first, _ = import_runs(logs / "mlflow.db", tmp_path / "m")
    assert auscult.load(first.path).info.config == {"lr": "0.1", "layers/n": "3"}
    assert first.provenance.notes == ("1 values came again at their step; the last one is kept.",)
    board = import_runs(logs / "tensorboard", tmp_path / "t", names=["tensorboard"])[0]
    assert board.provenance.left_out == {"histogram": 6, "text": 1} and board.provenance.state == "unknown"
    assert auscult.load(board.path).info.config == {"lr": 0.1, "bsize": 16.0, "name": "sgd"}
    trainer = import_runs(logs / "trainer", tmp_path / "h")[0]
    assert trainer.name == "trainer" and trainer.provenance.state == "finished"


def test_names_that_mean_the_same_are_ours(logs, tmp_path) -> None:
    trainer = import_runs(logs / "trainer", tmp_path / "h")[0]
    assert trainer.provenance.renamed["eval_loss"] == "eval/loss"
    assert trainer.provenance.renamed["learning_rate"] == "lr"
    assert len(auscult.load(trainer.path).series("grad_norm")) == 8, "the Trainer logs what clip_grad_norm_ returned"


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_tables_round_trip_to_the_last_bit(suffix, tmp_path) -> None:
    rows = [
        {"epoch": step // 3, "step": 7 * step, "train_loss": ODD[step % len(ODD)], "x y": step / 7}
        for step in range(200)
    ]
    rows[5].pop("x y")
    file = tmp_path / f"history.{suffix}"
    with file.open("w", newline="") as stream:
        if suffix == "csv":
            writer = csv.DictWriter(stream, ["epoch", "step", "train_loss", "x y"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            stream.writelines(json.dumps(each) + "\n" for each in rows)
    run = auscult.load(import_runs(file, tmp_path / "run")[0].path)
    for name in ("epoch", "train_loss", "x y"):
        known = [(row["step"], float(row[name])) for row in rows if name in row]
        kept = "train/loss" if name == "train_loss" and "train/loss" in run.metrics else name
        assert same(run, (kept, ""), *map(list, zip(*known, strict=True))), run.series(kept)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_auscults_own_export_comes_back_as_it_was(suffix, tmp_path) -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, tmp_path / "run") as monitor:
        for step in range(100):
            loss = model(torch.randn(4, 4)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
            if step % 20 == 0:
                monitor.log_evaluation("val", loss=loss)
    run = auscult.load(tmp_path / "run")
    again = auscult.load(import_runs(export_run(run, tmp_path / f"x.{suffix}"), tmp_path / "again")[0].path)
    assert set(again.streams) == set(run.streams)
    for stream in run.streams:
        for channel in run.source.channels(stream):
            series = run.series(*channel)
            if series.observed:
                assert same(again, channel, series.steps.tolist(), series.values.tolist()), channel
    assert [each.code for each in auscult.diagnose(again)] == [] and "update_ratio" in again.metrics
    assert all(METRICS[each].inputs == () for each in again.metrics[:3] if each in METRICS)


def test_a_wandb_export_of_the_page_and_a_download_of_tensorboard(tmp_path) -> None:
    page = tmp_path / "wandb_export.csv"
    page.write_text(
        '"Step","run a - loss","run a - loss__MIN","run a - loss__MAX"\n"0","0.5","0.5","0.5"\n"9","0.25","",""\n'
    )
    run = auscult.load(import_runs(page, tmp_path / "w")[0].path)
    assert run.series("run a - loss").values.tolist() == [0.5, 0.25] and run.steps.tolist() == [0, 9]
    board = tmp_path / "loss.csv"
    board.write_text("Wall time,Step,Value\n1700000000.5,0,1.5\n1700000001.5,3,0.75\n")
    run = auscult.load(import_runs(board, tmp_path / "t")[0].path)
    assert run.series("loss").values.tolist() == [1.5, 0.75] and run.series("loss").steps.tolist() == [0, 3]


def test_a_column_of_steps_can_be_named(tmp_path) -> None:
    file = tmp_path / "keras.csv"
    file.write_text("epoch,accuracy,loss\n0,0.5,2.0\n1,0.75,1.0\n")
    with pytest.raises(auscult.core.errors.StoreError, match=r"'epoch', 'accuracy', 'loss'. Name it: --step COLUMN"):
        import_runs(file, tmp_path / "run")
    run = auscult.load(import_runs(file, tmp_path / "run", step="epoch")[0].path)
    assert run.series("loss").values.tolist() == [2.0, 1.0]


def test_a_restart_withdraws_what_came_after_it(tmp_path) -> None:
    from tests.imports.events import scalar, start, write_events

    file = tmp_path / "run" / "events.out.tfevents.1.host"
    Path(file.parent).mkdir()
    write_events(file, [scalar("loss", step, 1.0) for step in range(10)] + [start(6), scalar("loss", 6, 0.5)])
    imported = import_runs(file.parent, tmp_path / "out")[0]
    series = auscult.load(imported.path).series("loss")
    assert series.steps.tolist() == [*range(7)] and series.values[-1] == 0.5
    assert "4 values were withdrawn by the log itself" in imported.provenance.notes[0]
