"""A run that goes on as one sound without a gap: while it trains, stands still, dies, is resumed and ends."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from auscult.core.errors import SetupError
from auscult.core.run import Run
from auscult.live import trail as trails
from auscult.live.conductor import beats
from auscult.live.listening import listen
from auscult.live.trail import Look, Trail
from auscult.reading import sonify
from auscult.store.reader import is_run, load

pytestmark = pytest.mark.live

RATE = 44_100
TRAINING = """
import sys, time, torch
from torch import nn
import auscult
torch.set_num_threads(1)
path, first, stop, broken, pause = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
with auscult.watch(model, optimizer, path, every=(1, 8), if_exists="resume") as monitor:
    if first:
        monitor.load_state_dict({"step": first, "path": path})
    for step in range(first, stop):
        loss = model(torch.randn(4, 3)).square().mean() * (torch.nan if step == broken else 1.0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        monitor.log(loss=loss)
        time.sleep(pause)
"""


@contextmanager
def training(path: Path, first: int, stop: int, broken: int = -1, pause: float = 0.05) -> Iterator[subprocess.Popen]:
    """A process that trains; returns when the run can be read."""
    command = [sys.executable, "-c", TRAINING, str(path), str(first), str(stop), str(broken), str(pause)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not is_run(path):
            assert process.poll() is None
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


def heard(trail: Trail, until: Callable[[Look], bool] = lambda _: False, seconds: float = 60.0) -> tuple:
    """Sound and looks of a run in real time, until it ends or a look is the one."""
    blocks, looks, end = [], [], time.monotonic() + seconds
    for block, look in beats(trail, RATE):
        blocks.append(block)
        looks.append(look)
        assert time.monotonic() < end
        if until(look):
            break
        time.sleep(0.1)
    return np.concatenate(blocks), looks


def steps_of(looks: list[Look]) -> list[int]:
    return [step for look in looks for step in range(look.first, look.last + 1)]


def told(looks: list[Look], kind: str) -> list[tuple[int, str]]:
    return [(each.step, each.text) for look in looks for each in look.events if each.kind == kind]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, list[Look]]:
    """A training of 100 steps that breaks at step 70, as it was heard."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with training(path, 0, 100, broken=70) as process:
        samples, looks = heard(Trail(path, 0))
        assert process.wait(60) == 0
    return path, samples, looks


def test_every_step_is_heard_once_until_the_run_ends(followed) -> None:
    _, _, looks = followed
    assert steps_of(looks) == list(range(100))
    assert sum(look.last >= look.first for look in looks) > 5, "as they come, not at once"
    assert looks[-1].state == "finished" and told(looks, "legend") == [(99, "the run has ended: closed")]


def test_the_alarm_sounds_in_the_beat_in_which_the_step_is_seen(followed) -> None:
    _, samples, looks = followed
    ((step, text),) = told(looks, "nan")
    assert step == 70 and "is not finite" in text
    beat = next(number for number, look in enumerate(looks) if any(each.kind == "nan" for each in look.events))
    assert looks[beat].first <= 70 <= looks[beat].last
    frames = len(samples) // len(looks)
    at = np.arange(round(0.15 * RATE))
    pulse = sum(np.sin(2 * np.pi * 440 * k * at / RATE) / np.sqrt(k) for k in range(1, 7))
    first = samples[beat * frames : beat * frames + len(at)].sum(1)
    match = first @ pulse / np.linalg.norm(first) / np.linalg.norm(pulse)
    assert match > 0.9
    assert not samples[-100:].any(), "it ends in silence"


def test_it_has_no_gap_and_no_click(followed) -> None:
    _, samples, looks = followed
    frames = len(samples) // len(looks)
    first = next(number for number, look in enumerate(looks) if look.last >= look.first) + 1
    broken = next(number for number, look in enumerate(looks) if any(each.broken for each in look.places))
    steady = samples[first * frames : broken * frames].astype(np.float64)
    levels = np.sqrt((steady[: len(steady) // 1000 * 1000].reshape(-1, 1000, 2) ** 2).mean((1, 2)))
    assert levels.min() > 0.2 * levels.max()
    bends = np.abs(np.diff(steady, 2, axis=0)).max(1)
    borders = np.arange(frames, len(steady) - 2, frames)
    around = np.concatenate([borders - 2, borders - 1, borders])
    assert bends[around].max() <= 1.05 * np.delete(bends, around).max()


def test_a_step_sounds_as_it_does_in_the_file(followed) -> None:
    """Its references are those of the finished run, so the pitch after a beat's steps is the file's."""
    path = followed[0]
    trail = Trail(path, 0)
    places = trail.look().places
    score = sonify(load(path))
    assert trail.references == dict(score.references)
    assert [each.name for each in places] == [voice.name for voice in score.voices[:3]]


def test_a_run_that_dies_is_told_and_one_that_is_resumed_goes_on(tmp_path, monkeypatch) -> None:
    path = tmp_path / "run"
    with training(path, 0, 10_000, pause=0.02) as process:
        trail = Trail(path, 0)
        before = heard(trail, lambda look: look.last >= 80)[1]
        process.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(trails, "PATIENCE", 1.0)
        before += heard(trail, lambda look: look.state == "stalled")[1]
        process.kill()
        process.wait()
    samples, after = heard(trail, lambda look: look.state == "crashed")
    ((_, halted), (_, died)) = told([*before, *after], "stalled")
    assert "no step for" in halted and "its process is gone" not in halted
    assert "its process is gone" in died and samples[-4_000:].any(), "the earcon of a standstill"
    last = steps_of([*before, *after])[-1]
    assert steps_of([*before, *after]) == list(range(last + 1))
    with training(path, 50, 120, pause=0.01):
        resumed = heard(trail)[1]
    assert ("training was resumed") in told(resumed, "legend")[0][1]
    assert steps_of(resumed) == list(range(50, 120)), "those that were made again too"
    assert resumed[-1].state == "finished"


def test_a_run_that_stands_still_says_so_once_and_falls_silent(followed, tmp_path, monkeypatch) -> None:
    """A copy without its end is a run that goes on and writes nothing."""
    monkeypatch.setattr(trails, "PATIENCE", 0.5)
    monkeypatch.setattr(trails, "PATIENCE_STEPS", 0.0)
    monkeypatch.setattr(trails, "is_held", lambda *_: None)  # whether its process lives cannot be told
    copy = tmp_path / "copy"
    shutil.copytree(followed[0], copy)
    lines = (copy / "events.jsonl").read_text().splitlines(keepends=True)
    assert '"end"' in lines[-1]
    (copy / "events.jsonl").write_text("".join(lines[:-1]))
    end = time.monotonic() + 3.0
    samples, looks = heard(Trail(copy, 0), lambda _: time.monotonic() > end)
    ((step, text),) = told(looks, "stalled")
    assert step == 99 and "no step for" in text
    assert not samples[-1000:].any()


def test_a_look_that_takes_long_holds_up_no_beat_and_loses_nothing(tmp_path) -> None:
    class Slow(Trail):
        looked = 0

        def look(self) -> Look:
            self.looked += 1
            time.sleep(0.5)
            return super().look()

    path = tmp_path / "run"
    with training(path, 0, 60, broken=30):
        trail = Slow(path, 0)
        looks = heard(trail)[1]
    assert steps_of(looks) == list(range(60)) and len(told(looks, "nan")) == 1
    assert len(looks) > 2 * trail.looked


def test_reading_takes_at_most_a_fifth_of_the_time(tmp_path, monkeypatch) -> None:
    begun: list[float] = []

    def slow(path: Path, **how: bool) -> Run:
        begun.append(time.monotonic())
        time.sleep(0.1)
        return load(path, **how)

    path = tmp_path / "run"
    with training(path, 0, 150, pause=0.01):
        trail = Trail(path, 0)
        monkeypatch.setattr(trails, "load", slow)
        looks = heard(trail)[1]
    assert steps_of(looks) == list(range(150)) and len(begun) > 2
    assert np.diff(begun).min() >= 0.5


def test_the_player_follows_on_the_device(followed, tmp_path) -> None:
    path = tmp_path / "run"
    with training(path, 0, 60):
        played = listen(path, following=True, backend="null", console=Console(quiet=True))
    assert played.seconds > 2.0


@pytest.mark.parametrize(
    "wrong", [{"speed": 2.0}, {"mode": "arpeggio"}, {"mapping": "perone2019"}, {"volume": 2.0}], ids=str
)
def test_what_cannot_be_followed_is_refused(followed, wrong) -> None:
    with pytest.raises(SetupError):
        listen(followed[0], following=True, backend="null", console=Console(quiet=True), **wrong)
