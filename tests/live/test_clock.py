"""Clocks that jump: the order of a run is that of its steps, and nothing that reads it falls over a date."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tests.live.test_condition import WRITE_AND_WAIT

import auscult
from auscult.live.follower import Follower
from auscult.live.listing import list_entries
from auscult.live.summary import summarise
from auscult.live.trail import Trail

DAY = 86400.0


def followed(folder: Path) -> Follower:
    return Follower(folder, list_entries(folder).popitem()[1])


@pytest.mark.parametrize("times", [(DAY, -3 * DAY, 0.0), (-2e9, 9e9, 1e18)], ids=["days", "beyond any date"])
def test_the_clock_jumps_while_a_run_is_written_and_followed(tmp_path, grower, times) -> None:
    now, path, follower, step = time.time(), tmp_path / "run", None, 0
    trail = None
    for jump in times:
        writing = grower(path, time=now + jump, if_exists="resume", step=step, id="one")
        for part in range(3):
            writing.grow(100)
            moment = max(0.0, now + jump + part) if abs(jump) < 1e9 else now
            for file in path.rglob("*.*"):
                with suppress(FileNotFoundError):  # the writer's other thread has just given it its final name
                    os.utime(file, (moment, moment))
            follower, trail = follower or followed(tmp_path), trail or Trail(path, 0)
            follower.look()
            assert follower.last_step == writing.step - 1 and follower.condition.word in ("training", "stalled")
            assert trail.look().state in ("training", "stalled")
            assert summarise(follower).to_dict()["step"] == writing.step - 1
        step = writing.step
        writing.end()
    run = auscult.load(path)
    np.testing.assert_array_equal(run.steps, np.arange(900))
    np.testing.assert_array_equal(run.series("loss").values, np.arange(900.0))
    assert follower is not None and follower.render().page
    assert auscult.report(run, tmp_path / "page.html").stat().st_size > 10_000


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files of other processes are seen on Linux only")
def test_a_process_that_died_is_noticed_although_the_clock_was_set_back(tmp_path, monkeypatch) -> None:
    code = [sys.executable, "-c", WRITE_AND_WAIT, str(tmp_path / "run"), str(Path(__file__).parent)]
    with subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout.readline() == "written\n"
        past = time.time() - 300
        for file in tmp_path.rglob("*"):
            os.utime(file, (past, past))
        follower = followed(tmp_path)
        with monkeypatch.context() as ahead:
            later = time.time() + DAY
            ahead.setattr("auscult.live.follower.time.time", lambda: later)
            follower.look()
        assert "its process lives" in follower.condition.reason
        training.send_signal(signal.SIGKILL)
        training.wait()
    passed = time.monotonic() + 15
    monkeypatch.setattr("auscult.live.follower.time.monotonic", lambda: passed)
    follower.look()
    assert follower.condition.word == "crashed" and "process is gone" in follower.condition.reason
