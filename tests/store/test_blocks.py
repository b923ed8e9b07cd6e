import numpy as np
import pytest

from auscult.core.digest import BLOCK_STEPS, NEVER, digest_rows
from auscult.core.sink import Channel, Record, empty_row
from auscult.store.blocks import COARSE_STEPS, coarsen_blocks, empty_values
from auscult.store.reader import load
from auscult.store.writer import StoreWriter

NAMES = tuple(Channel("grad_norm", name) for name in ("noise", "zeros", "broken", "rare", "never", "young"))
START = 3 * COARSE_STEPS


def rows_of_one_window():
    """1,024 rows `(R, 6)`; `young` is recorded from the fifth block on."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((COARSE_STEPS, len(NAMES))).astype(np.float32)
    unobserved = empty_row("norms", 1)[0]
    rows[700:, 1] = 0.0
    rows[[130, 140], 1] = 0.0
    rows[[77, 901], 2] = np.nan
    rows[500, 2] = np.inf
    rows[np.arange(COARSE_STEPS) % 100 != 37, 3] = unobserved
    rows[:, 4] = unobserved
    rows[:256, 5] = unobserved
    rows[600, 0] = -40.0
    return rows


def blocks_of(rows, start=START):
    steps = np.arange(start, start + len(rows))
    for first in range(0, len(rows), BLOCK_STEPS):
        width = 5 if first < 256 else 6
        part = np.ascontiguousarray(rows[first : first + BLOCK_STEPS, :width])
        yield digest_rows(
            "norms", NAMES[:width], steps[first : first + BLOCK_STEPS], part, int(steps[first]) + BLOCK_STEPS
        )


@pytest.fixture
def coarse():
    return coarsen_blocks(list(blocks_of(rows_of_one_window())))


def test_counts_extremes_and_ends_are_those_of_the_rows(coarse):
    rows = rows_of_one_window()
    assert (coarse.start, coarse.stop, coarse.channels) == (START, START + COARSE_STEPS, NAMES)
    for position in range(len(NAMES)):
        column, block = rows[:, position], coarse.values[position]
        seen = np.flatnonzero(column.copy().view(np.uint32) != 0x7FC0A05C)
        finite = seen[np.isfinite(column[seen])]
        bad = np.setdiff1d(seen, finite)
        assert block["count"] == len(seen)
        assert block["finite"] == len(finite)
        assert block["zeros"] == (column[finite] == 0).sum()
        ends = (bad[0], bad[-1]) if len(bad) else (NEVER, NEVER)
        assert (block["nonfinite_at"], block["nonfinite_last"]) == ends
        np.testing.assert_array_equal(block["nonfinite"], column[bad[0]] if len(bad) else 0.0)
        if not len(seen):
            assert (block["first_at"], block["last_at"], block["maximum_at"]) == (NEVER, NEVER, NEVER)
            assert np.isnan(
                [block[name] for name in ("minimum", "maximum", "mean", "log_median", "first", "last")]
            ).all()
            continue
        assert (block["first_at"], block["last_at"]) == (seen[0], seen[-1])
        np.testing.assert_array_equal([block["first"], block["last"]], column[seen[[0, -1]]])
        assert (block["minimum"], block["maximum"]) == (column[finite].min(), column[finite].max())
        assert block["maximum_at"] == finite[np.abs(column[finite]).argmax()]
        np.testing.assert_allclose(block["mean"], column[finite].astype(float).mean(), atol=1e-6)


def test_a_streak_of_zeros_reaches_over_blocks(coarse):
    assert (coarse.values["zeros_from"][1], coarse.values["zero_tail"][1]) == (700, COARSE_STEPS - 700)
    assert (coarse.values["zeros_from"][0], coarse.values["zero_tail"][0]) == (NEVER, 0)


def test_the_median_is_the_median_of_medians(coarse):
    rows = rows_of_one_window()[:, 0].astype(float)
    medians = np.median(np.log10(np.abs(rows)).reshape(16, 64), axis=1)
    np.testing.assert_allclose(coarse.values["log_median"][0], np.median(medians), rtol=1e-6)


def test_empty_values_are_those_of_rows_without_a_value():
    rows = np.tile(empty_row("norms", 3), (5, 1))
    assert empty_values("norms", 3).tobytes() == digest_rows("norms", NAMES[:3], np.arange(5), rows, 5).values.tobytes()


def write(writer, start, stop, rows):
    for first in range(start, stop, BLOCK_STEPS):
        for step in range(first, min(first + BLOCK_STEPS, stop)):
            writer.write(Record("norms", step, NAMES, rows[step % len(rows)]))
        if first + BLOCK_STEPS <= stop:
            steps = np.arange(first, first + BLOCK_STEPS)
            writer.write_block(digest_rows("norms", NAMES, steps, rows[steps % len(rows)], first + BLOCK_STEPS))


def expect_blocks(blocks, truth, size):
    rows = rows_of_one_window()
    for block in blocks:
        steps = np.arange(block.start, block.stop)
        fine = [
            digest_rows("norms", NAMES, part, rows[truth(part)], int(part[-1]) + 1)
            for part in np.split(steps, len(steps) // 64)
        ]
        expected = fine[0] if size == BLOCK_STEPS else coarsen_blocks(fine)
        assert block.values.tobytes() == expected.values.tobytes()


def test_both_levels_are_read_back(tmp_path, info):
    writer = StoreWriter.create(tmp_path / "run", info())
    write(writer, 0, 5 * COARSE_STEPS + 200, rows_of_one_window())
    writer.close()
    source = load(tmp_path / "run").source
    fine, coarse = list(source.blocks("norms")), list(source.blocks("norms", level=COARSE_STEPS))
    assert [block.start for block in fine] == list(range(0, 5 * COARSE_STEPS + 192, 64))
    assert [(block.start, block.stop) for block in coarse] == [
        *((start, start + 1024) for start in range(0, 5 * 1024, 1024)), (5 * 1024, 5 * 1024 + 192),
    ]  # fmt: skip
    expect_blocks(fine, lambda steps: steps % 1024, 64)
    expect_blocks(coarse, lambda steps: steps % 1024, 1024)
    assert (tmp_path / "run" / "norms" / "digest-1024.log").stat().st_size > 0
    (tmp_path / "run" / "norms" / "digest-1024.log").unlink()
    again = list(load(tmp_path / "run").source.blocks("norms", level=COARSE_STEPS))
    assert [block.values.tobytes() for block in again] == [block.values.tobytes() for block in coarse]


def test_blocks_that_a_resume_cut_are_summed_up_from_rows(tmp_path, info, segment):
    """Two resumes: inside a block, and at the start of one that an earlier resume had cut into."""
    rows = rows_of_one_window()
    writer = StoreWriter.create(tmp_path / "run", info())
    writer.begin_segment(segment(0))
    write(writer, 0, 1500, rows)
    writer.close()
    for resume_at, stop, shift in ((1100, 1300, 5), (1024, 2100, 9)):
        writer = StoreWriter.create(tmp_path / "run", info(), "resume")
        writer.begin_segment(segment(resume_at))
        for step in range(resume_at, stop):
            writer.write(Record("norms", step, NAMES, rows[(step + shift) % 1024]))
            if step % 64 == 63 and step - 63 >= resume_at:  # a monitor that does not know the rows before the resume
                steps = np.arange(step - 63, step + 1)
                writer.write_block(digest_rows("norms", NAMES, steps, rows[(steps + shift) % 1024], step + 1))
        writer.close()
        source = load(tmp_path / "run").source

        def truth(steps, resume_at=resume_at, shift=shift):
            return np.where(steps < resume_at, steps, steps + shift) % 1024

        fine = list(source.blocks("norms"))
        assert [block.start for block in fine] == list(range(0, stop - stop % 64, 64))
        expect_blocks(fine, truth, 64)
        expect_blocks(list(source.blocks("norms", level=COARSE_STEPS)), truth, 1024)
