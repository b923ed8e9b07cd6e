"""What another rank rescued stands behind what the run has itself, each step once; a resume takes it in."""

from pathlib import Path

import numpy as np
import pytest

from auscult.core.errors import StoreError
from auscult.core.run import RunInfo, Segment
from auscult.core.sink import Channel, Rows
from auscult.store.reader import load
from auscult.store.rescued import write_rescued
from auscult.store.writer import StoreWriter

INFO = RunInfo("0", "run", 0.0, 1, {}, (), None, "", {}, "", ())
OLD, NEW = Channel("grad_norm", "a"), Channel("grad_norm", "b")


def rows(stream, steps, channels=None, offset=0.0):
    channels = channels or (OLD if stream == "norms" else Channel(f"of_{stream}", ""),)
    dtype = np.float64 if stream == "user" else np.float32
    values = np.array([[step + offset + number / 8 for number in range(len(channels))] for step in steps], dtype)
    return Rows(stream, np.array(steps, np.int64), tuple(channels), values)


def begun(path: Path) -> StoreWriter:
    """A run with ten steps that nobody has closed."""
    writer = StoreWriter.create(path, INFO)
    writer.begin_segment(Segment(0, 0.0))
    for stream in ("norms", "steps"):
        writer.write_rows(rows(stream, range(10)))
    return writer


def test_rows_stand_behind_those_of_the_run(tmp_path) -> None:
    begun(tmp_path / "run")
    write_rescued(tmp_path / "run", 0, [rows("norms", range(8, 13), (NEW, OLD), 1.0), rows("steps", range(8, 13))])
    run = load(tmp_path / "run")
    assert run.steps.tolist() == list(range(13))
    assert run.series("grad_norm", "a").values.tolist() == [*range(10), *(step + 1.125 for step in range(10, 13))]
    assert run.series("grad_norm", "b").steps.tolist() == [10, 11, 12]


def test_several_files_and_streams_that_the_run_never_had(tmp_path) -> None:
    begun(tmp_path / "run")
    for last in (12, 14, 14):
        write_rescued(tmp_path / "run", 0, [rows(stream, range(9, last)) for stream in ("user", "steps")])
    assert len(list((tmp_path / "run" / "rescued").iterdir())) == 2
    run = load(tmp_path / "run")
    assert run.steps.tolist() == list(range(14))
    steps, values = run.source.rows("user", 0, 99)
    assert steps.tolist() == values[:, 0].tolist() == list(range(9, 14))


def test_a_resume_takes_them_in(tmp_path) -> None:
    begun(tmp_path / "run").close()
    write_rescued(tmp_path / "run", 0, [rows("norms", range(8, 13)), rows("steps", range(8, 13))])
    before = load(tmp_path / "run").series("grad_norm", "a")
    writer = StoreWriter.create(tmp_path / "run", INFO, "resume")
    writer.begin_segment(Segment(13, 0.0))
    writer.write_rows(rows("norms", [13]))
    writer.write_rows(rows("steps", [13]))
    writer.close()
    after = load(tmp_path / "run").series("grad_norm", "a")
    assert after.steps.tolist() == list(range(14))
    np.testing.assert_array_equal(after.values[:13], before.values)


@pytest.mark.parametrize("segment", [0, 1])
def test_they_do_not_count_in_a_run_that_ended_or_went_on(tmp_path, segment) -> None:
    writer = begun(tmp_path / "run")
    write_rescued(tmp_path / "run", 0, [rows("steps", range(8, 13))])
    if segment:
        writer.begin_segment(Segment(10, 0.0))
    else:
        writer.write_event("end", 9, reason="closed")
    assert load(tmp_path / "run").steps.tolist() == list(range(10))


def test_damage_is_reported(tmp_path) -> None:
    begun(tmp_path / "run")
    write_rescued(tmp_path / "run", 0, [rows("steps", range(8, 13))])
    (file,) = (tmp_path / "run" / "rescued").iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(StoreError, match="checksum"):
        load(tmp_path / "run")
    run = load(tmp_path / "run", skip_damage=True)
    assert run.steps.tolist() == list(range(10)) and len(run.damage) == 1
