"""S10: a training that was stopped and resumed from a checkpoint sounds as one that never was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import auscult
from auscult.core.run import Run
from auscult.sound.mappings import MAPPINGS

STEPS, SAVED, LOST = 160, 90, 25


def train(path: Path, first: int, stop: int, checkpoint: Path | None = None, save_at: int | None = None) -> None:
    """Train from a checkpoint or from nothing; at a step, save one."""
    torch.manual_seed(0)
    model = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(8, 8), nn.Tanh())), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    with auscult.watch(model, optimizer, path, every=(1, 8), if_exists="resume") as monitor:
        if checkpoint is not None and first:
            state = torch.load(checkpoint)
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            monitor.load_state_dict(state["monitor"])
        for step in range(first, stop):
            if step == save_at and checkpoint is not None:
                states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save({**states, "monitor": monitor.state_dict()}, checkpoint)
            inputs = torch.randn(32, 8, generator=torch.Generator().manual_seed(step))
            loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
            if step == 130:
                loss = loss * 1e4  # an excursion after the resume
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The uninterrupted training, and the one that lost 25 steps behind its checkpoint and made them again."""
    folder = tmp_path_factory.mktemp("runs")
    whole, resumed = folder / "whole" / "run", folder / "resumed" / "run"
    train(whole, 0, STEPS)
    train(resumed, 0, SAVED + LOST, folder / "checkpoint.pt", SAVED)
    train(resumed, SAVED, STEPS, folder / "checkpoint.pt")
    return auscult.load(whole), auscult.load(resumed)


def test_the_resumed_training_is_the_same(runs: tuple[Run, Run]) -> None:
    whole, resumed = runs
    assert [each.step for each in resumed.segments] == [0, SAVED] and len(whole.segments) == 1
    for path in whole.paths("grad_norm"):
        values = [run.series("grad_norm", path).values for run in runs]
        np.testing.assert_array_equal(*values)
        assert len(values[0]) == STEPS


@pytest.mark.parametrize("mode", [mode for mode in MAPPINGS["vitals"] if mode != "solo"])
def test_its_score_is_equal(runs: tuple[Run, Run], mode: str) -> None:
    whole, resumed = (auscult.sonify(run, mode=mode, context=["loss", "lr"]).to_dict() for run in runs)
    assert whole == resumed
    assert any(voice["part"] == "context" for voice in whole["voices"])


def test_what_was_known_before_the_resume_is_heard_as_in_the_whole(runs: tuple[Run, Run]) -> None:
    """A score made while the run went on, and the same steps of the finished one, on the references of the first."""
    whole, resumed = runs
    before = auscult.sonify(resumed.until(SAVED - 1))
    again = auscult.sonify(whole, steps=(0, SAVED - 1), seconds=before.duration, references=before.references)
    assert before.references == auscult.sonify(whole).references
    for early, late in zip(before.voices, again.voices):
        if early.part == "layers":
            np.testing.assert_array_equal(early.frequencies, late.frequencies)
