import shutil

import numpy as np
import pytest

from auscult.core.errors import StoreError
from auscult.store.damage import StoreWarning
from auscult.store.lines import encode_line, read_lines
from auscult.store.reader import load
from auscult.store.writer import StoreWriter


def rewrite_events(path, change):
    """Every line of `events.jsonl` as `change` wants it; None leaves it out."""
    lines = [change(dict(each)) for each in read_lines(path / "events.jsonl").objects]
    (path / "events.jsonl").write_bytes(b"".join(encode_line(each) for each in lines if each is not None))


def without_end(line):
    return None if line["kind"] == "end" else line


def shorten(path):
    tail = path / "norms" / "tail-000000000512.log"
    tail.write_bytes(tail.read_bytes()[:-300])


@pytest.mark.parametrize(
    ("lose", "message"),
    [
        (shorten, r"norms to hold 700 rows, as events\.jsonl says, but rows \d+ to 699 are missing"),
        (lambda path: (path / "norms" / "tail-000000000512.log").unlink(), "norms .* but rows 512 to 699 are missing"),
        (lambda path: (path / "user" / "tail-000000000000.log").unlink(), "user .* but rows 0 to 174 are missing"),
        (lambda path: shutil.rmtree(path / "user"), "user .* but rows 0 to 174 are missing"),
        (lambda path: shutil.rmtree(path / "steps"), "steps .* but rows 0 to 699 are missing"),
    ],
)
def test_a_finished_run_without_its_last_rows_is_damaged(record, lose, message):
    path, truth = record(steps=700)
    lose(path)
    with pytest.raises(StoreError, match=rf"{message}.*Copy it again\. `load\(path, skip_damage=True\)`"):
        load(path)
    run = load(path, skip_damage=True)
    assert len(run.damage) == 1
    for stream in run.streams:
        steps, _ = truth.table(stream)
        read = run.source.rows(stream, 0, 1000)[0]
        np.testing.assert_array_equal(read, steps[: len(read)])


def test_a_killed_run_may_lack_its_last_rows(record):
    path, _ = record(steps=700)
    rewrite_events(path, without_end)
    shorten(path)
    run = load(path)
    assert not run.damage
    assert 512 < len(run.source.rows("norms", 0, 1000)[0]) < 700


def test_a_stream_that_an_unfinished_run_lacks_is_told(record):
    path, _ = record(steps=700)
    rewrite_events(path, without_end)
    shutil.rmtree(path / "user")
    with pytest.warns(StoreWarning, match=r"user to be there, as channels\.jsonl says, but it is not.*Copy it again"):
        run = load(path)
    assert run.streams == ("steps", "norms")
    assert len(run.damage) == 1


def test_rows_before_a_segment_are_counted_too(record):
    path, _ = record(steps=700, resume_at=700, again=0)
    assert not load(path).damage
    (path / "norms" / "tail-000000000512.log").unlink()
    with pytest.warns(StoreWarning, match="norms to hold 700 rows.*rows 512 to 699 are missing"):
        run = load(path)  # it has no end after its last segment
    assert len(run.damage) == 1


def test_rows_that_were_gone_at_a_resume_stay_told(record, info, segment, recorder):
    path, truth = record(steps=700)
    (path / "norms" / "tail-000000000512.log").unlink()
    writer = StoreWriter.create(path, info(), "resume")
    writer.begin_segment(segment(700))
    rows = recorder(writer, truth, seed=3)
    for step in range(700, 1000):
        rows.row("norms", step, 5)
    writer.write_event("end", 999)
    writer.close()
    with pytest.warns(StoreWarning, match="norms to hold rows 512 to 699 when the run was resumed"):
        run = load(path)
    assert run.source.rows("norms", 0, 1000)[0].tolist() == [*range(512), *range(700, 1000)]


def test_a_run_of_before_rows_were_counted(record, check):
    path, truth = record(steps=700)

    def forget_counts(line):
        if line["kind"] == "end":
            del line["ordinals"]
        return line

    rewrite_events(path, forget_counts)
    run = load(path)
    check(run, truth)
    assert run.finished
    assert not run.damage


def test_an_end_that_comes_while_the_run_is_read(tmp_path, info, segment, recorder, check, monkeypatch):
    """Rows, a new stream and the end are written between the reading of the rows and that of the events."""
    from auscult.store.history import read_history

    writer = StoreWriter.create(tmp_path / "run", info())
    writer.begin_segment(segment())
    rows = recorder(writer)
    for step in range(300):
        rows.row("steps", step, 1)

    def read_late(path, segments):
        for step in range(300, 600):
            rows.row("steps", step, 1)
            rows.row("norms", step, 2)
        writer.write_event("end", 599)
        writer.close()
        return read_history(path, segments)

    monkeypatch.setattr("auscult.store.reader.read_history", read_late)
    run = load(tmp_path / "run")
    check(run, rows.truth)
    assert not run.damage


def test_lost_rows_are_told_unless_they_were_made_again(record, info, segment):
    path, _ = record(steps=300)
    writer = StoreWriter.create(path, info(), "resume")
    writer.begin_segment(segment(300))
    writer.write_event("lost", 310, stream="norms", rows=2, last_step=311)
    writer.close()
    with pytest.warns(StoreWarning, match=r"between the steps 310 and 311 could not be written \(2 in all\)"):
        assert len(load(path).damage) == 1
    writer = StoreWriter.create(path, info(), "resume")
    writer.begin_segment(segment(305))
    writer.close()
    assert not load(path).damage
