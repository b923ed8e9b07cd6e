"""One writer at a time, whatever processes do: real ones, which are killed."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from auscult.core.errors import SetupError
from auscult.store.reader import load
from auscult.store.writer import StoreWriter

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

WRITE_AND_WAIT = """
import os, sys, time
import numpy as np
from auscult.core.run import RunInfo, Segment
from auscult.core.sink import Channel, Record
from auscult.store.writer import StoreWriter
info = RunInfo("first", "run", 0.0, 1, {}, (), None, None, {}, "here", ())
writer = StoreWriter.create(sys.argv[1], info, "resume")
writer.begin_segment(Segment(0, 0.0))
def write(step):
    writer.write(Record("user", step, (Channel("loss", ""),), np.array([step / 7])))
for step in range(300):
    write(step)
worker, (told, tell) = 1, os.pipe()
if "worker" in sys.argv:
    worker = os.fork()
    if not worker:
        os.write(tell, b"!")
        time.sleep(60)
    os.read(told, 1)  # it runs
print(worker, flush=True)
sys.stdin.readline()
for step in range(300, 600):
    write(step)
print("written", flush=True)
sys.stdin.readline()
"""


def writing(path, *arguments: str) -> tuple[subprocess.Popen, int]:
    """A process with 300 rows written, which writes 300 more after a line, and the number of its worker."""
    code = [sys.executable, "-c", WRITE_AND_WAIT, str(path), *arguments]
    process = subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def test_a_second_writer_is_refused_and_the_first_loses_nothing(tmp_path, info) -> None:
    path = tmp_path / "run"
    first, _ = writing(path)
    try:
        with pytest.raises(SetupError, match=r"no other writer, but one is at work.*if_exists='new'"):
            StoreWriter.create(path, info(), "resume")
        assert StoreWriter.create(path, info(), "new").path == tmp_path / "run-2"
        first.stdin.write("\n")
        first.stdin.flush()
        assert first.stdout.readline() == "written\n"
    finally:
        first.kill()
        first.communicate()
    loss = load(path).series("loss")
    assert loss.steps.tolist() == list(range(600)) and loss.values.tolist() == [step / 7 for step in range(600)]
    StoreWriter.create(path, info(), "resume").close()  # nothing of the dead one stands in the way


def test_in_one_process_too_until_it_is_closed(tmp_path, info) -> None:
    first = StoreWriter.create(tmp_path / "run", info())
    with pytest.raises(SetupError, match="in this process or in another"):
        StoreWriter.create(tmp_path / "run", info(), "resume")
    first.close()
    StoreWriter.create(tmp_path / "run", info(), "resume").close()


def test_a_writer_whose_disk_fails_at_its_end_holds_nothing(tmp_path, info, monkeypatch) -> None:
    def fails(log: object) -> None:
        raise OSError(errno.EDQUOT, "quota")

    first = StoreWriter.create(tmp_path / "run", info())
    with monkeypatch.context() as full, pytest.raises(OSError, match="quota"):
        full.setattr("auscult.store.log.AppendLog.close", fails)
        first.close()
    StoreWriter.create(tmp_path / "run", info(), "resume").close()


@needs_fork
def test_a_worker_that_outlives_the_training_holds_nothing(tmp_path, info) -> None:
    first, worker = writing(tmp_path / "run", "worker")
    try:
        first.send_signal(signal.SIGKILL)
        first.wait()
        os.kill(worker, 0)  # it lives
        StoreWriter.create(tmp_path / "run", info(), "resume").close()
    finally:
        os.kill(worker, signal.SIGKILL)
        first.communicate()


SLOW_WORKER = """
import os, signal, sys, time
os.register_at_fork(after_in_child=lambda: time.sleep(60))  # as on a busy machine: of ours it runs nothing yet
from auscult.core.run import RunInfo
from auscult.store.writer import StoreWriter
info = RunInfo("first", "run", 0.0, 1, {}, (), None, None, {}, "here", ())
writer = StoreWriter.create(sys.argv[1], info)
worker = os.fork()
try:
    writer.close()
    StoreWriter.create(sys.argv[1], info, "resume").close()
finally:
    os.kill(worker, signal.SIGKILL)
"""


@needs_fork
def test_a_worker_that_has_just_begun_does_not_hold_what_was_closed(tmp_path) -> None:
    code = [sys.executable, "-c", SLOW_WORKER, str(tmp_path / "run")]
    done = subprocess.run(code, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_run_that_cannot_be_resumed_is_not_held(record, info) -> None:
    path, _ = record(steps=10)
    whole = (path / "run.json").read_bytes()
    (path / "run.json").write_bytes(whole[:40])
    for _ in range(2):
        with pytest.raises(Exception, match="damaged") as kept:
            StoreWriter.create(path, info(), "resume")
    (path / "run.json").write_bytes(whole)
    StoreWriter.create(path, info(), "resume").close()
    assert kept.value.__traceback__ is not None  # as in a notebook, where it stays


def _begin(path, info, starting, told) -> None:
    starting.wait()
    writer = StoreWriter.create(path, info)
    told.put(str(writer.path))
    time.sleep(0.2)


@needs_fork
def test_trainings_that_begin_at_once_have_directories_of_their_own(tmp_path, info) -> None:
    fork = multiprocessing.get_context("fork")
    for number in range(5):
        path, starting, told = tmp_path / str(number), fork.Barrier(4), fork.Queue()
        processes = [fork.Process(target=_begin, args=(path, info(), starting, told)) for _ in range(4)]
        for each in processes:
            each.start()
        places = [told.get(timeout=30) for _ in processes]
        for each in processes:
            each.join(30)
        assert len({*places}) == 4, places
        assert all(load(each).info.id for each in places)


def test_what_is_left_of_a_process_that_was_killed_while_it_began_is_used(tmp_path, info) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.jsonl").touch()
    (tmp_path / "run" / "run.json.tmp").write_text("{")
    for how in ("resume", "resume"):
        writer = StoreWriter.create(tmp_path / "run", info(), how)
        assert writer.path == tmp_path / "run"
        writer.close()
