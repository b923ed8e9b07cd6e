"""The command line, run as a user runs it."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

import auscult
from auscult.sound.mappings import MAPPINGS
from auscult.sound.request import Context, Polarity
from auscult.sound.scales import Scale

AUSCULT = Path(sys.executable).parent / "auscult"
CONSOLE_SCRIPT = "import sys; from auscult.__main__ import main; sys.exit(main())"  # as pip writes it


def command(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AUSCULT, *map(str, arguments)], capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A healthy run and one whose loss becomes NaN at step 30."""
    directory = tmp_path_factory.mktemp("runs")
    for name in ("healthy", "sick [red]"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        with auscult.watch(model, optimizer, directory / name) as monitor:
            for step in range(100):
                inputs = torch.randn(16, 4)
                loss = (model(inputs)[:, 0] - inputs[:, 0]).square().mean()
                loss = loss * (torch.nan if "sick" in name and step >= 30 else 1.0)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                monitor.log(loss=loss)
    return directory


def test_help_teaches() -> None:
    done = command("--help")
    assert done.returncode == 0
    for verb in ("demo", "runs", "diagnose", "sonify", "report", "export"):
        assert verb in done.stdout
        assert command(verb, "--help").returncode == 0
    assert command("--version").stdout.strip() == f"auscult {auscult.__version__}"


def test_help_lists_the_choices_of_a_sound_and_they_are_all_there_are() -> None:
    said = command("sonify", "--help", env={**os.environ, "COLUMNS": "200"}).stdout
    for known in (MAPPINGS, MAPPINGS["vitals"], get_args(Scale), get_args(Polarity), get_args(Context)):
        assert "|".join(known) in said, said
    said = command("play", "--help", env={**os.environ, "COLUMNS": "200"}).stdout
    assert "|".join(MAPPINGS["vitals"]) in said and "--path" in said


@pytest.mark.parametrize("verb", ["play", "sonify"])
def test_an_interrupt_while_modules_are_imported_ends_quietly(tmp_path, verb) -> None:
    assert 'auscult = "auscult.__main__:main"' in (Path(__file__).parents[1] / "pyproject.toml").read_text()
    (tmp_path / "rich.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)\n")
    shadowed = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    for way in ([sys.executable, "-m", "auscult"], [sys.executable, "-c", CONSOLE_SCRIPT]):
        done = subprocess.run(
            [*way, verb, "somewhere"],
            env=shadowed,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            preexec_fn=_in_the_foreground,
        )
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def _in_the_foreground() -> None:
    """What a shell starts in the background, as these tests may be, ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(("verb", "extra"), [("demo", "demo"), ("play", "listen"), ("live", "live"), ("mcp", "mcp")])
def test_help_names_the_extra_that_a_verb_needs(verb, extra) -> None:
    assert f"'auscult[{extra}]'" in " ".join(command(verb, "--help").stdout.split())


def test_runs_lists_all_with_their_verdict(runs) -> None:
    done = command("runs", runs, env={"COLUMNS": "300"})
    assert done.returncode == 0 and "healthy" in done.stdout and "sick [red]" in done.stdout
    assert "No problem found" in done.stdout and "Critical: non-finite" in done.stdout
    narrow = command("runs", runs, env={**os.environ, "COLUMNS": "40"})
    names = "".join(line[:14].strip() for line in narrow.stdout.splitlines())
    assert narrow.returncode == 0 and "…" not in names and "healthy" in names
    nothing = command("runs", runs / "healthy" / "norms")
    assert nothing.returncode == 2 and "No runs below" in nothing.stderr


def test_diagnose_prints_findings_and_sets_the_exit_code(runs) -> None:
    sick, healthy = runs / "sick [red]", runs / "healthy"
    done = command("diagnose", sick)
    assert done.returncode == 0 and "L001" in done.stdout and "step 30" in done.stdout
    assert command("diagnose", sick, "--fail-on", "critical").returncode == 1
    assert command("diagnose", healthy, "--fail-on", "info").returncode == 0


def test_diagnose_json_is_strict_json(runs) -> None:
    facts = json.loads(command("diagnose", runs / "sick [red]", "--json").stdout, parse_constant=pytest.fail)
    assert facts["findings"][0]["code"] == "L001" and facts["findings"][0]["step"] == 30


def test_sonify_and_report_write_beside_the_run_or_where_told(runs, tmp_path) -> None:
    done = command("sonify", runs / "healthy")
    assert done.returncode == 0 and (runs / "healthy.wav").exists()
    assert (runs / "healthy.txt").exists() and (runs / "healthy.vtt").read_text().startswith("WEBVTT")
    done = command("sonify", runs / "sick [red]", "-o", tmp_path / "a.wav", "--mapping", "perone2019")
    assert done.returncode == 0 and (tmp_path / "a.wav").exists()
    done = command("report", runs / "sick [red]", "--out", tmp_path / "deep" / "a.html")
    assert done.returncode == 0 and (tmp_path / "deep" / "a.html").exists() and str(tmp_path / "deep") in done.stdout


def test_a_score_lends_its_references_and_a_legend_needs_no_run(runs, tmp_path) -> None:
    assert command("sonify", runs / "healthy", "-o", "a.json", cwd=tmp_path).returncode == 0
    asked = ("--references", "a.json", "--steps", "3:20", "--mode", "arpeggio", "--scale", "pentatonic", "--with", "lr")
    assert command("sonify", runs / "sick [red]", "-o", "b.json", *asked, cwd=tmp_path).returncode == 0
    assert (
        command("sonify", runs / "sick [red]", "-o", "c.json", "--references", "a.json", cwd=tmp_path).returncode == 0
    )
    a, b, c = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "abc")
    assert c["references"] == a["references"] and b["steps"][0] == 3 and b["steps"][-1] <= 20
    done = command("sonify", "--legend", cwd=tmp_path)
    assert done.returncode == 0 and "NaN or infinity" in done.stdout and (tmp_path / "auscult-legend.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("diagnose", "nowhere"), "Expected"),
        (("report", "{healthy}", "-o", "report.pdf"), ".html"),
        (("report", "{healthy}", "-o", "/proc/x.html"), "can be written"),
        (("sonify", "{healthy}", "-o", "a.aac"), ".flac"),
        (("sonify", "{healthy}", "--steps", "5"), "--steps 0:999"),
        (("sonify", "{healthy}", "--mode", "solo"), "conv1.weight"),
        (("sonify", "{healthy}", "--with", "noise"), "clipping"),
        (("sonify", "{healthy}", "--references", "none.json"), "sonify RUN -o score.json"),
        (("sonify", "{healthy}", "--legend"), "a run or `--legend`"),
        (("sonify",), "a run or `--legend`"),
        (("sonify", "{healthy}", "-o", "/proc/x.wav"), "can be written"),
        (("diagnose", "n" * 300), "Expected"),
        (("sonify", "{healthy}", "--mode", "opera"), "mix"),
        (("sonify", "{healthy}", "--metric", "beauty"), "grad_norm"),
        (("diagnose", "{healthy}", "--fail-on", "sometimes"), "critical"),
    ],
)
def test_input_that_cannot_be_used_is_one_message_and_exit_code_2(arguments, message, runs, tmp_path) -> None:
    done = command(*(each.format(healthy=runs / "healthy") for each in arguments), cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_damage_is_refused_unless_skipped(runs, tmp_path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(runs / "healthy", copy)
    tail = next((copy / "norms").glob("tail-*.log"))
    data = bytearray(tail.read_bytes())
    data[len(data) // 2] ^= 1
    tail.write_bytes(data)
    refused = command("diagnose", copy)
    assert refused.returncode == 2 and "--skip-damage" in refused.stderr
    skipped = command("diagnose", copy, "--skip-damage")
    assert skipped.returncode == 0 and "left out" in skipped.stderr


def test_names_that_the_terminal_cannot_show(tmp_path) -> None:
    name = "日本\x1b[2J"
    model = nn.ModuleDict({name: nn.Linear(2, 1)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, tmp_path / "a[red]\\[" / "run"):
        for _ in range(3):
            model[name](torch.full((1, 2), torch.nan)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    run = tmp_path / "a[red]\\[" / "run"
    for verb, target in (("diagnose", run), ("sonify", run), ("runs", tmp_path), ("report", run)):
        done = command(verb, target, env={"PYTHONIOENCODING": "ascii", "COLUMNS": "200"})
        assert done.returncode == 0 and "\x1b[2J" not in done.stdout, (verb, done.stderr)


def test_a_failed_write_leaves_the_old_file(runs, tmp_path) -> None:
    target = tmp_path / "report.html"
    target.mkdir()
    assert command("report", runs / "healthy", "-o", target).returncode == 2
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_export_writes_one_table_beside_the_run_or_where_told(runs, tmp_path) -> None:
    sick = runs / "sick [red]"
    done = command("export", sick)
    assert done.returncode == 0 and done.stdout.split(maxsplit=1) == ["table", f"{sick}.csv\n"] and done.stderr == ""
    with (runs / "sick [red].csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["value"]) for row in rows if row["metric"] == "loss"]
    np.testing.assert_array_equal(losses, auscult.load(sick).series("loss"))
    assert np.isnan(losses[30:]).all() and {row["metric"] for row in rows} >= {"grad_norm", "lr", "activation_std"}

    options = ("--metric", "update_ratio", "--metric", "loss", "--path", "2.*", "--path", "")
    done = command("export", sick, "-o", tmp_path / "deep" / "a.jsonl", *options)
    objects = [
        json.loads(line, parse_constant=pytest.fail)
        for line in (tmp_path / "deep" / "a.jsonl").read_text().splitlines()
    ]
    names = {(each["metric"], each["path"]) for each in objects}
    assert done.returncode == 0 and names == {("loss", ""), ("update_ratio", "2.weight"), ("update_ratio", "2.bias")}
    assert command("export", sick, "--format", "jsonl").returncode == 0 and (runs / "sick [red].jsonl").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "a.xlsx"), ".parquet"),
        (("-o", "a.csv", "--format", "jsonl"), "agree"),
        (("--format", "excel"), "parquet"),
        (("--metric", "los"), "Did you mean 'loss'"),
        (("--path", "conv9.*"), "matches none"),
        (("-o", "/proc/a.csv"), "can be written"),
    ],
)
def test_export_refuses_what_it_cannot_write(options, message, runs, tmp_path) -> None:
    done = command("export", runs / "healthy", *options, cwd=tmp_path, env={"COLUMNS": "300"})
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [] and not list(runs.glob("*.tmp"))


def test_the_clinic_lists_and_runs_its_cases(tmp_path) -> None:
    listed = command("clinic", "list", env={"COLUMNS": "200"})
    assert listed.returncode == 0 and "sgd-0.01" in listed.stdout and "deep-zero" in listed.stdout
    done = command("clinic", "run", "sgd-0.01", "-o", tmp_path)
    assert done.returncode == 0 and "No problem found" in done.stdout, done.stderr
    assert (tmp_path / "sgd-0.01.html").exists() and (tmp_path / "sgd-0.01.wav").exists()
    unknown = command("clinic", "run", "sgd-0.0l", "-o", tmp_path)
    assert unknown.returncode == 2 and "sgd-0.01" in unknown.stderr
    nameless = command("clinic", "run", "deep-zero", "-o", tmp_path)
    assert nameless.returncode == 2 and "--names" in nameless.stderr
    for verb in (("clinic", "run", "sgd-0.01"), ("demo",)):
        seed = command(*verb, "--seed", 2**70, "-o", tmp_path / "none")
        assert seed.returncode == 2 and "Traceback" not in seed.stderr and not (tmp_path / "none").exists()
    no_mnist = command("clinic", "run", "sgd-0.01", "--data", tmp_path, "-o", tmp_path)
    assert no_mnist.returncode == 2 and "train-images-idx3-ubyte" in no_mnist.stderr
