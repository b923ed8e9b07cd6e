from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.pages.conftest import MemorySource

from auscult.core.digest import BLOCK_STEPS, Block, digest_rows
from auscult.core.metric import Stream
from auscult.core.run import Run
from auscult.core.sink import Values
from auscult.pages.sweep import sweep
from auscult.pages.tables import heatmap_table


@pytest.mark.parametrize(("steps", "columns"), [(201, 600), (1000, 120), (1537, 600)])
@pytest.mark.parametrize("metric", ["grad_norm", "update_ratio"])
def test_one_pass_equals_numpy(run_of: Callable[..., Run], steps: int, columns: int, metric: str) -> None:
    run = run_of(steps=steps)
    paths = run.paths("grad_norm")
    swept = sweep(run, metric, paths, columns)
    assert swept is not None
    table = np.stack([run.series(metric, path).values for path in paths])
    assert len(swept.starts) == min(steps, columns)
    assert swept.starts[0] == 0 and swept.stops[-1] == steps
    np.testing.assert_allclose(swept.centres, np.median(table, axis=1), rtol=1e-12)
    for column, (start, stop) in enumerate(zip(swept.starts, swept.stops)):
        np.testing.assert_array_equal(swept.low[:, column], table[:, start:stop].min(1))
        np.testing.assert_array_equal(swept.high[:, column], table[:, start:stop].max(1))
    np.testing.assert_array_equal(swept.lowest.values, table.min(0))
    np.testing.assert_array_equal(swept.highest.values, table.max(0))
    np.testing.assert_array_equal(swept.last, table[:, -1])
    assert swept.count.tolist() == [steps] * len(paths)


def test_nan_zero_and_hole_are_kept_apart(poisoned: Run) -> None:
    paths = (*poisoned.paths("grad_norm"), "never.seen")
    swept = sweep(poisoned, "grad_norm", paths)
    assert swept is not None
    row = paths.index("layers.1.weight")
    assert np.flatnonzero(swept.zero[row]).tolist() == list(range(10, 26))
    assert swept.nonfinite_at[row] == 41 and swept.nonfinite[row] == 160
    assert swept.nonfinite_at[paths.index("layers.2.weight")] == 40
    assert not swept.seen[-1].any() and np.isnan(swept.centres[-1]) and swept.count[-1] == 0
    assert np.isnan(swept.highest.values[40:]).all() and np.isnan(swept.lowest.values[41:]).all()
    assert np.isfinite(swept.lowest.values[40])


def test_sampled_rows_do_not_leave_gaps_between_columns(healthy: Run) -> None:
    swept = sweep(healthy, "activation_std", healthy.paths("activation_std"))
    assert swept is not None
    assert swept.starts.tolist() == list(range(0, 201, 8))
    np.testing.assert_array_equal(swept.stops[:-1], swept.starts[1:])


def test_a_long_pause_is_a_gap(maker: type) -> None:
    built = maker(steps=1001)
    steps = np.r_[np.arange(0, 100, 10), np.arange(900, 1000, 10)]
    built.add("sampled", "activation_std", "a", np.ones(20), steps)
    swept = sweep(built.make(), "activation_std", ("a",))
    assert swept is not None
    assert (swept.starts[9], swept.stops[9], swept.starts[10]) == (90, 110, 900)


def test_median_of_a_long_run_is_close(maker: type) -> None:
    values = np.exp(np.random.default_rng(0).standard_normal(40_000))
    built = maker(steps=40_000)
    built.add("norms", "grad_norm", "a", values)
    swept = sweep(built.make(), "grad_norm", ("a",))
    assert swept is not None
    assert abs(np.log10(swept.centres[0] / np.median(values))) < 0.02
    assert len(swept.starts) == 600
    assert swept.high.max() == np.float32(values.max())


def test_what_was_not_recorded_gives_nothing(healthy: Run, run_of: Callable[..., Run]) -> None:
    assert sweep(healthy, "activation_grad_std", ("layers.0",)) is None
    assert sweep(healthy, "grad_norm", ()) is None
    assert sweep(run_of(steps=0), "grad_norm", ("layers.0.weight",)) is None
    assert sweep(healthy, "grad_norm", ("never.seen",)) is None


def test_a_run_cut_short_is_swept_to_the_cut(healthy: Run) -> None:
    swept = sweep(healthy.until(50), "grad_norm", healthy.paths("grad_norm"))
    assert swept is not None and swept.starts[-1] == 50


class BlockSource(MemorySource):
    """The same with the digests of all but the last 100 steps, as a store has them, which counts what is read."""

    columns_read: int

    def columns(self, stream: Stream, positions: list[int], stop: int) -> Iterator[tuple[NDArray[np.int64], Values]]:
        object.__setattr__(self, "columns_read", max(getattr(self, "columns_read", 0), len(positions)))
        return super().columns(stream, positions, stop)

    def blocks(self, stream: Stream) -> list[Block]:
        channels, steps, rows = self.tables[stream]
        starts = np.unique(steps - steps % BLOCK_STEPS)
        inside = ((steps >= start) & (steps < start + BLOCK_STEPS) for start in starts if start < steps[-1] - 100)
        return [digest_rows(stream, channels, steps[at], rows[at], int(steps[at][-1]) + 1) for at in inside]


def long_run(maker: type, tables: dict[str, np.ndarray], steps: np.ndarray | None = None) -> tuple[Run, BlockSource]:
    built = maker(steps=len(next(iter(tables.values()))))
    for path, values in tables.items():
        built.add("norms", "grad_norm", path, values, steps)
    run = built.make()
    source = BlockSource(run.source.tables, {})
    return replace(run, source=source), source


@pytest.mark.parametrize("seed", range(6))
def test_a_picture_from_digests_shows_every_extreme_and_every_number_that_is_not_finite(seed, maker: type) -> None:
    random = np.random.default_rng(seed)
    count = 20_000
    steps = np.cumsum(random.choice([1, 1, 1, 3], count)) + int(random.integers(200))
    table = np.exp(random.standard_normal((6, count))).astype(np.float32)
    places = random.integers(count, size=12)
    table[0, places[0]], table[1, places[1]], table[2, places[2]] = 3e7, 2e-9, np.nan
    table[3, places[3:5]] = np.inf
    table[4, places[5:8]], table[4, places[8]] = 0.0, 1e-12
    table[5, places[9] :] = np.nan
    run, source = long_run(maker, {f"p{row}": values for row, values in enumerate(table)}, steps)
    paths = (*run.paths("grad_norm"), "never.seen")
    swept = sweep(run, "grad_norm", paths, 100)
    assert swept is not None and source.columns_read == 1  # the path with zeros
    assert swept.starts[0] == steps[0] and swept.stops[-1] == steps[-1] + 1
    assert not swept.seen[-1].any() and swept.count[-1] == 0
    assert (swept.seen[:-1].any(0)).all() and len(swept.starts) <= 100
    for column, (start, stop) in enumerate(zip(swept.starts, swept.stops)):
        cell = table[:, (steps >= start) & (steps < stop)].astype(np.float64)
        good = np.isfinite(cell) & (cell > 0)
        np.testing.assert_array_equal(swept.low[:-1, column], np.where(good, cell, np.inf).min(1))
        np.testing.assert_array_equal(swept.high[:-1, column], np.where(good, cell, -np.inf).max(1))
        np.testing.assert_array_equal(swept.bad[:-1, column], (~np.isfinite(cell)).any(1))
        np.testing.assert_array_equal(swept.zero[:-1, column], (cell == 0).any(1))
    np.testing.assert_array_equal(swept.count[:-1], count)
    np.testing.assert_array_equal(swept.nonfinite[:-1], (~np.isfinite(table)).sum(1))
    bad = ~np.isfinite(table)
    np.testing.assert_array_equal(swept.nonfinite_at[:-1], np.where(bad.any(1), steps[bad.argmax(1)], -1))
    np.testing.assert_array_equal(swept.last[:-1], table[:, -1])
    logs = np.log(np.where(np.isfinite(table) & (table > 0), table, np.nan))
    np.testing.assert_allclose(np.log(swept.centres[:-1]), np.nanmedian(logs, axis=1), atol=0.1)


def test_digests_are_no_help_to_short_runs_and_to_the_spread_of_every_step(maker: type) -> None:
    values = np.ones(7_000)
    for count, every_step in ((1_000, False), (7_000, True)):
        run, source = long_run(maker, {"a": values[:count], "b": 2 * values[:count]})
        swept = sweep(run, "grad_norm", ("a", "b"), 100, every_step)
        assert swept is not None and source.columns_read == 2
        assert len(swept.lowest.steps) == count and (swept.highest.values == 2).all()


def test_the_table_of_thousands_of_rows_has_some_and_those_that_failed(maker: type) -> None:
    built = maker(steps=4)
    values = np.ones(4)
    for row in range(2000):
        built.add("norms", "grad_norm", f"layer.{row}", np.where(row == 1001, np.nan, values))
    run = built.make()
    swept = sweep(run, "grad_norm", run.paths("grad_norm"))
    assert swept is not None
    html = heatmap_table(swept)
    rows = html.count("<tr>") - 1
    assert 600 <= rows <= 700 and f"grad_norm of {rows} of 2,000 rows" in html
    assert all(f">layer.{row}<" in html for row in (0, 1001, 1999))
