import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from platform import node

import pytest

from auscult.live.condition import Facts, duration
from auscult.live.follower import Follower
from auscult.live.listing import list_entries
from auscult.live.processes import is_held
from auscult.store.reader import load

NOW = 1_000_000.0
FACTS = Facts("host", NOW - 1000, 0, 999, None, 0)  # a step a second


@pytest.mark.parametrize(
    ("changes", "quiet", "alive", "word"),
    [
        ({}, 0, None, "training"),
        ({}, 29, None, "training"),
        ({}, 31, None, "stalled"),
        ({}, 31, True, "stalled"),
        ({}, 31, False, "crashed"),
        ({}, 3601, None, "crashed"),
        ({}, 10 * 86400, True, "stalled"),
        ({"last_step": 9}, 1990, None, "training"),  # 100 s a step: silence is usual
        ({"last_step": 9}, 2020, None, "stalled"),
        ({"last_step": 9}, 9000, None, "stalled"),
        ({"last_step": 9}, 10_010, None, "crashed"),
        ({"end": "closed"}, 0, None, "finished"),
        ({"end": "exit"}, 10 * 86400, False, "finished"),
        ({"end": "exception: ValueError: x"}, 0, None, "crashed"),
        ({"waiting": 300}, 0, None, "stalled"),
        ({}, -50, None, "training"),  # a clock that is behind
    ],
)
def test_what_a_run_is_doing(changes, quiet, alive, word) -> None:
    facts = replace(FACTS, **changes)
    written = facts.began + 1000
    assert facts.condition(written, written + quiet, alive).word == word


def test_facts_are_those_of_the_last_segment(tmp_path, grower) -> None:
    first = grower(tmp_path / "run", time=10.0).grow(300)
    first.writer.close()
    grower(tmp_path / "run", time=500.0, if_exists="resume", step=100).grow(7)
    facts = Facts.of(load(tmp_path / "run"))
    assert (facts.began, facts.first_step, facts.last_step, facts.end) == (500.0, 100, 106, None)


def test_a_run_that_was_closed_by_an_exception_has_crashed(tmp_path, grower) -> None:
    grower(tmp_path / "run").grow(3).end("exception: ZeroDivisionError: division by zero")
    follower = Follower(tmp_path, list_entries(tmp_path).popitem()[1])
    follower.look()
    assert follower.condition.word == "crashed" and "ZeroDivisionError" in follower.condition.reason


WRITE_AND_WAIT = """
import sys, time
sys.path.insert(0, sys.argv[2])
from conftest import Grower
from pathlib import Path
from platform import node
Grower(Path(sys.argv[1]), time=time.time() - 2e3, host=node()).grow(200)  # no tail is full: nothing is sealed later
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files of other processes are seen on Linux only")
def test_a_process_that_was_killed_is_told_from_one_that_is_slow(tmp_path) -> None:
    path = tmp_path / "run"
    code = [sys.executable, "-c", WRITE_AND_WAIT, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout.readline() == "written\n"
        follower = Follower(tmp_path, list_entries(tmp_path)[next(iter(list_entries(tmp_path)))])
        follower.look()
        assert follower.condition.word == "training"
        past = time.time() - 300  # as if nothing had been written for five minutes
        for file in path.rglob("*"):
            os.utime(file, (past, past))
        follower.look()
        assert follower.condition.word == "stalled" and "process lives" in follower.condition.reason
        assert is_held(path, node()) and is_held(path, "elsewhere") is None
        training.send_signal(signal.SIGKILL)
        training.wait()
        assert is_held(path, node()) is False
        follower = Follower(tmp_path, follower.entry)
        follower.look()
        assert follower.condition.word == "crashed" and "process is gone" in follower.condition.reason


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files of other processes are seen on Linux only")
def test_a_process_that_opens_and_closes_other_files_is_not_taken_for_dead(tmp_path, grower) -> None:
    """As one that loads data does; those come before the run's own in the order in which they are looked at."""
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]
    growing, ended = grower(tmp_path / "run").grow(2), threading.Event()

    def load_data() -> None:
        while not ended.is_set():
            while others:
                os.close(others.pop())
            others.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(100))

    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load_data)
        try:
            assert {is_held(tmp_path / "run", node()) for _ in range(50)} == {True}
        finally:
            ended.set()
        loading.result()
    for each in others:
        os.close(each)
    growing.end()
    assert is_held(tmp_path / "run", node()) is False


def test_on_another_host_nobody_knows_whether_a_process_lives(tmp_path, grower) -> None:
    path = tmp_path / "run"
    grower(path, time=time.time() - 1e4, host=f"not-{node()}").grow(1000).writer.close()
    past = time.time() - 300
    for file in path.rglob("*"):
        os.utime(file, (past, past))
    follower = Follower(tmp_path, list_entries(tmp_path).popitem()[1])
    follower.look()
    assert follower.condition.word == "stalled" and "process" not in follower.condition.reason


def test_what_is_known_of_a_run_stays_while_it_is_read_again(tmp_path, grower, monkeypatch) -> None:
    """The listing looks at it from another thread."""
    growing = grower(tmp_path / "run", time=time.time()).grow(10)
    follower = Follower(tmp_path, list_entries(tmp_path).popitem()[1])
    follower.look()
    seen = []

    def watched(*arguments, **named):
        seen.append((follower.last_step, follower.info is not None))
        return load(*arguments, **named)

    monkeypatch.setattr("auscult.live.follower.load", watched)
    growing.grow(5)
    follower.look()
    assert seen == [(9, True)] and follower.last_step == 14
    growing.end()


def test_durations() -> None:
    assert [duration(each) for each in (-1, 0, 119, 120, 7199, 7200, 86400 * 3)] == [
        "0 s", "0 s", "119 s", "2 min", "120 min", "2 h", "3 days"
    ]  # fmt: skip


def test_a_clock_that_was_set_back_does_not_make_a_silent_run_train(tmp_path, grower, monkeypatch) -> None:
    """Files from the future: what counts is how long they have been seen not to grow."""
    path = tmp_path / "run"
    grower(path, time=time.time(), host=f"not-{node()}").grow(100).writer.close()
    future = time.time() + 86400
    for file in path.rglob("*"):
        os.utime(file, (future, future))
    follower = Follower(tmp_path, list_entries(tmp_path).popitem()[1])
    follower.look()
    assert follower.condition.word == "training"
    passed = time.monotonic() + 2e5
    monkeypatch.setattr("auscult.live.follower.time.monotonic", lambda: passed)
    follower.look()
    assert follower.condition.word != "training" and "nothing was written for" in follower.condition.reason
