import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from auscult.core.digest import digest_run
from auscult.core.errors import StoreError
from auscult.store.damage import StoreWarning
from auscult.store.lines import encode_object
from auscult.store.reader import list_runs, load
from auscult.store.writer import StoreWriter


@pytest.mark.parametrize(
    ("prepare", "found"),
    [
        (lambda path: None, "there is no such directory"),
        (lambda path: path.mkdir(), "the directory is empty"),
        (lambda path: path.write_text("x"), "it is a file"),
        (lambda path: (path.mkdir(), (path / "x").write_text("x")), "the directory holds other files only"),
    ],
)
def test_what_is_not_a_run(tmp_path, prepare, found):
    path = tmp_path / "mnist"
    prepare(path)
    with pytest.raises(StoreError) as raised:
        load(path)
    assert str(raised.value) == (
        f"Expected {path} to hold a run (run.json), but {found}. Was `watch(...)` given another path?"
    )


def test_the_directory_above_a_run(tmp_path, info):
    StoreWriter.create(tmp_path / "run", info()).close()
    with pytest.raises(StoreError, match=f"Did you mean {tmp_path / 'run'}"):
        load(tmp_path)


def test_a_later_format_is_refused(record):
    path, _ = record(steps=10)
    stored = json.loads((path / "run.json").read_text())
    del stored["crc32"]
    stored = {**stored, "format_version": 9, "versions": {"auscult": "4.2.0"}}
    (path / "run.json").write_bytes(encode_object(stored, indent=2) + b"\n")
    with pytest.raises(StoreError, match=r"pip install 'auscult>=4\.2\.0'"):
        load(path)


def test_keys_of_a_later_minor_version_are_ignored(record, check):
    path, truth = record(steps=10)
    stored = json.loads((path / "run.json").read_text())
    del stored["crc32"]
    (path / "run.json").write_bytes(encode_object({**stored, "mood": "good"}, indent=2) + b"\n")
    check(load(path), truth)


def test_nan_and_not_observed_are_kept_apart(record):
    path, truth = record()
    series = load(path).series("grad_norm", "p1")
    values = np.array([row[1] for row in truth.rows["norms"].values()])
    seen = values.view(np.uint32) != 0x7FC0A05C
    np.testing.assert_array_equal(series.steps, np.flatnonzero(seen))
    np.testing.assert_array_equal(series.values, values[seen])
    assert np.isnan(series.values).any()
    assert 0 < seen.sum() < len(seen)


def test_a_column_younger_than_its_rows_is_unobserved_there(record):
    path, _ = record()
    assert load(path).series("grad_norm", "p4").steps[0] >= 300


def test_until_and_pieces_of_rows(record):
    path, truth = record()
    run = load(path)
    steps, values = truth.table("norms")
    for start, stop in ((0, 1), (250, 260), (511, 513), (690, 10_000), (5, 5)):
        inside = (steps >= start) & (steps < stop)
        read_steps, read = run.source.rows("norms", start, stop)
        np.testing.assert_array_equal(read_steps, steps[inside])
        np.testing.assert_array_equal(read.view(np.uint32), values[inside].view(np.uint32))
    assert run.until(299).series("grad_norm", "p0").steps.max() <= 299


def test_reading_changes_nothing(record, check):
    path, truth = record()
    for each in [*path.rglob("*"), path]:
        each.chmod(0o555 if each.is_dir() else 0o444)
    before = {each: each.stat() for each in path.rglob("*")}
    code = (
        "import os, sys; from auscult.store.reader import load; os.geteuid() or os.setuid(65534); "
        "run = load('run'); print(len(run.series('grad_norm', 'p0')), 'torch' in sys.modules)"
    )
    path.parent.chmod(0o755)
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=path.parent, check=False)
    assert child.stdout.split() == [str(len(load(path).series("grad_norm", "p0"))), "False"], child.stderr
    check(load(path, skip_damage=True), truth)
    after = {each: each.stat() for each in path.rglob("*")}
    assert {each: (stat.st_mtime_ns, stat.st_size) for each, stat in before.items()} == {
        each: (stat.st_mtime_ns, stat.st_size) for each, stat in after.items()
    }
    for each in [path, *path.rglob("*")]:
        each.chmod(0o755 if each.is_dir() else 0o644)


def test_runs_are_listed_to_a_depth(tmp_path, info):
    for name in ("b", "a/x", "a/y/z", "too/deep/for/it"):
        StoreWriter.create(tmp_path / name, info()).close()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run.json").write_text('{"name": "somebody else"}')
    assert list_runs(tmp_path) == [tmp_path / "a/x", tmp_path / "a/y/z", tmp_path / "b"]
    assert list_runs(tmp_path / "b") == [tmp_path / "b"]
    assert list_runs(tmp_path / "nowhere") == []


def test_a_run_that_goes_on_can_be_read(tmp_path, info, recorder):
    """Every look finds a gapless prefix, also while tiles are sealed and merged; a loaded run stays as it was."""
    writer = StoreWriter.create(tmp_path / "run", info())
    rows = recorder(writer)
    rows.row("norms", 0, 2)
    first = load(tmp_path / "run")
    early = None
    for step in range(1, 4096 + 600):
        rows.row("norms", step, 2)
        if step == 1000:
            early = load(tmp_path / "run")
            assert len(early.source.rows("norms", 0, 10_000)[0]) == 1001
        if step % 97 == 0:
            steps, values = load(tmp_path / "run").source.rows("norms", 0, 10_000)
            assert steps.tolist() == list(range(step + 1))
            assert values[-1].tobytes() == rows.truth.rows["norms"][step].tobytes()
    writer.close()
    assert early is not None
    assert not list((tmp_path / "run" / "norms").glob("000000000000-256.npy"))  # merged under the early run's feet
    assert early.source.rows("norms", 0, 10_000)[0].tolist() == list(range(1001))
    assert first.source.rows("norms", 0, 10_000)[0].tolist() == [0]


def test_a_hole_is_told(record):
    path, _ = record(steps=700)
    (path / "norms" / "000000000000-256.npy").unlink()
    manifest = (path / "norms" / "tiles.jsonl").read_text().splitlines(keepends=True)
    with pytest.raises(StoreError, match=r"hold 000000000000-256\.npy.*skip_damage=True"):
        load(path)
    skipped = load(path, skip_damage=True)
    assert len(skipped.damage) == 1
    (path / "norms" / "tiles.jsonl").write_text("".join(manifest[1:]))
    with pytest.warns(StoreWarning, match="rows 0 to 255, but they are missing"):
        run = load(path)
    assert len(run.damage) == 1
    assert run.source.rows("norms", 0, 1000)[0][0] == 256


def test_a_tile_that_the_manifest_lacks_is_used(record, check):
    path, truth = record(steps=700)
    (path / "norms" / "tiles.jsonl").unlink()
    check(load(path), truth)


def test_damage_names_the_file_and_the_way_on(record):
    path, truth = record(steps=700)
    tile = path / "norms" / "000000000256-256.npy"
    data = bytearray(tile.read_bytes())
    size = 4 * 256
    values_at = len(data) - 136 - 5 * size
    data[values_at + 2 * size + 17] ^= 4
    tile.write_bytes(data)
    run = load(path)
    assert len(run.series("grad_norm", "p1"))  # its own values are right
    with pytest.raises(StoreError, match=rf"channel 2 of {tile}.*load\(path, skip_damage=True\)"):
        run.series("grad_norm", "p2")
    skipped = load(path, skip_damage=True)
    assert len(skipped.damage) == 1
    assert str(tile) in skipped.damage[0]
    left = skipped.series("grad_norm", "p2").steps
    assert not ((left >= 256) & (left < 512)).any()
    total = skipped.series("grad_norm").steps  # a total without one of its parts would be wrong
    assert not ((total >= 256) & (total < 512)).any()
    steps, values = skipped.source.rows("norms", 256, 512)
    truth_values = truth.table("norms")[1][256:512]
    np.testing.assert_array_equal(
        values[:, 3].view(np.uint32), np.ascontiguousarray(truth_values[:, 3]).view(np.uint32)
    )
    assert len(steps) == 256


def test_a_lost_segment_is_told(record):
    path, _ = record(steps=300, resume_at=200)
    events = (path / "events.jsonl").read_text().splitlines(keepends=True)
    (path / "events.jsonl").write_text("".join(events[:-1]))
    with pytest.raises(StoreError, match="2 segments, but got 1"):
        load(path)
    assert np.all(np.diff(load(path, skip_damage=True).source.rows("norms", 0, 1000)[0]) > 0)


def test_stored_blocks_and_rows_fold_to_one_digest(record):
    path, _ = record(steps=700)
    _, stored = digest_run(load(path))
    shutil.rmtree(path / "user")
    for log in path.rglob("digest*.log"):
        log.unlink()
    _, folded = digest_run(load(path))
    assert stored.step == folded.step == 699
    kept = [stored.index[channel] for channel in folded.channels]
    assert stored.state[kept].tobytes() == folded.state.tobytes()


def test_a_relative_path_survives_a_change_of_directory(tmp_path, info, recorder, check, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = recorder(StoreWriter.create("run", info()))
    rows.row("norms", 0, 1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for step in range(1, 600):
        rows.row("norms", step, 1)
    rows.writer.close()
    check(load("../run"), rows.truth)
