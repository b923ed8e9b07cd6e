from dataclasses import replace

import numpy as np
import pytest

from auscult.core.errors import SetupError
from auscult.sound.frames import follow, middle, open_table, weights


def edges(steps, frames):
    return np.arange(frames + 1) * steps // frames


def test_middle_is_the_median_of_what_is_there():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(50, 7))
    values[generator.random((50, 7)) < 0.4] = np.nan
    values[3] = np.nan
    full = ~np.isnan(values).all(1)
    np.testing.assert_allclose(middle(values)[full], np.nanmedian(values[full], axis=1))
    assert np.isnan(middle(values)[3])
    assert np.isnan(middle(np.empty((2, 0)))).all()


def test_level_is_the_median_over_parameters_and_steps(make_run):
    norms = np.array([1.0, 10.0, 1000.0]) * np.ones((300, 1))
    track = follow(table := open_table(make_run(norms), "grad_norm"), weights(table), edges(300, 20))
    np.testing.assert_allclose(track.level, 1.0, atol=1e-6)
    assert track.reference == pytest.approx(10.0)


def test_the_reference_is_the_first_fifty_usable_values_only(make_run):
    norms = np.concatenate([[0.0, np.nan, np.inf], np.full(50, 2.0), np.full(500, 7e5)])[:, None]
    run = make_run(norms)
    for until in (60, 100, 552):
        table = open_table(run.until(until), "grad_norm")
        assert follow(table, weights(table), edges(until + 1, 10)).reference == pytest.approx(2.0)


@pytest.mark.parametrize("factor", [10.0, 1e6, 0.1, 1e-6])
def test_no_excursion_of_a_decade_is_lost(make_run, calm, factor):
    base = calm(3000, 12) ** 0.2  # noise of 0.02 decades
    generator = np.random.default_rng(1)
    for step in generator.integers(0, 3000, 25):
        norms = base.copy()
        norms[step, generator.integers(0, 12)] *= factor
        table = open_table(make_run(norms), "grad_norm")
        quiet = follow(open_table(make_run(base), "grad_norm"), weights(table), edges(3000, 100)).level
        level = follow(table, weights(table), edges(3000, 100)).level
        moved = (level - quiet)[step // 30] * np.sign(np.log10(factor))
        assert moved >= 0.9
        assert np.abs(np.delete(level - quiet, step // 30)).max() < 0.1


def test_noise_seldom_makes_an_excursion(make_run, calm):
    norms = calm(4000, 60) ** 2  # 0.2 decades: a whole one is beyond 4.5 sigma, once or twice in 240,000
    table = open_table(make_run(norms), "grad_norm")
    level = follow(table, weights(table), edges(4000, 100)).level
    assert (np.abs(level - np.median(level)) > 0.2).sum() <= 4


def test_an_explosion_is_no_excursion(make_run):
    norms = 10 ** np.linspace(0, 30, 400)[:, None]
    table = open_table(make_run(norms), "grad_norm")
    level = follow(table, weights(table), edges(400, 400)).level
    np.testing.assert_allclose(level, np.linspace(0, 30, 400), atol=1e-5)


def test_what_is_not_finite_is_found_with_its_culprit(make_run, calm):
    norms = calm(200, 130)  # more than one batch
    norms[150:, 70] = np.inf
    norms[150:, 129] = np.nan
    norms[180:, 2] = -np.inf
    table = open_table(make_run(norms), "grad_norm")
    track = follow(table, weights(table), edges(200, 200))
    np.testing.assert_array_equal(track.broken, np.repeat([0, 2, 3], [150, 30, 20]))
    np.testing.assert_array_equal(track.culprit, np.repeat([-1, 70, 2], [150, 30, 20]))
    assert track.culprit_value[150] == np.inf
    assert track.culprit_value[199] == -np.inf


def test_not_observed_is_neither_zero_nor_nan(make_run, calm, unobserved):
    norms = calm(200, 3).astype(np.float32)
    norms[60:140] = unobserved((80, 3))
    table = open_table(make_run(norms), "grad_norm")
    track = follow(table, weights(table), edges(200, 200))
    assert not track.broken.any()
    assert not track.zero.any()
    assert track.missing[62:140].all()
    assert not track.missing[:60].any()
    assert not track.missing[140:].any()


def test_a_slow_cadence_is_not_missing_data(make_run, calm):
    table = open_table(make_run(calm(50, 3), every=8), "grad_norm")
    assert len(table.steps) == 400
    track = follow(table, weights(table), edges(400, 100))
    assert not track.missing.any()


def test_zero_takes_half_of_the_parameters(make_run, calm):
    norms = calm(100, 4)
    norms[50:, 0] = 0
    norms[70:, 1] = 0
    table = open_table(make_run(norms), "grad_norm")
    np.testing.assert_array_equal(follow(table, weights(table), edges(100, 100)).zero, np.arange(100) >= 70)


def test_ratios_are_read_through_their_definition(make_run, calm):
    for metric in ("update_ratio", "update_to_data"):
        values = calm(80, 5)
        run = make_run(values, metric=metric)
        table = open_table(run, metric)
        got, seen = table.read(weights(table))
        assert seen.all()
        for row, path in zip(got, weights(table)):
            np.testing.assert_array_equal(row, run.series(metric, path).values)


def test_weights_are_the_wide_parameters_if_there_are_any(make_run):
    series = {"a.weight": np.ones(5), "a.bias": np.ones(5), "b.scale": np.ones(5)}
    shapes = {"a.bias": (4,), "b.scale": ()}
    assert weights(open_table(make_run(series, shapes=shapes), "grad_norm")) == ("a.weight",)
    narrow = make_run({"a.bias": np.ones(5), "b.scale": np.ones(5)}, shapes=shapes)
    assert weights(open_table(narrow, "grad_norm")) == ("a.bias", "b.scale")


def test_a_metric_that_cannot_drive_a_voice_is_refused(make_run):
    with pytest.raises(SetupError, match="update_to_data"):
        open_table(make_run(np.ones((5, 1))), "lr")


def test_a_schedule_that_slows_down_is_no_missing_data(make_run, calm, unobserved):
    """An adapting schedule goes from every step to one of 128 in the midst of a run, and says so."""
    norms = calm(600, 3).astype(np.float32)
    late = np.arange(600) >= 256
    norms[late & (np.arange(600) % 128 != 0)] = unobserved((3,))
    run = make_run(norms)
    told = ({"kind": "schedule", "step": 256, "norms": 128, "samples": 1024},)
    edges = np.arange(0, 601, 10)
    table = open_table(replace(run, events=told), "grad_norm")
    assert not follow(table, weights(table), edges).missing.any()
    table = open_table(run, "grad_norm")
    assert follow(table, weights(table), edges).missing[300:380].all()


def test_a_parameter_whose_first_value_comes_late_leaves_a_settled_reference_alone(make_run, unobserved):
    norms = np.repeat([[1.0, 10.0, 100.0]], 400, 0).astype(np.float32)
    norms[:49, 1] = unobserved((49,))
    norms[:300, 2] = unobserved((300,))
    whole = make_run(norms)
    table = open_table(whole, "grad_norm")
    reference = follow(table, weights(table), np.array([0, 400])).reference
    assert reference == pytest.approx(np.sqrt(10.0))  # of the first two: the second begins before the first has 50
    for stop, known in ((30, 1.0), (49, 1.0), (50, reference), (98, reference), (99, reference), (330, reference)):
        part = open_table(make_run(norms[:stop]), "grad_norm")
        track = follow(part, weights(part), np.array([0, stop]))
        assert (track.reference, track.settled) == (pytest.approx(known), stop >= 99)


def test_in_many_batches_the_reference_is_that_of_one(make_run, calm, unobserved):
    norms = calm(200, 150, seed=3).astype(np.float32)
    norms[:120, 70] = unobserved((120,))
    norms[:20, 140] = unobserved((20,))
    table = open_table(make_run(norms), "grad_norm")
    each = [np.median(column[~np.isnan(column)][:50]) for number, column in enumerate(norms.T) if number != 70]
    reference = follow(table, weights(table), np.array([0, 200])).reference
    assert reference == pytest.approx(10 ** np.median(np.log10(each)), rel=0.01)
