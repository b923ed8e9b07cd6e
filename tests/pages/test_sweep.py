from collections.abc import Callable

import numpy as np
import pytest

from auscult.core.run import Run
from auscult.pages.sweep import sweep


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
