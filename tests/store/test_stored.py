import numpy as np
import pytest

from auscult.core.sink import Channel, Record
from auscult.store.reader import load
from auscult.store.writer import StoreWriter

FOREVER = 1 << 60


def test_a_run_that_is_held_while_training_goes_on_hands_out_each_row_once(tmp_path, info, segment):
    """Behind two merged tiles, the tiles that the run found are merged and removed before they are read."""
    writer = StoreWriter.create(tmp_path / "run", info())
    writer.begin_segment(segment())
    channels = (Channel("loss", ""),)

    def train(start, stop):
        for step in range(start, stop):
            writer.write(Record("steps", step, channels, np.array([step], np.float32)))

    train(0, 8192 + 1500)
    writer.close()  # two tiles of 4,096 rows and five of 256
    writer = StoreWriter.create(tmp_path / "run", info(), "resume")
    writer.begin_segment(segment(8192 + 1500))
    held = [load(tmp_path / "run") for _ in range(5)]
    assert [len(each.steps) for each in held[1:]] == [8192 + 1500] * 4  # these know where each row was
    assert len(list((tmp_path / "run" / "steps").glob("*-4096.npy"))) == 2
    train(8192 + 1500, 3 * 4096 + 300)
    writer.close()
    assert not (tmp_path / "run" / "steps" / "000000008192-256.npy").exists()

    expected = np.arange(8192 + 1500)
    for run in held[:2]:
        np.testing.assert_array_equal(run.series("loss").steps, expected)
        np.testing.assert_array_equal(run.series("loss").values, expected)
    np.testing.assert_array_equal(held[2].steps, expected)
    np.testing.assert_array_equal(held[3].source.rows("steps", 0, FOREVER)[0], expected)
    half = held[4].source.columns("steps", [0], FOREVER)  # begun before another reader finds that tiles are gone
    parts = [next(half)]
    assert len(held[4].steps) == len(expected)
    parts += half
    np.testing.assert_array_equal(np.concatenate([steps for steps, _ in parts]), expected)
    np.testing.assert_array_equal(np.concatenate([values[0] for _, values in parts]), expected)


def test_rows_between_tiles_are_in_order(record, check, monkeypatch):
    """A tile is damaged while its tail is still there: its rows come before those of the next tile."""
    path, truth = record(steps=1000)
    monkeypatch.setattr("auscult.store.rowlog.Sealer.submit", lambda *args, **kwargs: None)
    unsealed, _ = record("unsealed", steps=1000)
    for stream in ("steps", "norms"):
        (path / stream / "000000000256-256.npy").unlink()
        tail = (unsealed / stream / "tail-000000000256.log").read_bytes()
        (path / stream / "tail-000000000256.log").write_bytes(tail)
    check(load(path), truth)


@pytest.fixture
def rewound(tmp_path, info, segment, recorder):
    """A run that goes back from step 560 to 540, with the line of that damaged, and its truth."""

    def build(cadence):
        writer = StoreWriter.create(tmp_path / "run", info())
        truth = None
        for start, stop in ((0, 560), (540, 640)):
            if truth is not None:
                writer = StoreWriter.create(tmp_path / "run", info(), "resume")
                truth.forget(start)
            writer.begin_segment(segment(start))
            rows = recorder(writer, truth, seed=start)
            truth = rows.truth
            for step in range(start, stop):
                rows.row("steps", step, 1)
                if (step - start) % cadence == cadence - 1:
                    rows.row("user", step, 2)
            writer.close()
        events = (tmp_path / "run" / "events.jsonl").read_bytes()
        at = events.rindex(b'"kind": "segment"')
        (tmp_path / "run" / "events.jsonl").write_bytes(events[:at] + b"#" + events[at + 1 :])
        return load(tmp_path / "run", skip_damage=True), truth

    return build


@pytest.mark.parametrize("cadence", [50, 7, 3])
def test_what_a_lost_segment_made_obsolete_is_left_out_of_all_streams(rewound, cadence):
    run, truth = rewound(cadence)
    assert run.damage
    steps, values = truth.table("steps")
    np.testing.assert_array_equal(run.source.rows("steps", 0, FOREVER)[0], steps)
    steps, values = truth.table("user")
    read_steps, read = run.source.rows("user", 0, FOREVER)
    if cadence == 50:  # 499, 549 | 589, 639: nothing shows that 549 was written before the resume
        assert read_steps.tolist() == [*range(49, 540, 50), 589, 639]
    else:
        np.testing.assert_array_equal(read_steps, steps)
    at = np.searchsorted(steps, read_steps)
    np.testing.assert_array_equal(read.view(np.uint64), values[at].copy().view(np.uint64))
