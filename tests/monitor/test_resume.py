"""A run that is continued: the same axis, nothing overwritten, the same findings."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import auscult
from auscult.core.errors import SetupError


def train(path, steps: int, first: int = 0, **options) -> auscult.Monitor:
    torch.manual_seed(first)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, path, every=(1, 4), **options) as monitor:
        if first and "step" not in options:
            monitor.load_state_dict({"step": first, "path": ""})
        for number in range(steps):
            model(torch.randn(5, 4)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(marker=first * 1000 + number)
    assert monitor.failures == []
    return monitor


def test_a_new_run_never_writes_into_an_old_one(tmp_path) -> None:
    assert [train(tmp_path / "run", 3).path.name for _ in range(3)] == ["run", "run-2", "run-3"]
    with pytest.raises(SetupError, match="if_exists"):
        train(tmp_path / "run", 3, if_exists="error")


def test_a_user_is_told_once_where_his_run_goes(tmp_path) -> None:
    """On standard error, without any configuration, where the path he gave is taken; otherwise nothing is said."""
    code = (
        "import sys, torch, auscult\n"
        "for _ in range(2):\n"
        "    model = torch.nn.Linear(2, 1)\n"
        "    auscult.watch(model, torch.optim.SGD(model.parameters()), sys.argv[1])\n"
    )
    path = tmp_path / "going"
    said = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stderr
    assert said == (
        f"{path} is not empty: this run is written to {path}-2. Continue what is there with if_exists='resume'.\n"
    )


def test_a_run_that_is_being_written_is_not_resumed(tmp_path) -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = auscult.watch(model, optimizer, tmp_path / "run")
    with pytest.raises(SetupError, match=r"monitor\.close\(\)"):
        auscult.watch(model, optimizer, tmp_path / "run", if_exists="resume")
    for _ in range(3):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    first.close()
    with auscult.watch(model, optimizer, tmp_path / "run", if_exists="resume") as again:
        assert again.step == 3 and first.failures == again.failures == []


def test_resume_continues_after_the_last_step(tmp_path) -> None:
    train(tmp_path / "run", 70)
    train(tmp_path / "run", 70, if_exists="resume", step=None)
    run = auscult.load(tmp_path / "run")
    np.testing.assert_array_equal(run.steps, np.arange(140))
    assert [segment.step for segment in run.segments] == [0, 70]
    assert len(run.series("grad_norm")) == 140 and run.finished


def test_resume_from_an_earlier_checkpoint_supersedes_and_keeps(tmp_path) -> None:
    train(tmp_path / "run", 300)
    size = sum(each.stat().st_size for each in (tmp_path / "run").rglob("*") if each.is_file())
    train(tmp_path / "run", 50, first=100, if_exists="resume")
    run = auscult.load(tmp_path / "run")
    np.testing.assert_array_equal(run.steps, np.arange(150))
    markers = run.series("marker").values
    assert markers[99] == 99 and markers[100] == 100_000
    assert sum(each.stat().st_size for each in (tmp_path / "run").rglob("*") if each.is_file()) > size


def test_state_comes_before_the_first_update(tmp_path) -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, tmp_path / "run") as monitor:
        assert monitor.state_dict()["step"] == 0
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        with pytest.raises(SetupError, match="before the first update"):
            monitor.load_state_dict({"step": 9})


def test_resume_of_nothing_begins(tmp_path) -> None:
    assert train(tmp_path / "run", 5, if_exists="resume").path == tmp_path / "run"


def test_a_run_that_begins_at_a_step(tmp_path) -> None:
    train(tmp_path / "run", 5, first=1000, step=1000)
    run = auscult.load(tmp_path / "run")
    np.testing.assert_array_equal(run.steps, np.arange(1000, 1005))
    assert isinstance(auscult.diagnose(run), list)
