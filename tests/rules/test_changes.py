"""Onsets against the truth they were made with, and against the best that an estimate can do."""

import numpy as np
import pytest

from auscult.core.digest import BLOCK_STEPS, Digest, digest_rows
from auscult.core.run import Segment
from auscult.core.sink import Channel
from auscult.rules.changes import Changes, first_to_leave, rises


def digest_of(values: np.ndarray) -> Digest:
    """Columns `(R, C)` at steps 0 to R - 1 as gradients of parameters 0, 1, ..."""
    digest, rows = Digest((Segment(0, 0.0),)), values.astype(np.float32)
    channels = tuple(Channel("grad_norm", str(each)) for each in range(values.shape[1]))
    for start in range(0, len(rows), BLOCK_STEPS):
        part = np.ascontiguousarray(rows[start : start + BLOCK_STEPS])
        digest = digest.fold(digest_rows("norms", channels, start + np.arange(len(part)), part, start + len(part)))
    return digest


def changes_of(logs: np.ndarray, least: float = 0.6) -> Changes:
    digest = digest_of(10.0**logs)
    return rises(digest.trajectory("grad_norm", tuple(map(str, range(logs.shape[1])))), least)


def divergence(decades: float, healthy: int, growing: int, sigma: float, copies: int) -> np.ndarray:
    """log10 of a level that grows by some decades after a healthy stretch, with noise of sigma in ln."""
    noise = np.random.default_rng(int(decades) * 100 + growing)
    ramp = decades * np.maximum(np.arange(healthy + growing) - healthy + 1, 0) / growing
    return ramp[:, None] + noise.normal(0, sigma / np.log(10), (healthy + growing, copies))


@pytest.mark.parametrize("decades", [1, 2, 3])
@pytest.mark.parametrize("sigma", [0.05, 0.2])
def test_an_onset_is_as_exact_as_noise_and_slope_allow(decades, sigma):
    """No unbiased estimate from N rows that rise by D has a smaller deviation than 2 sigma sqrt(N) / D; medians 1.25,
    and a level before that is not known to be flat 1.2 times more for twice as many rows; twice that is asked for."""
    healthy, growing, copies = 2000, 1000, 16
    found = changes_of(divergence(decades, healthy, growing, sigma, copies))
    bound = 2 * sigma / np.log(10) * np.sqrt(growing) / decades
    error = found.step - healthy
    assert found.gradual.all()
    assert np.sqrt(np.mean(error**2)) <= 2 * 1.25 * 1.2 * bound + 1
    if 3 * 1.5 * bound <= 5:
        assert np.abs(error).max() <= 5
    assert np.median(found.deviation) <= 3 * bound + 1


@pytest.mark.parametrize("healthy", [300, 3000, 30_000])
def test_the_past_is_not_forgotten(healthy):
    found = changes_of(divergence(2, healthy, 3000, 0.05, 4))
    assert np.abs(found.step - healthy).max() <= 15


def test_what_stands_still_or_falls_has_no_onset():
    noise = np.random.default_rng(0).normal(0, 0.05, (4000, 3))
    steps = np.arange(4000)[:, None]
    assert np.isnan(changes_of(noise).step).all()
    assert np.isnan(changes_of(noise - steps / 2000).step).all()


def test_a_jump_is_told_from_a_growth_and_keeps_its_block():
    logs = np.random.default_rng(0).normal(0, 0.05, (2000, 2))
    logs[1000:] += 1.5
    found = changes_of(logs)
    assert not found.gradual.any()
    assert np.abs(found.step - 1000).max() <= BLOCK_STEPS


def test_nan_and_spikes_leave_an_onset_where_it_is():
    logs = divergence(2, 2000, 1000, 0.05, 2)
    spoilt = logs.copy()
    spoilt[[200, 700, 1500, 2500]] = np.nan
    spoilt[[250, 900, 1999, 2600]] += 3.0
    assert np.abs(changes_of(spoilt).step - changes_of(logs).step).max() <= 3


def test_of_those_that_left_together_the_one_that_rose_farthest_is_named():
    logs = divergence(1, 2000, 1000, 0.05, 4)
    logs[:, 2] = divergence(2, 2000, 1000, 0.05, 1)[:, 0]
    logs[:, 3] = divergence(3, 2400, 600, 0.05, 1)[:, 0]  # the loudest, but later
    found = first_to_leave(changes_of(logs))
    assert found is not None and (found.number, found.together) == (2, 3)
    assert abs(found.step - 2000) <= 5
