"""Playing on miniaudio's null device, which takes sound at the pace of a real one, and on machines without any."""

import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import auscult
from auscult.core.errors import NoDevice, SetupError
from auscult.core.score import Score, SoundEvent, Voice
from auscult.live.playback import Moment, play_score
from auscult.sound import speaker as speakers
from auscult.sound.speaker import Speaker

TRAIN = """
import time, torch
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
end = time.monotonic() + 60
while time.monotonic() < end:
    model(torch.randn(128, 256)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
LISTEN = """
import json, sys, time
import numpy as np
from auscult.core.score import Score, Voice
from auscult.live.playback import play_score
from auscult.sound.speaker import Speaker
times = np.linspace(0, 10, 101)
pitch = 523.25 * 2 ** np.sin(times)
timbres = ("warm", "hollow", "bright")
score = Score("t", "test", 10.0, tuple(Voice(t, times, pitch, np.full(101, 0.2), timbre=t) for t in timbres))
with Speaker(backend="null") as speaker:
    began = time.monotonic()
    played = play_score(score, speaker)
    print(json.dumps([played.seconds, played.missing, played.longest, played.buffer, time.monotonic() - began]))
assert "torch" not in sys.modules
"""


def short_score(seconds: float = 2.0) -> Score:
    times = np.linspace(0, seconds, 21)
    voice = Voice("v", times, np.full(21, 441.0), np.full(21, 0.3))
    events = tuple(SoundEvent(at, "nan", f"at {at}", round(at * 10)) for at in (0.3, 1.2))
    return Score("t", "test", seconds, (voice,), events, times[:-1], np.arange(20))


def test_ten_seconds_are_delivered_in_ten_seconds_while_another_process_trains() -> None:
    training = subprocess.Popen([sys.executable, "-c", TRAIN])
    try:
        done = subprocess.run([sys.executable, "-c", LISTEN], capture_output=True, text=True, check=True)
    finally:
        training.kill()
        training.wait()
    delivered, missing, longest, buffer, took = json.loads(done.stdout)
    assert delivered == pytest.approx(10.0, rel=0.02) and missing == 0
    assert longest < buffer
    assert took == pytest.approx(10.0, rel=0.1), "at the pace at which it is heard"


def test_events_are_told_in_order_when_they_are_heard() -> None:
    moments: list[Moment] = []
    with Speaker(backend="null") as speaker:
        play_score(short_score(), speaker, on_moment=moments.append)
    told = [(event.time, moment) for moment in moments for event in moment.events]
    assert [at for at, _ in told] == [0.3, 1.2]
    for at, moment in told:
        assert at <= moment.seconds < at + 0.2
        assert moment.step is not None and abs(moment.step - at * 10) <= 2
    assert [each.seconds for each in moments] == sorted(each.seconds for each in moments)


def test_from_a_step_and_at_a_speed() -> None:
    moments: list[Moment] = []
    with Speaker(backend="null") as speaker:
        played = play_score(short_score(), speaker, speed=2.0, start=10, on_moment=moments.append)
    assert played.seconds == pytest.approx(0.5, abs=0.001)
    assert [each.time for moment in moments for each in moment.events] == [0.6]


def test_the_null_device_gets_the_very_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """What leaves the queue is the rendered file, at the volume asked for."""
    taken: list[np.ndarray] = []
    original = Speaker._taken

    def tapped(self: Speaker, wanted: int) -> np.ndarray:
        answer = original(self, wanted)
        taken.append(answer)
        return answer

    monkeypatch.setattr(Speaker, "_taken", tapped)
    score = short_score(1.0)
    with Speaker(backend="null", volume=0.25) as speaker:
        play_score(score, speaker)
    samples = np.concatenate(taken)[:44_100]
    np.testing.assert_allclose(samples, 0.25 * auscult.render(score).samples, atol=1e-7)


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(SetupError, match="volume"):
        Speaker(backend="null", volume=2.0)
    with Speaker(backend="null") as speaker, pytest.raises(SetupError, match="step"):
        play_score(short_score(), speaker, start=99)


def test_a_device_that_goes_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speakers, "PATIENCE", 0.2)
    with Speaker(backend="null") as speaker:
        speaker.play(np.zeros((60_000, 2), np.float32))
        speaker.play(np.zeros((10, 2), np.float32))
        speaker._device.stop()
        with pytest.raises(NoDevice, match="unplugged"):
            speaker.finish()


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, path) as monitor:
        for step in range(80):
            loss = model(torch.randn(4, 3)).square().mean() * (torch.nan if step == 70 else 1.0)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    return path


Command = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def play_command(run_path: Path) -> Command:
    """Runs `auscult play RUN` after some Python."""

    def run(before: str) -> subprocess.CompletedProcess[str]:
        arguments = ["auscult", "play", str(run_path)]
        code = f"import sys\n{before}\nfrom auscult.cli import main\nsys.argv = {arguments!r}\nmain()"
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60,
            env={"COLUMNS": "500", "PATH": "", "PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip

    return run


NO_MINIAUDIO = "sys.modules['miniaudio'] = None"
NO_SOUND = """
import miniaudio
make = miniaudio.PlaybackDevice
def none(**options):
    raise miniaudio.MiniaudioError('failed to init device', -401)
miniaudio.PlaybackDevice = none
"""
NULL = """
import auscult.sound.speaker as speakers
start = speakers.Speaker.__init__
speakers.Speaker.__init__ = lambda self, backend, volume: start(self, backend='null', volume=volume)
"""


@pytest.mark.parametrize(
    ("before", "said"), [(NO_MINIAUDIO, "pip install 'auscult[listen]'"), (NO_SOUND, "a sound device")]
)
def test_without_sound_one_line_says_what_works_instead(play_command: Command, before: str, said: str) -> None:
    done = play_command(before)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert said in line and "auscult sonify" in line and "auscult report" in line


def test_the_command_prints_what_is_heard(play_command: Command) -> None:
    done = play_command(NULL)
    assert done.returncode == 0, done.stderr
    assert "step 70" in done.stdout and "nan" in done.stdout.lower()


def test_a_pause_is_silence_without_a_click_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[np.ndarray] = []
    original = Speaker._taken

    def tapped(self: Speaker, wanted: int) -> np.ndarray:
        taken.append(original(self, wanted))
        self.pause(3 <= len(taken) < 9)
        return taken[-1]

    monkeypatch.setattr(Speaker, "_taken", tapped)
    score = short_score(2.0)
    with Speaker(backend="null") as speaker:
        played = play_score(score, speaker)
    samples = np.concatenate(taken).astype(np.float64)
    edge = round(speakers.FADE * speaker.sample_rate)
    lengths = np.cumsum([0, *map(len, taken)])
    assert not samples[lengths[3] + edge : lengths[9]].any()
    kept = np.concatenate([samples[: lengths[3] + edge], samples[lengths[9] :]])[: 2 * speaker.sample_rate]
    expected = auscult.render(score).samples
    apart = np.abs(kept - expected).max(1)
    assert (
        np.flatnonzero(apart > 1e-6).min() >= lengths[3] and np.flatnonzero(apart > 1e-6).max() <= lengths[3] + 2 * edge
    )
    assert played.missing == 0 and played.seconds == pytest.approx(2.0, abs=0.001)
    slope = np.abs(np.diff(expected.astype(np.float64), axis=0)).max() + np.abs(expected).max() / (edge - 1)
    assert np.abs(np.diff(samples, axis=0)).max() <= 1.05 * slope


def test_space_pauses_and_goes_on_in_a_real_terminal_which_is_put_back(run_path: Path) -> None:
    code = (
        f"import sys\n{NULL}\nfrom auscult.cli import main\nsys.argv = ['auscult', 'play', {str(run_path)!r}]\nmain()"
    )
    master, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    playing = subprocess.Popen([sys.executable, "-c", code], stdin=terminal, stdout=terminal, stderr=terminal)
    shown = b""
    end = time.monotonic() + 60
    while b"space pauses" not in shown and time.monotonic() < end:
        shown += os.read(master, 4096)
    os.write(master, b" ")
    time.sleep(1.0)
    assert playing.poll() is None
    os.write(master, b" ")
    while playing.poll() is None and time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            shown += os.read(master, 4096)
    assert playing.returncode == 0 and b"Traceback" not in shown
    assert termios.tcgetattr(terminal) == before
