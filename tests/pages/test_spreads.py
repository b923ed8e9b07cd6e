import base64
import zlib
from itertools import pairwise

import numpy as np
import pytest

from auscult.core.run import Parameter, Run
from auscult.pages.spreads import MAX_CELLS, MAX_COLUMNS, NOT_OBSERVED, spreads


def run_of(maker: type, means: np.ndarray, stds: np.ndarray, steps: np.ndarray | None = None) -> Run:
    """Gradients of `b` and `a`, in this model order; only `a` has the numbers given."""
    built = maker(steps=len(means))
    built.parameters = tuple(Parameter(path, (3, 3), "float32", True, "0") for path in ("b", "a"))
    for path in ("a", "b"):
        built.add("sampled", "grad_mean", path, means if path == "a" else np.zeros(len(means)), steps)
        built.add("sampled", "grad_std", path, stds if path == "a" else np.ones(len(stds)), steps)
    return built.make()


def test_every_row_of_a_short_run_in_model_order(maker: type) -> None:
    means, stds = np.linspace(-1, 1, 50), np.linspace(1, 2, 50)
    (found,) = spreads(run_of(maker, means, stds, np.arange(50) * 8))
    assert (found.kind, found.paths, found.total) == ("grad", ("b", "a"), 2)
    assert found.starts.tolist() == (np.arange(50) * 8).tolist()
    np.testing.assert_allclose(found.mean[1], means.astype(np.float32))
    np.testing.assert_allclose(found.std[1], stds.astype(np.float32))
    plain = found.to_dict()
    sent = np.frombuffer(zlib.decompress(base64.b64decode(plain["std"])), "<f4").reshape(2, 50)
    np.testing.assert_allclose(sent[1], stds, rtol=3e-4)


@pytest.mark.parametrize("rows", [500, 2000])
def test_a_column_of_several_rows_is_as_wide_as_its_widest(maker: type, rows: int) -> None:
    stds = np.exp(np.random.default_rng(0).standard_normal(rows))
    (found,) = spreads(run_of(maker, np.arange(rows) / rows, stds))
    assert len(found.starts) <= MAX_COLUMNS and len(found.starts) * len(found.paths) <= MAX_CELLS
    bounds = np.append(found.starts, rows)
    for column, (first, stop) in enumerate(pairwise(bounds)):
        assert found.std[1, column] == stds[first:stop].astype(np.float32).max()
        np.testing.assert_allclose(found.mean[1, column], (np.arange(rows) / rows)[first:stop].mean(), rtol=1e-6)


def test_nan_wins_its_column_and_a_hole_is_a_hole(maker: type) -> None:
    stds = np.ones(1000)
    stds[333] = np.nan
    built = run_of(maker, np.zeros(1000), stds)
    (found,) = spreads(built)
    assert np.isnan(found.std[1]).sum() == 1 and not np.isnan(found.std[0]).any()
    column = int(np.isnan(found.std[1]).argmax())
    assert found.starts[column] <= 333 < np.append(found.starts, 1000)[column + 1]


def test_what_was_seen_later_is_not_observed_before(maker: type) -> None:
    built = maker(steps=10)
    built.add("sampled", "activation_mean", "x", np.zeros(10))
    built.add("sampled", "activation_std", "x", np.ones(10))
    built.add("sampled", "activation_mean", "late", np.zeros(4), np.arange(6, 10))
    built.add("sampled", "activation_std", "late", np.ones(4), np.arange(6, 10))
    (found,) = spreads(built.make())
    late = found.paths.index("late")
    assert (found.std[late, :6] == NOT_OBSERVED).all() and (found.std[late, 6:] == 1).all()


def test_nothing_observed_gives_nothing(maker: type) -> None:
    built = maker(steps=3)
    built.add("user", "loss", "", np.ones(3))
    assert spreads(built.make()) == []
