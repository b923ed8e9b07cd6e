"""Wrong use gets the error form before training; after the first update nothing ends it."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import auscult
from auscult.core.errors import SetupError, StoreError
from auscult.store.damage import StoreWarning


def plain(steps: int, path=None, during=None, **options) -> list[torch.Tensor]:
    """Train and return the parameters; the same with and without a monitor."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, path, **options) if path is not None else None
    for step in range(steps):
        loss = model(torch.randn(5, 4)).square().mean()
        loss.backward()
        if during is not None:
            during(step, monitor)
        optimizer.step()
        optimizer.zero_grad()
        if monitor is not None:
            monitor.log(loss=loss)
    if monitor is not None:
        monitor.close()
    return [each.detach().clone() for each in model.parameters()]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_a_model_without_trainable_parameters(tmp_path) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.requires_grad_(False)
    with pytest.raises(SetupError, match=r"Expected `model` to have at least one parameter that requires grad"):
        auscult.watch(model, optimizer, tmp_path / "run")
    with pytest.raises(SetupError, match="at least one parameter"):
        auscult.watch(nn.ReLU(), optimizer, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 3}, "power of two"),
        ({"budget": 5}, "between 0 and 1"),
        ({"stop_on": "always"}, "info, warning, critical"),
        ({"if_exists": "overwrite"}, "if_exists"),
        ({"include": ["nothing.*"]}, "include/exclude"),
        ({"step": -5}, "0 or more"),
        ({"step": 2.5}, "0 or more"),
        ({"loss_fn": 3}, "nn.CrossEntropyLoss"),
    ],
)
def test_options_that_cannot_work(options, message, tmp_path) -> None:
    with pytest.raises(SetupError, match=message):
        plain(1, tmp_path / "run", **options)


def test_no_optimizer(tmp_path) -> None:
    with pytest.raises(SetupError, match="at least one optimizer"):
        auscult.watch(nn.Linear(2, 2), [], tmp_path / "run")


@pytest.mark.parametrize("steps", [0, 1])
def test_zero_steps_and_one_step(steps, tmp_path) -> None:
    plain(steps, tmp_path / "run")
    run = auscult.load(tmp_path / "run")
    assert len(run.steps) == steps and auscult.diagnose(run) == []
    page = auscult.report(run, tmp_path / "report.html").read_text()
    assert "<html" in page and ("nothing was recorded" in page.lower()) == (steps == 0)
    assert np.isfinite(auscult.render(auscult.sonify(run)).samples).all()


NAMES = ['it\'s "quoted"', "<script>alert(1)</script>", "naïve/ünïcødé ☃", "x" * 300, "a.b", "", "per%20cent\n"]


def test_names_of_every_kind(tmp_path) -> None:
    model = nn.ModuleDict({f"m{number}": nn.Linear(2, 2) for number in range(2)})
    for name in ("<script>alert(1)</script>", 'quo"te', "ü" * 300):
        model.add_module(name, nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = dict(zip(NAMES, NAMES))
    with auscult.watch(model, optimizer, tmp_path / "run <b>'\"ü", config=config, every=(1, 1)) as monitor:
        for _ in range(2):
            sum(layer(torch.ones(1, 2)).sum() for layer in model.values()).backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(dict.fromkeys(NAMES, 1.0))
            monitor.log_categories([1.0] * len(NAMES), NAMES)
    assert monitor.failures == []
    run = auscult.load(monitor.path)
    for name in NAMES:
        assert run.series(name).values.tolist() == [1.0, 1.0]
        assert run.series("category_loss", name).values.tolist() == [1.0, 1.0]
    assert run.series("grad_norm", "ü" * 300 + ".weight").observed
    page = auscult.report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page


@pytest.mark.provokes_failure
@pytest.mark.filterwarnings("ignore:auscult could not go on")
def test_a_directory_that_disappears(tmp_path) -> None:
    def remove(step: int, monitor: auscult.Monitor | None) -> None:
        if step == 300 and monitor is not None:
            shutil.rmtree(monitor.path)

    watched = plain(900, tmp_path / "run", remove)
    assert same(watched, plain(900))


@pytest.mark.provokes_failure
@pytest.mark.filterwarnings("ignore:auscult could not go on")
@pytest.mark.parametrize("part", ["write_rows", "write_block", "write_event", "write_finding", "close"])
def test_a_store_that_fails_everywhere(part, tmp_path, monkeypatch) -> None:
    from auscult.store.writer import StoreWriter

    monitors = []

    def broken(*_args: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    def breaks(step: int, monitor: auscult.Monitor | None) -> None:
        monitors.append(monitor)
        if step == 10 and monitor is not None:
            assert monitor.saved_step in (8, 9)  # asking writes the rows that wait
            monkeypatch.setattr(StoreWriter, part, broken)

    watched = plain(100, tmp_path / "run", breaks)
    monkeypatch.undo()
    assert same(watched, plain(100))
    if part == "write_rows":
        assert monitors[0].saved_step == 9
        run = auscult.load(tmp_path / "run")
        assert run.steps.tolist() == list(range(10))
        assert any(event["kind"] == "failure" and "No space left" in event["message"] for event in run.events)


@pytest.mark.provokes_failure
@pytest.mark.filterwarnings("ignore:auscult could not go on")
@pytest.mark.parametrize(
    "target",
    [
        "auscult.metrics.ledger.Ledger.gradients",
        "auscult.metrics.ledger.Ledger.before",
        "auscult.metrics.ledger.Ledger.after",
        "auscult.metrics.ledger.Ledger.collect",
        "auscult.metrics.activations.Activations._measure",
        "auscult.metrics.activations.Activations.take",
        "auscult.metrics.activations.Taken.write",
        "auscult.metrics.losses.LossTap.begin",
        "auscult.metrics.sighting.Sighting.anatomy",
        "auscult.metrics.batch.moments",
        "auscult.metrics.carried.CarriedGradients.told",
        "auscult.metrics.schedule.Schedule.spent",
        "auscult.monitor.gauges.Gauges.measured",
        "auscult.monitor.gauges.Gauges.rows",
        "auscult.rules.live.LiveDiagnosis.extend",
        "auscult.rules.live.LiveDiagnosis.finish",
    ],
)
def test_a_failure_of_ours_anywhere_changes_nothing(target, tmp_path, monkeypatch) -> None:
    def broken(*_args: object, **_named: object) -> None:
        raise RuntimeError("ours")

    with monkeypatch.context() as patch:
        patch.setattr(target, broken)
        watched = plain(70, tmp_path / "run", every=(1, 4))
    assert same(watched, plain(70))
    run = auscult.load(tmp_path / "run")
    assert {event["message"] for event in run.events if event["kind"] == "failure"} == {"RuntimeError: ours"}
    if "Ledger" in target or "Activations" in target or "Tap" in target or "Sighting" in target or "Carried" in target:
        assert run.series("loss").observed


@pytest.mark.provokes_failure
@pytest.mark.filterwarnings("ignore:auscult could not go on")
def test_sinks_and_callbacks_that_fail(tmp_path) -> None:
    class Broken:
        def write(self, record: object) -> None:
            raise ConnectionError("tracker is down")

        write_finding = close = write

    def callback(finding: object) -> None:
        raise KeyError("mine")

    def poison(step: int, monitor: auscult.Monitor | None) -> None:
        if step == 5 and monitor is not None:
            monitor.log(odd=math.nan)

    watched = plain(20, tmp_path / "run", poison, sinks=[Broken()], on_finding=callback)
    assert same(watched, plain(20))
    assert len(auscult.load(tmp_path / "run").steps) == 20


def test_off_is_off(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("AUSCULT", "off")

    def clip(step: int, monitor) -> None:
        if monitor is not None:
            monitor.clip_grad_norm_(1.0)
            monitor.log_evaluation("val", loss=1.0)

    plain(3, tmp_path / "run", clip)
    assert not (tmp_path / "run").exists()


def test_unreadable_stores_say_what_was_expected(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    for name in ("empty", "foreign", "missing"):
        with pytest.raises(StoreError, match="Expected"):
            auscult.load(tmp_path / name)
    with pytest.raises(AuscultLike):
        plain(1, tmp_path / "foreign", if_exists="resume")
    assert (tmp_path / "foreign" / "notes.txt").read_text() == "mine"


AuscultLike = (SetupError, StoreError)


def test_a_forked_worker_neither_writes_nor_closes(tmp_path) -> None:
    code = f"""
import os, torch, auscult
from torch import nn
model = nn.Linear(2, 1); optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = auscult.watch(model, optimizer, {str(tmp_path / "run")!r})
data = torch.utils.data.DataLoader(torch.ones(40, 2), batch_size=4, num_workers=2)
for _ in range(3):
    for batch in data:
        model(batch).sum().backward(); optimizer.step(); optimizer.zero_grad()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    run = auscult.load(tmp_path / "run")
    assert run.steps.tolist() == list(range(30)) and run.finished
    assert [event["kind"] for event in run.events].count("end") == 1


def test_a_plain_call_closes_itself_at_exit_and_when_dropped(tmp_path) -> None:
    plain_call = f"""
import torch, auscult
from torch import nn
def train(path):
    model = nn.Linear(2, 1); optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    auscult.watch(model, optimizer, path)
    for _ in range(3):
        model(torch.ones(1, 2)).sum().backward(); optimizer.step(); optimizer.zero_grad()
    return model, optimizer
train({str(tmp_path / "dropped")!r}); import gc; gc.collect()
kept = train({str(tmp_path / "kept")!r})
"""
    subprocess.run([sys.executable, "-c", plain_call], check=True)
    for name in ("dropped", "kept"):
        run = auscult.load(tmp_path / name)
        assert run.steps.tolist() == [0, 1, 2] and run.finished, name


def test_a_full_disk(tmp_path) -> None:
    code = f"""
import resource, signal, sys, warnings
import torch, auscult
from torch import nn
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
torch.manual_seed(0)
model = nn.Linear(40, 40); optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
monitor = auscult.watch(model, optimizer, {str(tmp_path / "run")!r}, every=(1, 1))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(800):
        model(torch.randn(5, 40)).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
    saved = monitor.saved_step
    monitor.close()
assert sum("store" in str(each.message) for each in caught) == 1, [str(each.message) for each in caught]
print(saved)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    saved = int(done.stdout)
    assert 10 < saved < 799
    with pytest.warns(StoreWarning, match="could not be written"):
        run = auscult.load(tmp_path / "run")
    assert run.steps[: saved + 1].tolist() == list(range(saved + 1))
    assert len(run.series("grad_norm").values) > saved
    assert Path(auscult.report(run, tmp_path / "page.html")).exists()
