import numpy as np
import pytest

from auscult.core.detail import BatchStatistics
from auscult.pages.normalisation import disagreement, normalisation_table


def make_statistics(path: str = "norm", channels: int = 8) -> BatchStatistics:
    random = np.random.default_rng(0)
    mean, var = random.standard_normal(channels).astype(np.float32), random.uniform(0.5, 2, channels).astype(np.float32)
    return BatchStatistics(path, mean, var, (mean + 0.5 * np.sqrt(var)).astype(np.float32), 3 * var)


def test_a_known_disagreement() -> None:
    shift, ratio, left_out = disagreement(make_statistics())
    assert (shift, ratio, left_out) == (pytest.approx(0.5, rel=1e-6), pytest.approx(3), 0)


def test_running_statistics_approach_those_of_a_batch_that_repeats() -> None:
    """Closed form of momentum 0.1: after n passes 0.9 ** n of the initial 0 and 1 is left."""
    mean, var = np.full(4, 2.0, np.float32), np.full(4, 4.0, np.float32)
    for passes in (0, 1, 10, 100):
        left = 0.9**passes
        each = BatchStatistics("n", mean, var, ((1 - left) * mean).astype(np.float32),
                               (left + (1 - left) * var).astype(np.float32))  # fmt: skip
        shift, ratio, _ = disagreement(each)
        assert shift == pytest.approx(left * 2 / 2, rel=1e-3, abs=1e-6)
        assert ratio == pytest.approx((left + (1 - left) * 4) / 4, rel=1e-5)


def test_channels_without_variance_or_finiteness_are_counted_not_used() -> None:
    plain = make_statistics()
    var, running = plain.batch_var.copy(), plain.running_mean.copy()
    var[0], running[1] = 0, np.nan
    shift, ratio, left_out = disagreement(BatchStatistics("n", plain.batch_mean, var, running, plain.running_var))
    assert left_out == 2 and shift == pytest.approx(0.5, rel=1e-6) and ratio == pytest.approx(3)
    nothing = np.zeros(3, np.float32)
    assert disagreement(BatchStatistics("n", nothing, nothing, nothing, nothing)) == (None, None, 3)


def test_the_table_has_a_row_per_module(hostile_paths: tuple[str, ...]) -> None:
    html = normalisation_table([make_statistics(path) for path in hostile_paths])
    assert html.count('<th scope="row">') == len(hostile_paths) and "<script" not in html
    assert "<td>8</td><td>0.5</td><td>3</td><td>0</td>" in html
