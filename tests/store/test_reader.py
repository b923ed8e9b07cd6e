import json
import shutil
import subprocess
import sys
import textwrap

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


def test_the_directory_above_many_runs(tmp_path, info):
    for name in ("a", "b"):
        StoreWriter.create(tmp_path / name, info()).close()
    with pytest.raises(StoreError, match="a directory of 2 runs") as raised:
        load(tmp_path)
    assert f"`auscult runs {tmp_path}`" in str(raised.value) and "Did you mean" not in str(raised.value)


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
    _, folded = digest_run(load(path, skip_damage=True))
    assert stored.step == folded.step == 699
    kept = [stored.index.positions[channel] for channel in folded.channels]
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


REFUSED = """
    import os, sys
    from auscult.core.errors import StoreError
    from auscult.store.reader import load
    if os.geteuid() == 0:
        os.setuid(65534)
    for refused in sys.argv[1:]:
        for skip_damage in (False, True):
            try:
                run = load(f"copy-{refused.replace('/', '-')}", skip_damage=skip_damage)
                run.series("grad_norm", "p0"), list(run.source.blocks("norms"))
                print("read")
            except StoreError as error:
                print(error)
"""


def test_what_may_not_be_read_is_named(record):
    path, _ = record(steps=700)
    path.parent.chmod(0o755)
    names = ["run.json", "channels.jsonl", "events.jsonl", "norms", ""]
    names += [
        f"norms/{name}" for name in ("000000000256-256.npy", "tail-000000000512.log", "tiles.jsonl", "digest.log")
    ]
    for name in names:
        copy = shutil.copytree(path, path.parent / f"copy-{name.replace('/', '-')}")
        (copy / name).chmod(0)
    command = [sys.executable, "-c", textwrap.dedent(REFUSED), *names]
    child = subprocess.run(command, capture_output=True, text=True, cwd=path.parent, check=False)
    for name in names:
        (path.parent / f"copy-{name.replace('/', '-')}" / name).chmod(0o755)
    assert not child.stderr
    lines = child.stdout.splitlines()
    assert len(lines) == 2 * len(names)
    for name, line in zip(np.repeat(names, 2), lines):
        copy = f"copy-{name.replace('/', '-')}"
        assert line.startswith(f"Expected {copy}/{name}")
        assert "to be readable, but got: Permission denied. " in line
        assert line.endswith(f"chmod -R a+rX {copy}.")


@pytest.mark.parametrize("name", ["run.json", "events.jsonl", "norms/tail-000000000512.log", "norms/digest.log"])
@pytest.mark.parametrize("skip_damage", [False, True])
def test_a_directory_in_the_place_of_a_file(record, name, skip_damage):
    path, _ = record(steps=700)
    (path / name).unlink()
    (path / name).mkdir()
    with pytest.raises(StoreError, match=f"Expected {path / name} to be readable, but got: Is a directory"):
        list(load(path, skip_damage=skip_damage).source.blocks("norms"))


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "run.json/" * 3])
def test_a_path_that_cannot_be(path):
    with pytest.raises(StoreError, match="Expected "):
        load(path)
    assert list_runs(path) == []


def test_a_run_that_is_removed_while_it_is_held(record):
    path, _ = record(steps=700)
    run = load(path)
    shutil.rmtree(path)
    with pytest.raises(StoreError, match="Was the run moved or removed"):
        run.series("grad_norm", "p0")


def test_rows_of_which_none_can_be_named(record):
    path, _ = record(steps=300)
    (path / "channels.jsonl").unlink()
    with pytest.raises(StoreError, match=r"channels\.jsonl to name the channels of the run, but it names none"):
        load(path)
    run = load(path, skip_damage=True)
    assert run.streams == ()
    assert run.damage


def test_channels_that_a_finished_run_lacks(record):
    path, _ = record(steps=400)
    lines = (path / "channels.jsonl").read_bytes().splitlines(keepends=True)
    (path / "channels.jsonl").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(StoreError, match="to name 5 channels of norms, but got 4"):
        load(path)
    assert len(load(path, skip_damage=True).source.channels("norms")) == 4


def test_a_run_that_goes_on_is_shown_at_one_moment(tmp_path, info, segment, recorder, monkeypatch):
    """Rows are written between the reading of one stream and that of the next."""
    from auscult.store.snapshot import take_snapshot

    writer = StoreWriter.create(tmp_path / "run", info())
    writer.begin_segment(segment())
    rows = recorder(writer)

    def train(start, stop):
        for step in range(start, stop):
            rows.row("steps", step, 1)
            rows.row("norms", step, 1)

    def look_slowly(*arguments):
        snapshot = take_snapshot(*arguments)
        train(rows.writer._streams["norms"].last_step + 1, rows.writer._streams["norms"].last_step + 40)
        return snapshot

    train(0, 300)
    monkeypatch.setattr("auscult.store.reader.take_snapshot", look_slowly)
    run = load(tmp_path / "run")
    assert run.last_step == 299
    assert run.stop == 300
    assert run.series("grad_norm", "p0").steps.max() < 300
    monkeypatch.undo()
    writer.begin_segment(segment(200))  # nothing was written since
    assert load(tmp_path / "run").stop == 200
    train(200, 210)
    assert load(tmp_path / "run").stop == 210
    writer.write_event("end", 209)
    writer.close()
    assert load(tmp_path / "run").stop > 1 << 60
