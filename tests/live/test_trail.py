"""What a player makes of runs that are resumed, replaced, removed, damaged, sparse, or partly frozen."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

import auscult
from auscult.core.errors import StoreError
from auscult.core.finding import Evidence, Finding
from auscult.core.run import Run
from auscult.live import trail as trails
from auscult.live.conductor import beats
from auscult.live.listening import listen
from auscult.live.processes import is_held
from auscult.live.trail import Look, Place, Trail
from auscult.reading import sonify
from auscult.store.reader import StoreSource, load


def train(
    path: Path,
    steps: int,
    *,
    every: tuple[int, int] = (1, 8),
    frozen: int = 0,
    from_step: int = 0,
    until_step: int = -1,
) -> Path:
    """A small training whose first parameters get no gradient from a step on, until another."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(6)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, path, every=every) as monitor:
        for step in range(steps):
            if step in (from_step, until_step):
                for parameter in list(model.parameters())[:frozen]:
                    parameter.requires_grad_(step == until_step)
            optimizer.zero_grad()
            loss = model(torch.randn(8, 6)).square().mean() * 1.02**step
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    return path


def unfinished(path: Path, copy: Path) -> Path:
    """A copy of a run that goes on."""
    shutil.copytree(path, copy)
    lines = (copy / "events.jsonl").read_text().splitlines(keepends=True)
    (copy / "events.jsonl").write_text("".join(line for line in lines if '"end"' not in line))
    return copy


def look_up_to(trail: Trail, whole: Run, stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at a run as it was before a step."""
    monkeypatch.setattr(trails, "load", lambda *_, **__: replace(whole, stop=stop))
    trail._shape, trail._rested = None, 0.0
    trail.look()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "trained", 40)


@pytest.mark.parametrize("every", [(1, 8), (8, 64)])
def test_the_references_are_those_of_the_file_however_seldom_is_measured(tmp_path, monkeypatch, every) -> None:
    path = train(tmp_path / "run", 600, every=every)
    whole, trail = load(path), Trail(path, 0)
    for stop in range(1, 600, 7):
        look_up_to(trail, whole, stop, monkeypatch)
    assert trail.references == dict(sonify(whole).references)


def test_a_layer_that_is_thawed_after_the_references_have_settled_changes_them_neither_live_nor_in_the_file(
    tmp_path, monkeypatch
) -> None:
    path = train(tmp_path / "run", 300, frozen=1, until_step=120)
    whole, trail = load(path), Trail(path, 0)
    assert len(whole.series("grad_norm", "0.weight")) == 180
    heard: list[dict[str, float]] = []
    for stop in range(1, 300, 7):
        look_up_to(trail, whole, stop, monkeypatch)
        heard.append(dict(trail.references))
    assert heard[-1] == dict(sonify(whole).references)
    assert all(each == heard[-1] for each in heard[8:]), "from 50 steps on they stay"


def test_a_frozen_layer_does_not_make_every_look_read_the_whole_run(tmp_path, monkeypatch) -> None:
    begun: list[int] = []
    original = StoreSource.columns

    def noted(self, stream, positions, stop, start=0) -> Iterator:
        begun.append(start)
        return original(self, stream, positions, stop, start)

    path = train(tmp_path / "run", 400, frozen=4)
    whole, trail = load(path), Trail(path, 0)
    monkeypatch.setattr(StoreSource, "columns", noted)
    for stop in range(10, 400, 10):
        begun.clear()
        look_up_to(trail, whole, stop, monkeypatch)
    assert trail._next > 380 and len(begun) > 3
    assert min(begun) >= 300, "what is new, and a little before it"


def test_a_layer_that_is_not_observed_any_more_is_silent(tmp_path) -> None:
    path = train(tmp_path / "run", 200, frozen=4, from_step=50)
    trail = Trail(path, 0)
    places = {each.name: each for each in trail.look().places}
    assert places["early layers"].missing and not places["late layers"].missing
    score = sonify(load(path))
    assert any(each.kind == "missing" for each in score.events), "as in the file"


def test_a_run_that_stood_still_without_updates_and_was_killed_is_told(trained, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(trails, "PATIENCE", 0.0)
    monkeypatch.setattr(trails, "PATIENCE_STEPS", 0.0)
    held = True
    monkeypatch.setattr(trails, "is_held", lambda *_: held)
    trail = Trail(unfinished(trained, tmp_path / "run"), 0)
    trail.look()
    trail._facts = replace(trail._facts, waiting=50)
    assert "without an update" in trail.look().events[0].text
    held = False
    look = trail.look()
    assert look.state == "crashed" and "its process is gone" in look.events[0].text


def test_another_run_in_the_same_place_is_heard_from_its_beginning(trained, tmp_path) -> None:
    path = unfinished(trained, tmp_path / "run")
    trail = Trail(path, 0)
    assert trail.look().last == 39
    other = unfinished(train(tmp_path / "other", 30), tmp_path / "copy")
    shutil.rmtree(path)
    other.rename(path)
    trail._rested = 0.0
    look = trail.look()
    assert (look.first, look.last) == (0, 29) and "another run has begun" in look.events[0].text


def test_a_run_that_is_removed_is_told_and_nothing_else(trained, tmp_path) -> None:
    path = unfinished(trained, tmp_path / "run")
    trail = Trail(path, 0)
    trail.look()
    shutil.rmtree(path)
    trail._rested = 0.0
    with pytest.raises(StoreError):
        trail.look()
    assert is_held(path, trail._facts.host) is None


def test_findings_of_a_resumed_run_are_told_however_late_the_look(trained, tmp_path) -> None:
    """Two findings were told, the second is made obsolete by a resume, and a new one comes in the same look."""
    path = unfinished(trained, tmp_path / "run")
    trail = Trail(path, 0)
    trail.look()
    run = trail._run
    finding = Finding("T001", "test", "warning", "", 1, "test", (Evidence("loss", "", 1, 2.0),), ("Wait.",))
    found = [{"kind": "finding", "step": step, "finding": finding.to_dict()} for step in (10, 12)]
    trail._told, segment = 2, run.segments[0]
    trail._run = replace(run, segments=(segment, replace(segment, step=11)), events=tuple(found))
    found[1]["step"] = 11
    assert len(trail._resumed()) == 1 and trail._next == 11
    assert [event.step for event in trail._findings()] == [11]


def test_a_run_without_a_step_is_told_without_one(tmp_path, capsys) -> None:
    path = train(tmp_path / "run", 0)
    listen(path, following=True, backend="null", console=Console(width=200))
    assert capsys.readouterr().out.strip() == "the run has ended: closed"


def test_a_damaged_run_is_followed_where_damage_is_skipped(trained, tmp_path) -> None:
    path = tmp_path / "run"
    shutil.copytree(trained, path)
    file = path / "channels.jsonl"
    file.write_bytes(file.read_bytes() + b"{}\n")
    with pytest.raises(StoreError):
        listen(path, following=True, backend="null", console=Console(quiet=True))
    played = listen(path, following=True, skip_damage=True, backend="null", console=Console(quiet=True))
    assert played.seconds > 0


def test_places_that_are_not_known_for_a_while_make_no_click() -> None:
    places = tuple(Place(name, 0.2) for name in ("early layers", "middle layers", "late layers"))

    def look(number: int) -> Look:
        known = () if number in (12, 13) else places[:1] if number >= 20 else places
        state = "finished" if number >= 30 else "training"
        last = number if number <= 30 else number - 1
        return Look(number, last, known, (), 0.0, 0.1, state)

    class Told:
        number = 0

        def look(self) -> Look:
            self.number += 1
            return look(self.number)

    samples = np.concatenate([block for block, _ in beats(Told())]).astype(np.float64)
    bends = np.abs(np.diff(samples, 2, axis=0)).max(1)
    steady = np.sort(bends[44_100:48_000])
    assert bends.max() <= 1.2 * steady[-1]
