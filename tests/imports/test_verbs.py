"""Imported runs go through every verb, where torch cannot be imported, as far as the data carry."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.imports.conftest import SOURCES
from tests.test_no_torch import BLOCK_TORCH

import auscult
from auscult.core.errors import StoreError
from auscult.imports.importer import import_runs
from auscult.pages.diagnosis import diagnosis
from auscult.pages.verdict import not_observed, verdict
from auscult.store.damage import StoreWarning

CALL = f"""{BLOCK_TORCH}
import json
from auscult.cli import main
for arguments in json.load(sys.stdin):
    sys.argv = ["auscult", *arguments]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    print(f"-- {{code}}", flush=True)
    print("-- ", flush=True, file=sys.stderr)
"""


def commands(*several: list[object], cwd: Path | None = None) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of commands, one after the other in a process without torch."""
    done = subprocess.run(
        [sys.executable, "-c", CALL], input=json.dumps([[str(each) for each in some] for some in several]),
        capture_output=True, text=True, check=True, cwd=cwd, env={**os.environ, "COLUMNS": "400"},
    )  # fmt: skip
    *said, _ = re.split(r"-- (\d)\n", done.stdout)
    errors = done.stderr.split("-- \n")[:-1]
    return [(int(code), text, error) for text, code, error in zip(said[::2], said[1::2], errors, strict=True)]


def csv_run(folder: Path, columns: dict[str, np.ndarray]) -> auscult.Run:
    """A run imported from a CSV file with these columns."""
    folder.mkdir(exist_ok=True)
    rows = zip(*(each.tolist() for each in columns.values()), strict=True)
    lines = [",".join(columns), *(",".join(map(repr, row)) for row in rows)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    return auscult.load(import_runs(folder / "log.csv", folder / "run")[0].path)


@pytest.mark.parametrize("tool", SOURCES)
def test_report_verdict_and_sound_of_a_foreign_log(tool, logs, tmp_path) -> None:
    for each in import_runs(logs / SOURCES[tool], tmp_path / "runs"):
        run = auscult.load(each.path)
        sentence = verdict(run, auscult.diagnose(run))
        assert each.provenance.tool in sentence and "not observed: " in sentence and "updates" in sentence
        page = auscult.report(run, tmp_path / "page.html").read_text()
        assert sentence.replace("&", "&amp;") in page
        assert "its log has no" in page.lower() and f"logged by {each.provenance.tool.replace('&', '&amp;')}" in page
        assert auscult.sonify(run).duration > 0


def test_the_command_line_without_torch(logs, tmp_path) -> None:
    run = tmp_path / "trainer"
    verbs = [[verb, run] for verb in ("diagnose", "report", "sonify", "export")]
    told = commands(["import", logs / "trainer", "-o", run], *verbs)
    assert [code for code, _, _ in told] == [0] * 5, told
    assert "logged by transformers" in told[0][1] and "eval_loss -> eval/loss" in told[0][1]
    assert "not observed" in told[1][1]
    assert (tmp_path / "trainer.html").stat().st_size > 10_000 < (tmp_path / "trainer.wav").stat().st_size


def test_the_command_line_on_several_runs_and_on_none(logs, tmp_path) -> None:
    wrong = [["import", each] for each in ("nowhere", tmp_path, logs / "truth.json")]
    wrong.append(["import", logs / "wandb", "--format", "csv"])
    store = ["import", logs / "mlflow.db", "-o", tmp_path / "store"]
    second = ["import", logs / "mlflow.db", "--run", "second", "--format", "mlflow"]
    first, other, *refused = commands(store, second, *wrong, cwd=tmp_path)
    assert first[0] == 0 and {each.name for each in (tmp_path / "store").iterdir()} == {"first -run-", "second"}
    assert other[0] == 0 and (tmp_path / "runs" / "second" / "run.json").exists()
    for code, _, error in refused:
        assert code == 2 and "error: Expected" in error and "Traceback" not in error


@pytest.fixture(scope="module")
def mixed(logs, tmp_path_factory) -> Path:
    """Logs of three tools in one directory, as a training leaves them that several callbacks watched."""
    folder = tmp_path_factory.mktemp("mixed") / "mixed"
    shutil.copytree(logs / "tensorboard", folder / "events")
    shutil.copytree(logs / "wandb", folder / "wandb")
    (folder / "metrics.csv").write_text("step,loss\n0,2.0\n1,1.0\n")
    return folder


def test_a_directory_of_several_tools_says_what_is_taken_and_how_to_take_the_rest(mixed, tmp_path) -> None:
    (code, out, error), *rest = commands(
        ["import", mixed, "-o", tmp_path / "first"],
        ["import", mixed, "-o", tmp_path / "wandb", "--format", "wandb"],
        ["import", mixed, "-o", tmp_path / "csv", "--format", "csv"],
        ["import", mixed, "--run", "metrics"],
        cwd=tmp_path,
    )
    assert code == 0 and out.count("logged by TensorBoard") == 3
    assert error.splitlines() == [
        f"note: {mixed} holds logs of several tools. Taken: 3 runs of TensorBoard. "
        "Not taken: 1 run of W&B, 1 run of CSV; take these with --format wandb or --format csv (`log_format='wandb'`)."
    ]
    assert [(code, error) for code, _, error in rest[:2]] == [(0, ""), (0, "")]
    code, _, error = rest[2]
    assert code == 2 and "1 run of CSV of that name: take it with --format csv" in " ".join(error.split())


def test_a_file_store_beside_a_database_is_read_too(logs, tmp_path) -> None:
    both = tmp_path / "both"
    both.mkdir()
    shutil.copytree(logs / "mlruns", both / "mlruns")
    shutil.copy(logs / "mlflow.db", both)
    alone = [import_runs(logs / each, tmp_path / each) for each in ("mlruns", "mlflow.db")]
    assert len(import_runs(both, tmp_path / "all")) == sum(map(len, alone)) > max(map(len, alone))


def test_no_name_that_was_asked_for_and_no_empty_run_is_left_out_in_silence(logs, tmp_path) -> None:
    with pytest.raises(StoreError, match="called 'third', but it holds"):
        import_runs(logs / "mlflow.db", tmp_path / "runs", names=["second", "third"])
    assert not (tmp_path / "runs").exists()
    for name, text in (("full", "step,loss\n0,2.0\n1,1.0\n"), ("empty", "step,note\n0,begun\n")):
        (tmp_path / f"{name}.csv").write_text(text)
    with pytest.warns(StoreWarning, match=r"left out: 'empty' has none \(but 1 × "):
        assert [each.name for each in import_runs(tmp_path, tmp_path / "tables")] == ["full"]


def test_a_loss_that_is_not_finite_is_found(tmp_path) -> None:
    steps = np.arange(0, 3000, 10)
    loss = np.where(steps >= 2000, np.nan, np.exp(-steps / 1000))
    findings = auscult.diagnose(csv_run(tmp_path, {"step": steps, "train/loss": loss}))
    assert [(each.code, each.step, each.severity) for each in findings] == [("L001", 2000, "critical")]
    (found,) = findings
    assert "parameters and gradients were not observed" in found.summary
    assert found.phase is None and found.ruled_out == (), "nothing is ruled out by what was not observed"


def test_a_loss_that_diverges_is_found_and_one_that_falls_is_not(tmp_path) -> None:
    steps = np.arange(1000)
    noise = 1 + 0.05 * np.random.default_rng(0).standard_normal(1000)
    falling = 2 * np.exp(-steps / 300) * noise
    rising = np.where(steps < 500, falling, falling[499] * np.exp((steps - 500) / 60))
    assert auscult.diagnose(csv_run(tmp_path / "falling", {"step": steps, "loss": falling})) == []
    codes = {each.code for each in auscult.diagnose(csv_run(tmp_path / "rising", {"step": steps, "loss": rising}))}
    assert codes and all(each.startswith("L") for each in codes), codes


@pytest.mark.parametrize("every", [1, 10, 50, 500])
def test_a_healthy_loss_at_any_cadence_is_no_finding(every, tmp_path) -> None:
    steps = np.arange(0, 400 * every, every)
    noise = np.random.default_rng(every).standard_normal((2, 400))
    loss = (0.3 + 2 * np.exp(-np.arange(400) / 80)) * (1 + 0.1 * noise[0])
    val = (0.4 + 2 * np.exp(-np.arange(400) / 80)) * (1 + 0.02 * noise[1])
    columns = {"step": steps, "train_loss": loss, "val_loss": val, "learning_rate": np.full(400, 3e-4)}
    findings = auscult.diagnose(csv_run(tmp_path, columns))
    assert [each for each in findings if each.severity != "info"] == []


def test_what_was_not_observed_is_said_and_what_was_is_not(logs, tmp_path) -> None:
    run = csv_run(tmp_path, {"step": np.arange(70), "loss": np.linspace(2, 1, 70), "lr": np.full(70, 0.1)})
    assert not_observed(run) == ["gradients", "parameters", "updates", "activations", "the loss call"]
    trainer = auscult.load(import_runs(logs / "trainer", tmp_path / "trainer")[0].path)
    assert "gradients" not in not_observed(trainer) and "the gradients of single layers" in not_observed(trainer)
    assert "in what CSV logged: the run has no end in its log (70 steps" in verdict(run, [])
    assert diagnosis(run, [])["state"] == "unknown" and diagnosis(trainer, [])["state"] == "finished"


def test_the_total_gradient_norm_is_heard(logs, tmp_path) -> None:
    trainer = auscult.load(import_runs(logs / "trainer", tmp_path / "trainer")[0].path)
    score = auscult.sonify(trainer)
    assert [each.name for each in score.voices if each.amplitudes.max() > 0] == ["whole model"]


def test_progress_reaches_the_end(logs, tmp_path) -> None:
    told: list[tuple[str, int, int]] = []
    import_runs(logs / "tensorboard", tmp_path / "run", on_progress=lambda *each: told.append(each))
    assert {name for name, done, total in told if done == total} == {"tensorboard", "run_14h_xsinx", "run_14h_xcosx"}
    assert all(0 < done <= total for _, done, total in told)


def test_the_source_is_only_read(logs, tmp_path) -> None:
    before = {file: file.read_bytes() for file in sorted(logs.rglob("*")) if file.is_file()}
    for tool, source in SOURCES.items():
        import_runs(logs / source, tmp_path / tool)
    assert {file: file.read_bytes() for file in sorted(logs.rglob("*")) if file.is_file()} == before


def test_the_import_is_part_of_the_run(logs, tmp_path) -> None:
    imported = import_runs(logs / "wandb", tmp_path / "run")[0]
    assert auscult.load(imported.path).provenance == imported.provenance
    assert json.loads(json.dumps(imported.provenance.to_dict()))["tool"] == "W&B"
