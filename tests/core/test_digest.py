"""Blocks and digests against plain NumPy over the raw columns."""

import warnings

import numpy as np
import pytest

from auscult.core.digest import BLOCK_STEPS, NEVER, STATE, Digest, block_start, digest_rows
from auscult.core.run import Segment
from auscult.core.sink import NOT_OBSERVED_32, NOT_OBSERVED_64, Channel, observed
from auscult.core.state import EARLY_BLOCKS, MERGED, PAST_BINS, PAST_LEVELS, RECENT_BLOCKS

EMPTY = Digest((Segment(0, 0.0),))


def wild_rows(rows: int, columns: int, seed: int, dtype=np.float32) -> np.ndarray:
    """Numbers over 30 decades of either sign with zeros, NaN, infinities and gaps; gaps are not observed."""
    random = np.random.default_rng(seed)
    values = (random.choice([-1, 1], (rows, columns)) * 10.0 ** random.uniform(-15, 15, (rows, columns))).astype(dtype)
    kind = random.random((rows, columns))
    values[kind < 0.15] = 0.0
    values[(kind >= 0.15) & (kind < 0.20)] = np.nan
    values[(kind >= 0.20) & (kind < 0.23)] = np.inf
    values[(kind >= 0.23) & (kind < 0.26)] = -np.inf
    missing = NOT_OBSERVED_64 if dtype == np.float64 else NOT_OBSERVED_32
    values.view(missing.dtype)[kind >= 0.75] = missing
    values[:, 0] = 0.0  # zero throughout
    values.view(missing.dtype)[:, 1] = missing  # never observed
    values[:, 2] = np.nan
    values[rows // 2 :, 3] = 0.0  # a streak to the end, across blocks
    return values


def wild_steps(rows: int, seed: int) -> np.ndarray:
    """Increasing steps with gaps, some longer than a block."""
    return np.cumsum(np.random.default_rng(seed).choice([1, 1, 1, 2, 5, 90], rows)).astype(np.int64)


def split(steps: np.ndarray) -> list[np.ndarray]:
    return np.split(np.arange(len(steps)), np.flatnonzero(np.diff(steps // BLOCK_STEPS)) + 1)


def names(columns: int) -> tuple[Channel, ...]:
    return tuple(Channel("grad_norm", f"p{each}") for each in range(columns))


def fold_all(steps: np.ndarray, rows: np.ndarray, stream="norms") -> Digest:
    digest = EMPTY
    for part in split(steps):
        stop = block_start(int(steps[part[0]])) + BLOCK_STEPS
        chunk = np.ascontiguousarray(rows[part])
        digest = digest.fold(digest_rows(stream, names(rows.shape[1]), steps[part], chunk, stop))
    return digest


def state_by_hand(steps: np.ndarray, column: np.ndarray) -> dict[str, object]:
    """What a digest must hold of one column, from the definitions."""
    seen = observed(np.ascontiguousarray(column))
    at, values = steps[seen], column[seen].astype(np.float64)
    finite = np.isfinite(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        per_block = []
        for start in np.unique(at - at % BLOCK_STEPS):
            block = at[(at >= start) & (at < start + BLOCK_STEPS)]
            inside = finite & (at >= start) & (at < start + BLOCK_STEPS)
            inner = values[inside]
            nonzero = inner[inner != 0]
            per_block.append(
                (
                    np.median(np.log10(np.abs(nonzero))) if len(nonzero) else np.nan,
                    inner.min() if len(inner) else np.nan,
                    inner.max() if len(inner) else np.nan,
                    inner.mean() if len(inner) else np.nan,
                    (block[0] + block[-1]) / 2,
                )
            )
    streak = 0
    while streak < len(values) and values[-1 - streak] == 0:
        streak += 1
    bad = at[~finite]
    good = values[finite]

    def ring(index: int) -> np.ndarray:
        last = [each[index] for each in per_block][-RECENT_BLOCKS:]
        return np.array([np.nan] * (RECENT_BLOCKS - len(last)) + last)

    early = [each[0] for each in per_block][:EARLY_BLOCKS]
    return {
        "rows": len(values),
        "finite": finite.sum(),
        "zeros": (values == 0).sum(),
        "zero_rows": streak,
        "zeros_from": at[-streak] if streak else -1,
        "nonfinite_at": bad[0] if len(bad) else -1,
        "nonfinite_last": bad[-1] if len(bad) else -1,
        "nonfinite": values[~finite][0] if len(bad) else 0.0,
        "first_step": at[0],
        "last_step": at[-1],
        "maximum_at": at[finite][np.abs(good).argmax()] if len(good) else -1,
        "first": values[0],
        "last": values[-1],
        "minimum": good.min() if len(good) else np.nan,
        "maximum": good.max() if len(good) else np.nan,
        "blocks": len(per_block),
        "early": np.array(early + [np.nan] * (EARLY_BLOCKS - len(early))),
        "recent": ring(0),
        "recent_minimum": ring(1),
        "recent_maximum": ring(2),
        "recent_mean": ring(3),
        "recent_at": ring(4),
        "trough": np.fmin.reduce([each[0] for each in per_block]),
        "past": past_by_hand([(each[0], each[4]) for each in per_block]),
    }


def past_by_hand(bins: list[tuple[float, float]]) -> np.ndarray:
    """The means over 2, 4, 8, ... blocks of the medians that are numbers and of the middles of these blocks."""
    past = np.full((PAST_LEVELS, 2, PAST_BINS), np.nan)
    for level in range(PAST_LEVELS):
        pairs = [np.array(bins[each : each + MERGED]) for each in range(0, len(bins) - MERGED + 1, MERGED)]
        known = [pair[~np.isnan(pair[:, 0])] for pair in pairs]
        bins = [tuple(pair.mean(0)) if len(pair) else (np.nan, np.nan) for pair in known]
        for place, values in enumerate(reversed(bins[-PAST_BINS:])):
            past[level, :, PAST_BINS - 1 - place] = values
    return past


@pytest.mark.parametrize("rows", [1, 5, 64, 300, 2500])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_state_is_what_the_definitions_say(rows, seed):
    steps, values = wild_steps(rows, seed), wild_rows(rows, 12, seed)
    digest = fold_all(steps, values)
    assert digest.step == block_start(int(steps[-1])) + BLOCK_STEPS - 1
    for position in range(12):
        state = digest.state[position]
        if not observed(np.ascontiguousarray(values[:, position])).any():
            assert state["rows"] == 0 and state["first_step"] == -1
            continue
        expected = state_by_hand(steps, values[:, position])
        past = np.full((PAST_LEVELS, 2, PAST_BINS), np.nan)
        past[: digest.past.shape[1]] = digest.past[position]
        assert past == pytest.approx(expected.pop("past"), rel=3e-6, abs=3e-6, nan_ok=True), position
        assert set(expected) == set(STATE.names or ())
        for name, value in expected.items():
            assert state[name] == pytest.approx(value, rel=3e-6, abs=3e-6, nan_ok=True), (position, name)


def test_user_rows_of_float64_keep_within_float32():
    rows = np.array([[1e300, 1e-300], [-1e300, 2.0]])
    block = digest_rows("user", names(2), np.array([0, 1]), rows, 2)
    largest = np.finfo(np.float32).max
    assert block.values["maximum"][0] == largest and block.values["minimum"][0] == -largest
    assert block.values["log_median"][1] == pytest.approx((-300 + np.log10(2.0)) / 2)


def test_a_block_counts_offsets_from_its_own_start():
    rows = np.array([[1.0], [np.nan], [0.0], [0.0]], np.float32)
    block = digest_rows("norms", names(1), np.array([130, 131, 140, 150]), rows, 192)
    assert block.start == 128
    fields = ("first_at", "nonfinite_at", "nonfinite_last", "zeros_from", "zero_tail", "last_at", "maximum_at")
    assert [int(block.values[name][0]) for name in fields] == [2, 3, 3, 12, 2, 22, 2]


def test_a_block_without_a_number_says_never():
    rows = np.full((3, 1), NOT_OBSERVED_32).view(np.float32)
    block = digest_rows("norms", names(1), np.arange(3), rows, 3)
    for name in ("nonfinite_at", "nonfinite_last", "zeros_from", "first_at", "last_at", "maximum_at"):
        assert block.values[name][0] == NEVER
    assert block.values["count"][0] == 0


def test_zero_streak_ignores_rows_that_were_not_observed_and_ends_with_a_number():
    column = np.array([3.0, 0.0, 0.0, 0.0], np.float32)[:, None]
    column.view(np.uint32)[2] = NOT_OBSERVED_32
    digest = fold_all(np.arange(4), column)
    assert (digest.state["zeros_from"][0], digest.state["zero_rows"][0]) == (1, 2)
    more = digest_rows("norms", names(1), np.array([64, 65]), np.array([[0.0], [1.0]], np.float32), 128)
    digest = digest.fold(more)
    assert (digest.state["zeros_from"][0], digest.state["zero_rows"][0]) == (-1, 0)


def test_folding_changes_neither_the_digest_nor_the_block():
    steps, values = np.arange(64), wild_rows(64, 8, 3)
    block = digest_rows("norms", names(8), steps, values, 64)
    first = EMPTY.fold(block)
    kept = first.state.tobytes(), block.values.tobytes(), first.index, first.channels
    later = digest_rows("norms", names(10), steps + 64, wild_rows(64, 10, 4), 128)
    second = first.fold(later)
    assert (first.state.tobytes(), block.values.tobytes(), first.index, first.channels) == kept
    assert first.fold(later).state.tobytes() == second.state.tobytes()
    assert len(second.channels) == 10 and EMPTY.step == -1


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_streams_within_a_block_does_not_matter(seed):
    left = digest_rows("norms", names(6), np.arange(64), wild_rows(64, 6, seed), 64)
    other = tuple(Channel("activation_std", path) for _, path in names(6))
    right = digest_rows("sampled", other, np.arange(64), wild_rows(64, 6, seed + 9), 64)
    digests = (EMPTY.fold(left, right), EMPTY.fold(right, left), EMPTY.fold(left).fold(right))
    for metric in ("grad_norm", "activation_std"):
        wanted = digests[0].select(metric)
        for digest in digests[1:]:
            paths, states = digest.select(metric)
            assert paths == wanted[0] and states.tobytes() == wanted[1].tobytes()


@pytest.mark.parametrize("seed", range(5))
def test_columns_that_come_later_fold_as_if_they_had_always_been_there_unobserved(seed):
    steps, values = np.arange(256), wild_rows(256, 8, seed)
    values.view(np.uint32)[:128, 5:] = NOT_OBSERVED_32
    whole = fold_all(steps, values)
    grown = EMPTY
    for part in split(steps):
        width = 5 if part[0] < 128 else 8
        rows = np.ascontiguousarray(values[part, :width])
        grown = grown.fold(digest_rows("norms", names(width), part, rows, int(part[-1]) + 1))
    assert grown.channels == whole.channels
    assert grown.state.tobytes() == whole.state.tobytes()


@pytest.mark.parametrize("seed", range(5))
def test_resuming_from_any_closed_block_gives_the_same_digest(seed):
    steps, values = wild_steps(900, seed), wild_rows(900, 7, seed)
    whole = fold_all(steps, values)
    parts = split(steps)
    cut = np.random.default_rng(seed).integers(1, len(parts))
    head = np.concatenate(parts[:cut])
    digest = fold_all(steps[head], values[head])
    for part in parts[cut:]:
        stop = block_start(int(steps[part[0]])) + BLOCK_STEPS
        digest = digest.fold(digest_rows("norms", names(7), steps[part], np.ascontiguousarray(values[part]), stop))
    assert digest.state.tobytes() == whole.state.tobytes() and digest.step == whole.step


def test_select_keeps_the_order_asked_for_and_leaves_out_what_was_never_observed():
    digest = fold_all(np.arange(10), wild_rows(10, 6, 0))
    assert digest.select("grad_norm", ["p4", "p1", "nowhere", "p0"])[0] == ["p4", "p0"]
    assert digest.select("grad_norm")[0] == ["p0", "p2", "p3", "p4", "p5"]
    assert digest.select("loss")[0] == []


def test_a_state_has_a_fixed_size():
    short, long = (
        fold_all(np.arange(3), np.ones((3, 1), np.float32)),
        fold_all(np.arange(5000), np.ones((5000, 1), np.float32)),
    )
    assert short.state.nbytes == long.state.nbytes


@pytest.mark.parametrize("seed", range(8))
def test_folding_many_blocks_at_once_is_folding_them_64_steps_by_64_steps(seed):
    dice = np.random.default_rng(seed)
    steps, values, rare = wild_steps(4000, seed), wild_rows(4000, 9, seed), wild_rows(4000, 5, seed + 50)
    if seed % 2:
        values.view(np.uint32)[values.view(np.uint32) == NOT_OBSERVED_32] = np.float32(1.0).view(np.uint32)
    others = tuple(Channel("activation_std", f"m{each}") for each in range(5))
    one, many = EMPTY, []
    for part in split(steps):
        width = 9 if part[0] > 1000 else 6
        stop = block_start(int(steps[part[0]])) + BLOCK_STEPS
        blocks = [digest_rows("norms", names(9)[:width], steps[part], np.ascontiguousarray(values[part, :width]), stop)]
        if dice.random() < 0.3:
            blocks.append(digest_rows("sampled", others, steps[part], rare[part], stop))
        one = one.fold(*blocks)
        many += blocks
    cut = int(dice.integers(len(many)))
    for together in (EMPTY.fold_all(many), EMPTY.fold_all(many[:cut]).fold_all(many[cut:])):
        assert together.channels == one.channels and together.step == one.step
        assert together.state.tobytes() == one.state.tobytes()
    assert EMPTY.fold() is EMPTY and EMPTY.fold_all([]) is EMPTY


def test_a_channel_of_two_streams_takes_the_blocks_of_both():
    left = digest_rows("user", (Channel("val/loss", ""),), np.arange(64), np.full((64, 1), 2.0), 64)
    right = digest_rows("evaluation", (Channel("val/loss", ""),), np.arange(1), np.full((1, 1), 3.0), 64)
    state = EMPTY.fold(left, right).state
    assert len(state) == 1 and state["rows"][0] == 65 and state["maximum"][0] == 3.0


def test_take_gives_one_field_by_path_and_what_never_was_for_a_path_without_values():
    digest = fold_all(np.arange(10), wild_rows(10, 6, 0))
    paths = ("p4", "nowhere", "p1", "p0")
    assert digest.take("zeros_from", "grad_norm", paths).tolist()[1:] == [-1, -1, 0]
    assert digest.take("rows", "grad_norm", paths)[0] == digest.select("grad_norm", ["p4"])[1]["rows"][0]
    assert np.isnan(digest.take("recent", "grad_norm", paths)[1]).all()
    assert EMPTY.take("recent", "grad_norm", paths).shape == (4, RECENT_BLOCKS)
