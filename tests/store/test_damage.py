"""Whatever happens to the files: the truth comes back, or less of it and a word about that; never something else."""

import random
import shutil
import subprocess
import sys
import textwrap
import warnings
from functools import cache

import numpy as np
import pytest

from auscult.core.errors import StoreError
from auscult.store.damage import StoreWarning
from auscult.store.reader import load

FOREVER = 1 << 60
PIPE = 4096  # bytes, 17 for each row

CHILD = """
    import sys
    import numpy as np
    from auscult.core.run import RunInfo, Segment
    from auscult.core.sink import Channel, Record
    from auscult.store.writer import StoreWriter

    path, first, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    info = RunInfo("i", "n", 0.0, 1, {}, (), None, None, {}, "h", ())
    writer = StoreWriter.create(path, info, "resume")
    writer.begin_segment(Segment(first, 0.0))
    channels = tuple(Channel("grad_norm", f"p{n}") for n in range(20))
    step = first
    while True:
        writer.write(Record("norms", step, channels, np.arange(20, dtype=np.float32) + step))
        print(f"{step:016d}", flush=True)
        step += 1
        if pause:
            import time
            time.sleep(pause)
"""


def start_child(path, first, pause=0.0):
    """A process that tells of each row that it has written; no more than a tail's rows ahead of what is read of it."""
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(path), str(first), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pipesize=PIPE)


def expect_rows(run, first, stop):
    steps, values = run.source.rows("norms", first, FOREVER)
    assert steps[: stop - first].tolist() == list(range(first, stop))
    np.testing.assert_array_equal(values, np.arange(20) + steps[:, None])


def test_kill_loses_no_acknowledged_row(tmp_path):
    """Fifteen processes continue one run and are killed, each at another moment."""
    chance = random.Random(0)
    done = 0
    for _ in range(15):
        child = start_child(tmp_path / "run", done)
        with child:
            for _ in range(chance.randint(1, 700)):
                acknowledged = child.stdout.readline()
            child.kill()
            for line in child.stdout:
                acknowledged = line if line.endswith("\n") else acknowledged
        done = int(acknowledged) + 1
        expect_rows(load(tmp_path / "run"), 0, done)
        assert load(tmp_path / "run").damage == ()
    assert done > 256 * 16  # tiles were sealed and merged meanwhile


@pytest.mark.skipif(not shutil.which("cp"), reason="needs cp")
def test_a_copy_of_a_live_run_has_no_hole(tmp_path):
    with start_child(tmp_path / "run", 0, pause=2e-4) as child:
        for number in range(12):
            for _ in range(200):
                acknowledged = int(child.stdout.readline())
            subprocess.run(
                ["cp", "-r", tmp_path / "run", tmp_path / f"copy-{number}"], check=False, capture_output=True
            )
            expect_rows(load(tmp_path / f"copy-{number}"), 0, acknowledged + 1)
        child.kill()


def survive(path, truth, *, torn_end=False, skip_damage=False):
    """Load everything; whatever comes must be true, and what does not come must be announced.

    Args:
        path: Of the run, damaged.
        truth: What was written.
        torn_end: Whether rows at the end may be missing silently.
        skip_damage: As for `load`.

    Returns:
        Whether something was announced.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            run = load(path, skip_damage=skip_damage)
            complete = [read_stream(run, truth, stream, torn_end) for stream in truth.rows]
        except StoreError as error:
            assert not skip_damage or "run.json" in str(error)
            return True
    assert all(issubclass(each.category, StoreWarning) for each in caught)
    announced = bool(caught or run.damage)
    if len(run.segments) == 2:  # otherwise nobody can tell what is obsolete
        assert all(event in truth.events for event in run.events)
    assert announced or torn_end or run.events == truth.events
    assert announced or all(complete)
    return announced


def read_stream(run, truth, stream, torn_end):
    """Compare what is there with the truth; returns whether all of it is."""
    steps, values = truth.table(stream)
    if stream not in run.streams:
        return False
    names = run.source.channels(stream)
    read_steps, read = run.source.rows(stream, 0, FOREVER)
    assert np.all(np.diff(read_steps) > 0)
    at = np.searchsorted(steps, read_steps)
    np.testing.assert_array_equal(steps[at], read_steps)
    columns = [truth.channels[stream].index(name) for name in names]
    expected, got = as_bits(values[at][:, columns]), as_bits(read)
    unobserved = as_bits(
        np.array([0x7FF80000000A05C5 if read.dtype == np.float64 else 0x7FC0A05C], f"u{read.itemsize}")
    )
    lost = (got != expected) & (got == unobserved)
    np.testing.assert_array_equal(got[~lost], expected[~lost])
    if len(names) == values.shape[1] and len(at) == len(steps) and not lost.any():
        true = {block.start: block for block in truth.blocks(stream)}
        for block in run.source.blocks(stream):
            assert block.values.tobytes() == true[block.start].values[: len(block.values)].tobytes()
        return True
    return torn_end and at.tolist() == list(range(len(at))) and not lost.any() and len(names) == values.shape[1]


def as_bits(values):
    values = np.ascontiguousarray(values)
    return values.view(f"u{values.itemsize}")


def all_files(path):
    return sorted(each for each in path.rglob("*") if each.is_file())


def with_all_kinds_of_files(path, truth):
    truth.events = load(path).events
    truth.table = cache(truth.table)
    truth.blocks = cache(lambda stream, blocks=truth.blocks: list(blocks(stream)))
    assert not survive(path, truth)
    names = {each.name.split("-")[0] for each in all_files(path)}
    assert {"run.json", "channels.jsonl", "events.jsonl", "tiles.jsonl", "digest.log", "digest", "tail"} < names
    return path, truth


@pytest.fixture
def run_of_all_kinds(record, monkeypatch):
    """A run with all kinds of files; it was resumed, and has not ended since."""
    monkeypatch.setattr("auscult.store.snapshot.ATTEMPTS", 1)  # nobody else writes
    return with_all_kinds_of_files(*record(steps=1100, resume_at=1050, again=70))


@pytest.fixture
def finished_run(record, monkeypatch):
    """A run with all kinds of files that has ended."""
    monkeypatch.setattr("auscult.store.snapshot.ATTEMPTS", 1)
    return with_all_kinds_of_files(*record(steps=1100))


def test_truncation_anywhere(run_of_all_kinds):
    path, truth = run_of_all_kinds
    chance = random.Random(1)
    announced = 0
    for file in all_files(path):
        data = file.read_bytes()
        places = range(max(len(data) - 4096, 0), len(data))
        for size in chance.sample(places, min(len(places), 60)):
            file.write_bytes(data[:size])
            announced += survive(path, truth, torn_end=file.suffix == ".log" or file.name == "events.jsonl")
        file.write_bytes(data)
    assert announced > 100
    assert not survive(path, truth)


def test_a_finished_run_tells_every_truncation_but_that_of_its_end(finished_run):
    path, truth = finished_run
    chance = random.Random(3)
    for file in all_files(path):
        data = file.read_bytes()
        for size in chance.sample(range(len(data)), 12):
            file.write_bytes(data[:size])
            survive(path, truth, torn_end=file.name == "events.jsonl")
        file.unlink()
        survive(path, truth, torn_end=file.name == "events.jsonl")
        file.write_bytes(data)


@pytest.mark.parametrize("fixture", ["run_of_all_kinds", "finished_run"])
def test_a_flipped_bit_anywhere(fixture, request):
    path, truth = request.getfixturevalue(fixture)
    chance = random.Random(2)
    files = all_files(path)
    announced = 0
    for number in range(1000):
        file = chance.choice(files)
        data = file.read_bytes()
        flipped = bytearray(data)
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(flipped)
        announced += survive(path, truth, skip_damage=number % 4 == 0)
        file.write_bytes(data)
    assert announced > 500
    assert not survive(path, truth)
