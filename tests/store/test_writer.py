import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from auscult.core.detail import Detail
from auscult.core.digest import digest_rows
from auscult.core.errors import SetupError, StoreError
from auscult.core.finding import Evidence, Finding
from auscult.core.sink import Channel, Record
from auscult.store.damage import StoreWarning
from auscult.store.reader import load
from auscult.store.writer import StoreWriter


def test_rows_are_read_back_bit_for_bit(record, check):
    path, truth = record(steps=3000)
    check(load(path), truth)


def test_facts_are_read_back(tmp_path, info, segment):
    stored = info(config={"lr": float("inf"), "layers": (1, 2), "where": tmp_path, "scale": np.float32(0.5)})
    writer = StoreWriter.create(tmp_path / "run", stored)
    writer.begin_segment(segment(7), environment={"gpu": None})
    finding = Finding(
        "G001",
        "exploding-gradient",
        "critical",
        "a",
        9,
        "It explodes.",
        (Evidence("x", "a", 9, float("nan")),),
        ("Stop.",),
    )
    writer.write_finding(10, finding)
    writer.write_event("end", 11, loss=float("-inf"))
    writer.close()
    run = load(tmp_path / "run")
    assert run.info.config == {"lr": "inf", "layers": [1, 2], "where": str(tmp_path), "scale": 0.5}
    assert (run.info.command, run.info.devices) == (stored.command, stored.devices)
    assert run.segments == (segment(7),)
    assert run.events[0]["environment"] == {"gpu": None}
    assert run.events[2] == {"kind": "end", "step": 11, "loss": "-inf", "ordinals": {}}
    [(step, found)] = run.findings
    assert (step, found.key, str(found)) == (10, finding.key, str(finding))
    assert run.finished


def test_new_goes_beside_what_is_there(tmp_path, info):
    paths = [StoreWriter.create(tmp_path / "run", info()).path for _ in range(3)]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    paths += [StoreWriter.create(tmp_path / name, info()).path for name in ("notes", "empty")]
    assert [path.name for path in paths] == ["run", "run-2", "run-3", "notes-2", "empty"]
    assert [each.name for each in (tmp_path / "notes").iterdir()] == ["todo.txt"]


@pytest.mark.parametrize("if_exists", ["error", "resume"])
def test_what_is_not_a_run_is_left_alone(tmp_path, info, if_exists):
    (tmp_path / "todo.txt").write_text("mine")
    with pytest.raises(SetupError, match="holds something that is not a run"):
        StoreWriter.create(tmp_path, info(), if_exists)
    with pytest.raises(SetupError):
        StoreWriter.create(tmp_path / "todo.txt", info(), if_exists)
    assert [each.name for each in tmp_path.iterdir()] == ["todo.txt"]


def test_error_refuses_a_run(tmp_path, info):
    StoreWriter.create(tmp_path / "run", info(), "error").close()
    with pytest.raises(SetupError, match="if_exists='resume'"):
        StoreWriter.create(tmp_path / "run", info(), "error")


def test_resume_creates_when_there_is_nothing(tmp_path, info):
    writer = StoreWriter.create(tmp_path / "run", info(), "resume")
    assert not writer.resumed
    assert writer.path == tmp_path / "run"


def test_a_resumed_run_keeps_its_identity_and_supersedes(record, check, info):
    path, truth = record(steps=700, resume_at=530, again=100)
    run = load(path)
    check(run, truth)
    assert run.info.id == "id-run"
    assert [each.step for each in run.segments] == [0, 530]
    assert not [each for each in run.events if each["kind"] == "end"]
    assert len(run.source.rows("norms", 0, 630)[0]) == 630


def test_resuming_before_an_earlier_resume(tmp_path, record, check, info, segment, recorder):
    path, truth = record(steps=300, resume_at=250, again=20)
    writer = StoreWriter.create(path, info(), "resume")
    assert writer.resumed
    writer.begin_segment(segment(100))
    truth.forget(100)
    check(load(path), truth)  # obsolete from the moment the segment begins
    more = recorder(writer, truth, seed=5)
    for step in range(130, 140):
        more.row("norms", step, 5)
    writer.close()
    check(load(path), truth)


def test_resumed_channels_in_another_order_find_their_columns(tmp_path, info, segment):
    names = [Channel("noise", each) for each in "abcd"]
    for channels, step in (((0, 1, 2), 0), ((2, 3, 0), 1), ((1,), 2)):
        writer = StoreWriter.create(tmp_path / "run", info(), "resume")
        writer.begin_segment(segment(step))
        columns = tuple(names[each] for each in channels)
        values = np.array(channels, np.float64) + 10 * step
        writer.write(Record("user", step, columns, values))
        writer.write_block(digest_rows("user", columns, np.array([step]), values[None], step + 1))
        writer.close()
    run = load(tmp_path / "run")
    read = {name: dict(zip(s.steps.tolist(), s.values.tolist())) for name in "abcd" if (s := run.series("noise", name))}
    assert read == {"a": {0: 0.0, 1: 10.0}, "b": {0: 1.0, 2: 21.0}, "c": {0: 2.0, 1: 12.0}, "d": {1: 13.0}}


def test_steps_must_grow(tmp_path, info):
    writer = StoreWriter.create(tmp_path / "run", info())
    row = Record("user", 4, (Channel("noise", ""),), np.zeros(1))
    writer.write(row)
    with pytest.raises(SetupError, match="greater than 4, but got 4"):
        writer.write(row)
    with pytest.raises(SetupError, match="one per channel"):
        writer.write(Record("user", 5, row.channels, np.zeros(2)))


def test_a_closed_store_takes_nothing(tmp_path, info):
    writer = StoreWriter.create(tmp_path / "run", info())
    writer.close()
    writer.close()
    with pytest.raises(SetupError, match="was closed"):
        writer.write_event("end", 0)


def test_small_tiles_become_large_ones(record, check):
    path, truth = record(steps=4096 + 300)
    names = sorted(each.name for each in (path / "norms").iterdir())
    assert names == [
        "000000000000-4096.npy", "000000004096-256.npy", "digest-1024.log", "digest.log", "tail-000000004352.log",
        "tiles.jsonl",
    ]  # fmt: skip
    check(load(path), truth)


def test_unfinished_work_is_done_at_the_next_resume(record, check, info, monkeypatch):
    monkeypatch.setattr("auscult.store.rowlog.Sealer.submit", lambda *args, **kwargs: None)
    path, truth = record(steps=4096 + 300)
    assert len(list((path / "norms").glob("tail-*.log"))) == 18
    check(load(path), truth)
    monkeypatch.undo()
    StoreWriter.create(path, info(), "resume").close()
    assert len(list((path / "norms").glob("tail-*.log"))) == 1
    assert sorted(each.name for each in (path / "norms").glob("*.npy")) == [
        "000000000000-4096.npy",
        "000000004096-256.npy",
    ]
    check(load(path), truth)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_process_writes_nothing(tmp_path, info, recorder, check):
    writer = StoreWriter.create(tmp_path / "run", info())
    rows = recorder(writer)
    for step in range(600):
        rows.row("norms", step, 2)
    child = os.fork()
    if child == 0:
        writer.write(Record("norms", 1000, (Channel("grad_norm", "new"),), np.zeros(1, np.float32)))
        writer.write_event("end", 1000)
        writer.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    rows.row("norms", 600, 2)
    writer.close()
    run = load(tmp_path / "run")
    check(run, rows.truth)
    assert not run.events


def test_a_path_below_a_file_is_refused(tmp_path, info):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match=r"Expected a directory that can be made at .*Not a directory"):
        StoreWriter.create(tmp_path / "file" / "run", info)


def test_a_removed_directory_is_an_error_and_stays_removed(tmp_path, info, recorder):
    writer = StoreWriter.create(tmp_path / "run", info())
    rows = recorder(writer)
    rows.row("norms", 0, 2)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(OSError, match="removed or replaced"):
        for step in range(1, 300):
            rows.row("norms", step, 2)
    with pytest.raises(OSError, match="removed or replaced"):
        writer.close()
    writer.close()
    assert not (tmp_path / "run").exists()


def test_a_replaced_directory_is_not_written_to(tmp_path, info, segment, recorder, check):
    old = recorder(StoreWriter.create(tmp_path / "run", info("old")))
    old.row("norms", 0, 2)
    shutil.rmtree(tmp_path / "run")
    new = recorder(StoreWriter.create(tmp_path / "run", info("new")), seed=1)
    new.row("norms", 0, 3)
    with pytest.raises(OSError, match="removed or replaced"):
        for step in range(1, 300):
            old.row("norms", step, 2)
    for write in (lambda: old.writer.write_detail(Detail(0)), lambda: old.writer.begin_segment(segment(300))):
        with pytest.raises(OSError, match="removed or replaced"):
            write()
    new.writer.close()
    run = load(tmp_path / "run")
    check(run, new.truth)
    assert run.info.name == "new" and run.details == ()


def test_failed_sealing_is_raised_once_and_made_up_for(tmp_path, info, recorder, check):
    writer = StoreWriter.create(tmp_path / "run", info())
    rows = recorder(writer)
    rows.row("norms", 0, 2)
    blocker = tmp_path / "run" / "norms" / "000000000000-256.npy.tmp"
    blocker.mkdir()
    with pytest.raises(OSError, match="They stay in their tails") as raised:
        for step in range(1, 100_000):
            rows.row("norms", step, 2)
    assert isinstance(raised.value.__cause__, IsADirectoryError)
    rows.truth.rows["norms"][step] = load(tmp_path / "run").source.rows("norms", step, step + 1)[1][0]  # it was written
    blocker.rmdir()
    for more in range(step + 1, step + 300):
        rows.row("norms", more, 2)
    writer.close()
    check(load(tmp_path / "run"), rows.truth)
    assert (tmp_path / "run" / "norms" / "000000000000-256.npy").exists() or list(
        (tmp_path / "run").glob("*/*-4096.npy")
    )


FULL_DISK = """
    import resource, signal, sys
    import numpy as np
    from auscult.core.run import RunInfo
    from auscult.core.sink import Channel, Record
    from auscult.store.writer import StoreWriter

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    info = RunInfo("i", "n", 0.0, 1, {}, (), None, None, {}, "h", ())
    writer = StoreWriter.create(sys.argv[1], info)
    channels = tuple(Channel("grad_norm", f"p{n}") for n in range(100))
    for step in range(60):
        if step == 20:  # room for half a row
            size = 20 * (12 + 16 + 400)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 200, resource.RLIM_INFINITY))
        if step == 40:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        try:
            writer.write(Record("norms", step, channels, np.full(100, step, np.float32)))
            print(step, flush=True)
        except OSError:
            pass
"""


def test_a_full_disk_loses_only_what_was_refused(tmp_path):
    pytest.importorskip("resource")
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), tmp_path / "run"], capture_output=True, text=True, check=True
    )
    written = [int(step) for step in child.stdout.split()]
    assert written == [*range(20), *range(40, 60)]
    lost = r"norms to hold every row, but rows between the steps 20 and 39 could not be written \(20 in all\)"
    with pytest.warns(StoreWarning, match=lost):
        run = load(tmp_path / "run")
    assert len(run.damage) == 1
    series = run.series("grad_norm", "p99")
    assert series.steps.tolist() == written
    np.testing.assert_array_equal(series.values, written)


NO_THREAD = """
    import sys, threading
    import numpy as np
    from auscult.core.run import RunInfo
    from auscult.core.sink import Channel, Record
    from auscult.store.writer import StoreWriter

    threading.stack_size((1 << 47) - 4096)  # more than a process can have: no thread can be started
    writer = StoreWriter.create(sys.argv[1], RunInfo("i", "n", 0.0, 1, {}, (), None, None, {}, "h", ()))
    for step in range(600):
        writer.write(Record("user", step, (Channel("noise", ""),), np.array([step / 7])))
    writer.close()
    try:
        threading.Thread(target=print).start()
    except RuntimeError:
        print("none")
"""


@pytest.mark.skipif(sys.platform != "linux" or sys.maxsize < 1 << 47, reason="needs to run out of addresses")
def test_where_no_thread_can_be_started_nothing_is_lost(tmp_path):
    """As at the end of the interpreter, or in a container that has as many threads as it may have."""
    command = [sys.executable, "-c", textwrap.dedent(NO_THREAD), tmp_path / "run"]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (child.returncode, child.stdout) == (0, "none\n"), child.stderr
    series = load(tmp_path / "run").series("noise")
    assert series.steps.tolist() == list(range(600)) and series.values.tolist() == [step / 7 for step in range(600)]
    assert sorted(each.name for each in (tmp_path / "run" / "user").glob("*.npy")) == [
        "000000000000-256.npy",
        "000000000256-256.npy",
    ]


def test_a_full_tmpfs(tmp_path, info, recorder, check):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs to mount a tmpfs")
    try:
        (disk / "ballast").write_bytes(bytes(400_000))
        writer = StoreWriter.create(disk / "run", info())
        rows = recorder(writer)
        with pytest.raises(OSError, match=r"bytes could be written|No space left"):
            for step in range(250):
                rows.row("norms", step, 1000)
        check(load(disk / "run"), rows.truth)
        (disk / "ballast").unlink()
        for step in range(250, 255):
            rows.row("norms", step, 1000)
        writer.close()
        with pytest.warns(StoreWarning, match="could not be written"):
            check(load(disk / "run"), rows.truth)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_damaged_run_is_not_resumed(record, info):
    path, _ = record()
    text = bytearray((path / "channels.jsonl").read_bytes())
    text[20] ^= 1
    (path / "channels.jsonl").write_bytes(text)
    with pytest.raises(StoreError, match=r"line 1 of .*cannot be continued"):
        StoreWriter.create(path, info(), "resume")


def test_rows_go_on_behind_a_damaged_tail(record, info, segment, recorder):
    path, truth = record(steps=300)
    tail = path / "norms" / "tail-000000000256.log"
    data = bytearray(tail.read_bytes())
    data[-1] ^= 1
    tail.write_bytes(data)
    writer = StoreWriter.create(path, info(), "resume")
    writer.begin_segment(segment(300))
    more = recorder(writer, truth)
    more.row("norms", 300, 5)
    writer.close()
    run = load(path, skip_damage=True)
    steps, _ = run.source.rows("norms", 0, 1000)
    assert steps.tolist() == [*range(299), 300]
    assert len(run.damage) == 1
