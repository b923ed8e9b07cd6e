import random
import shutil
import warnings
from contextlib import suppress

import pytest

from auscult.core.errors import StoreError
from auscult.store import snapshot
from auscult.store.damage import StoreWarning
from auscult.store.reader import load
from auscult.store.writer import StoreWriter

FOREVER = 1 << 60


def test_a_slow_copy_of_a_live_run_only_warns(tmp_path, info, segment, recorder, monkeypatch):
    """Rows are written, sealed and merged between two files that are copied, one after the other in any order."""
    monkeypatch.setattr("auscult.store.snapshot.ATTEMPTS", 1)  # nobody writes to the copies
    path = tmp_path / "run"
    writer = StoreWriter.create(path, info())
    writer.begin_segment(segment())
    rows = recorder(writer)

    def train(count):
        for step in range(len(rows.truth.rows["steps"]), len(rows.truth.rows["steps"]) + count):
            rows.row("steps", step, 1)
            if step % 3 == 0:
                rows.row("user", step, 1)

    rows.row("steps", 0, 1)
    train(600)
    chance = random.Random(4)
    warned = 0
    for number in range(16):
        copy = tmp_path / f"copy-{number}"
        files = [each for each in path.rglob("*") if each.is_file()]
        for file in chance.sample(files, len(files)):
            (copy / file.relative_to(path)).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # merged meanwhile: `cp` says so and goes on
                shutil.copyfile(file, copy / file.relative_to(path))
            train(chance.choice((0, 5, 100)))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run = load(copy)
            read = {stream: run.source.rows(stream, 0, FOREVER) for stream in run.streams}
        assert all(each.category is StoreWarning and "Copy it again" in str(each.message) for each in caught)
        assert len(caught) == len(run.damage)
        warned += bool(caught)
        for stream, (steps, values) in read.items():
            written = list(rows.truth.rows[stream].items())
            assert [row.tobytes() for row in values] == [rows.truth.rows[stream][step].tobytes() for step in steps]
            assert caught or steps.tolist() == [step for step, _ in written[: len(steps)]]
    writer.close()
    assert 3 < warned < 16


def test_a_run_that_is_closed_between_two_looks_at_its_files_is_whole(tmp_path, info, segment, recorder, monkeypatch):
    """Its last tail is sealed and removed while the tiles have been listed already."""
    writer = StoreWriter.create(tmp_path / "run", info())
    writer.begin_segment(segment())
    rows = recorder(writer)
    for step in range(512):
        rows.row("steps", step, 1)
    find_tiles = snapshot.list_tiles

    def late(*arguments):
        tiles = find_tiles(*arguments)
        writer.close()
        return tiles

    monkeypatch.setattr(snapshot, "list_tiles", late)
    assert load(tmp_path / "run").source.rows("steps", 0, FOREVER)[0].tolist() == list(range(512))


def test_flipped_bits_of_an_unfinished_run_are_damage(record):
    path, _ = record(steps=700, resume_at=650, again=100)
    manifest = path / "norms" / "tiles.jsonl"
    data = bytearray(manifest.read_bytes())
    data[10] ^= 1
    manifest.write_bytes(data)
    with pytest.raises(StoreError, match=r"line 1 of .*tiles\.jsonl to fit its checksum"):
        load(path)


def test_a_tile_that_is_not_there(record):
    """It is damage to a finished run; the copy of one that goes on may lack it."""
    path, _ = record(steps=700)
    (path / "norms" / "000000000000-256.npy").unlink()
    with pytest.raises(StoreError, match=r"000000000000-256\.npy, which its tiles\.jsonl lists, but it does not"):
        load(path)
    path, _ = record("other", steps=700, resume_at=650, again=100)
    (path / "norms" / "000000000000-256.npy").unlink()
    with pytest.warns(StoreWarning, match=r"000000000000-256\.npy, which its tiles\.jsonl lists.*Copy it again"):
        run = load(path)
    assert run.source.rows("norms", 0, 1000)[0].tolist() == list(range(256, 750))
