"""Row by row against the same rows judged together."""

from collections.abc import Iterator

import numpy as np
import pytest

from auscult.core.digest import BLOCK_STEPS, Digest, block_start, digest_rows
from auscult.core.run import Parameter, Segment
from auscult.core.sink import NOT_OBSERVED_32, Channel, Record, Rows, Values
from auscult.rules.live import LiveDiagnosis, Watched
from auscult.rules.registry import RULES, judge
from auscult.rules.rule import EXACT_METRICS

PATHS = ("a", "b", "c")
PARAMETERS = tuple(Parameter(path, (8, 8), "float32", True, "main") for path in PATHS)
SEGMENT = Segment(0, 0.0, PARAMETERS)
NORMS = tuple(Channel(metric, path) for metric in ("grad_norm", "param_norm", "update_norm") for path in PATHS)
MOMENTS = EXACT_METRICS - {"grad_norm", "param_norm", "update_norm", "lr", "rank_differs", "rank_loss"}
STEPS = (Channel("lr", "main"), Channel("clip_ratio", ""), Channel("skipped_updates", ""))


def judged(tables: dict[str, tuple[tuple[Channel, ...], Values]], step: int) -> list:
    """What the rules find in the rows up to a step, from nothing but `digest_rows`, `fold` and `judge`."""
    digest = closed = Digest((SEGMENT,))
    for start in range(0, step + 1, BLOCK_STEPS):
        stop = min(start + BLOCK_STEPS, step + 1)
        at = np.arange(start, stop)
        digest = digest.fold(
            *(digest_rows(name, columns, at, rows[at], stop) for name, (columns, rows) in tables.items())
        )
        closed = digest if stop == start + BLOCK_STEPS else closed
    return judge(closed, digest)


def records(tables: dict[str, tuple[tuple[Channel, ...], Values]], step: int) -> list[Record]:
    return [Record(name, step, columns, rows[step]) for name, (columns, rows) in tables.items()]


def watched(tables: dict[str, tuple[tuple[Channel, ...], Values]], steps: int) -> Iterator[tuple[int, LiveDiagnosis]]:
    live = LiveDiagnosis((SEGMENT,))
    for step in range(steps):
        live.add(step, records(tables, step))
        yield step, live


def healthy(steps: int, seed: int = 0) -> dict[str, tuple[tuple[Channel, ...], Values]]:
    random = np.random.default_rng(seed)
    norms = np.repeat([[0.1, 4.0, 4e-3]], 3, axis=1).astype(np.float32) * np.exp(
        0.1 * random.standard_normal((steps, 9))
    )
    return {
        "steps": (STEPS, np.repeat(np.array([[1e-2, 0.5, 0.0]], np.float32), steps, axis=0)),
        "norms": (NORMS, norms.astype(np.float32)),
        "user": ((Channel("train/loss", ""),), np.linspace(2.0, 1.0, steps)[:, None]),
    }


@pytest.mark.parametrize("before", [0.0, "not observed", 1.0])
@pytest.mark.parametrize("after", [np.nan, np.inf])
def test_what_becomes_non_finite_is_said_at_that_step_whatever_it_was(before, after):
    tables = healthy(40)
    rows = tables["norms"][1]
    if before == "not observed":
        rows.view(np.uint32)[10:20, 0] = NOT_OBSERVED_32
    else:
        rows[10:20, 0] = before
    rows[20, 0] = after
    first = next(step for step, live in watched(tables, 40) if any(each.code == "L001" for each in live.findings))
    assert first == 20


@pytest.mark.parametrize("seed", range(6))
def test_every_row_gives_what_all_rows_up_to_it_give(seed):
    dice = np.random.default_rng(seed)
    tables = healthy(200, seed)
    for rows in (tables["norms"][1], tables["steps"][1], tables["user"][1]):
        for _ in range(4):
            begin, column = int(dice.integers(150)), int(dice.integers(rows.shape[1]))
            rows[begin : begin + int(dice.choice([1, 3, 20, 200])), column] = dice.choice([0.0, np.nan, np.inf, 1e4])
    if seed % 2:
        gaps = dice.random(tables["norms"][1].shape) < 0.3
        tables["norms"][1].view(np.uint32)[gaps] = NOT_OBSERVED_32
    for step, live in watched(tables, 200):
        assert live.findings == judged(tables, step), step


@pytest.mark.parametrize("seed", range(8))
def test_zeros_that_come_and_go_give_what_all_rows_give(seed):
    """Zeros at random, in bursts and alone, beside gaps and numbers that are not finite, in every share."""
    dice = np.random.default_rng(100 + seed)
    tables = healthy(150, seed)
    norms, rates = tables["norms"][1], tables["steps"][1]
    norms[:, 3:6] = 4.0  # parameters stand as they are
    for column in (0, 1, 2, 6, 7, 8):
        share = dice.choice([0.05, 0.5, 0.9, 0.97, 1.0])
        norms[dice.random(150) < share, column] = 0.0
        begin = int(dice.integers(150))
        norms[begin : begin + int(dice.integers(5, 12)), column] = dice.choice([0.0, 0.1])
    if seed % 3 == 1:
        norms.view(np.uint32)[dice.random(norms.shape) < 0.2] = NOT_OBSERVED_32
    if seed % 3 == 2:
        norms[dice.random(norms.shape) < 0.002] = np.nan
    if seed % 4 == 3:
        rates[: int(dice.integers(40)), 0] = 0.0
    columns = tuple(Channel(metric, path) for metric in sorted(MOMENTS) for path in PATHS)
    tables["sampled"] = columns, np.where(dice.random((150, len(columns))) < 0.1, 0.0, 0.5).astype(np.float32)
    one_by_one = [list(live.findings) for _, live in watched(tables, 150)]
    live, begin = LiveDiagnosis((SEGMENT,)), 0
    while begin < 150:
        end = min(begin + int(dice.integers(1, 70)), 150)
        at = np.arange(begin, end)
        list(live.extend(range(begin, end), [Rows(n, at, columns, r[begin:end]) for n, (columns, r) in tables.items()]))
        assert live.findings == one_by_one[end - 1], end
        begin = end
    for step, findings in enumerate(one_by_one):
        assert findings == judged(tables, step), step


def test_a_zero_alone_has_nobody_asked(monkeypatch) -> None:
    tables = healthy(60)
    tables["norms"][1][20:50:2, 6] = 0.0  # an update too small for float32 at every other step
    tables["norms"][1][21:50:3, 1] = 0.0
    tables["sampled"] = (Channel("update_mean", "a"),), np.where(np.arange(60) % 5 == 4, 0.0, 1e-4)[:, None]
    asked: list[int] = []
    exact = next(rule for rule in RULES if rule.code == "G001")
    check = type(exact).check
    monkeypatch.setattr(type(exact), "check", lambda self, digest: asked.append(digest.step) or check(self, digest))
    for _ in watched(tables, 60):
        pass
    assert asked == list(range(9))  # the first row, and those that a streak from there on needs


def test_exact_rules_look_at_nothing_but_the_metrics_they_are_asked_again_for(training):
    training.column("grad_norm", "layers.3.weight")[100:] = np.nan
    training.column("update_norm", "layers.0.weight")[:] = 0.0
    training.column("grad_norm", "layers.1.bias")[200:] = 0.0
    few = [list(rule.check(training.digest())) for rule in RULES if rule.exact]
    training.columns["clip_ratio", ""] = np.full(training.rows, np.nan)
    training.columns["skipped_updates", ""] = np.zeros(training.rows)
    training.columns["val/loss", ""] = np.full(training.rows, np.inf)
    for metric in ("grad_std", "dead_fraction", "activation_grad_std"):
        assert metric not in EXACT_METRICS
        training.columns[metric, "layers.0.weight"] = np.full(training.rows, np.nan)
    assert any(few) and few == [list(rule.check(training.digest())) for rule in RULES if rule.exact]


def test_a_block_closes_as_one_and_the_last_short_one_with_the_run():
    tables = healthy(100)
    closed = []
    live = LiveDiagnosis((SEGMENT,))
    for step in range(100):
        blocks, _ = live.add(
            step, [Record(name, step, columns, rows[step]) for name, (columns, rows) in tables.items()]
        )
        closed += [(step, block.stream, block.start, block.stop) for block in blocks]
    assert closed == [(63, name, 0, 64) for name in tables]
    live.finish()
    assert live.findings == judged(tables, 99) == [] and block_start(99) == 64


@pytest.mark.parametrize("seed", range(6))
def test_rows_handed_over_together_are_judged_as_one_by_one(seed) -> None:
    """Batches of any size: the same findings, told at the same steps."""
    random = np.random.default_rng(seed)
    steps = 300
    tables = healthy(steps, seed)
    for _ in range(seed):
        rows = tables["norms"][1]
        begin = int(random.integers(steps))
        rows[begin : begin + int(random.integers(1, 80)), random.integers(9)] = random.choice([0.0, np.nan, 1e6])
    expected = [(step, list(live.findings)) for step, live in watched(tables, steps)]
    one_by_one = LiveDiagnosis((SEGMENT,))
    changes = [(step, one_by_one.add(step, records(tables, step))[1]) for step in range(steps)]
    live = LiveDiagnosis((SEGMENT,))
    begin = 0
    while begin < steps:
        end = min(begin + int(random.integers(1, 100)), steps)
        at = np.arange(begin, end)
        batch = [Rows(name, at, columns, rows[begin:end]) for name, (columns, rows) in tables.items()]
        told = [(step, found) for step, _, found in live.extend(range(begin, end), batch) if found]
        assert told == [(step, found) for step, found in changes[begin:end] if found]
        assert live.findings == expected[end - 1][1], end
        begin = end


@pytest.mark.parametrize("seed", range(8))
def test_what_was_put_off_finds_in_the_end_what_would_have_been_found_at_once(seed) -> None:
    """Settled now and then, and always at the end; exact rules do not wait."""
    random = np.random.default_rng(seed)
    steps = 400
    tables = healthy(steps, seed)
    tables["user"][1][150:] *= random.choice([1.0, 5.0, 1e3])
    if seed % 2:
        tables["norms"][1][200 + seed :, random.integers(9)] = random.choice([0.0, np.nan, 1e6])
    at_once, put_off = LiveDiagnosis((SEGMENT,)), LiveDiagnosis((SEGMENT,))
    exact = {rule.code for rule in RULES if rule.exact}
    begin = 0
    while begin < steps:
        end = min(begin + int(random.integers(1, 100)), steps)
        at = np.arange(begin, end)
        batch = [Rows(name, at, columns, rows[begin:end]) for name, (columns, rows) in tables.items()]
        now = [(step, each) for step, _, found in at_once.extend(at.tolist(), batch) for each in found]
        later = [(step, each) for step, _, found in put_off.extend(at.tolist(), batch, True) for each in found]
        assert {(step, each.key) for step, each in now if each.code in exact} <= {(n, each.key) for n, each in later}
        if random.random() < 0.2:
            put_off.settle()
            assert not put_off.waiting and put_off.findings == at_once.findings
        begin = end
    assert put_off.settle() == [] or put_off.findings == at_once.findings
    at_once.finish(), put_off.finish()
    assert put_off.findings == at_once.findings
    assert [each.step for each in put_off.findings] == [each.step for each in at_once.findings]


def test_while_put_off_only_what_is_exact_is_asked(monkeypatch) -> None:
    tables = healthy(256)
    live = LiveDiagnosis((SEGMENT,))
    asked = []
    for rule in RULES:
        if not rule.exact:
            monkeypatch.setattr(type(rule), "check", lambda _, __, code=rule.code: iter(asked.append(code) or ()))
    at = np.arange(256)
    list(live.extend(range(256), [Rows(name, at, columns, rows) for name, (columns, rows) in tables.items()], True))
    assert not asked and live.waiting
    live.settle()
    live.settle()
    assert sorted(asked) == sorted(rule.code for rule in RULES if not rule.exact)


def test_an_exact_finding_has_the_others_asked_that_may_explain_it() -> None:
    """A loss that explodes until it is NaN: what is told at the NaN is what would have been told at once."""
    tables = healthy(200)
    tables["user"][1][20:, 0] = 2.0 * np.exp(np.linspace(0, 20, 180))
    tables["norms"][1][20:, :3] *= np.exp(np.linspace(0, 20, 180))[:, None].astype(np.float32)
    tables["norms"][1][:, 6:] = 3.0
    tables["user"][1][150:] = np.nan
    at_once = {step: list(live.findings) for step, live in watched(tables, 200)}
    live = LiveDiagnosis((SEGMENT,))
    for step in range(200):
        rows = [Rows.of(record) for record in records(tables, step)]
        for _, _, found in live.extend([step], rows, True):
            if any(each.code == "L001" for each in found):
                assert live.findings == at_once[step] and len(at_once[step]) > 1
                return
    pytest.fail("the NaN was not told")


def test_rows_without_norms_and_constant_zeros_are_taken_by_the_block(monkeypatch) -> None:
    """A cadence so rare that streaks stay open, and a parameter that never had a gradient, cost no more than others."""
    tables = healthy(320)
    tables["norms"][1][:, 0] = 0.0
    live, sparse = LiveDiagnosis((SEGMENT,)), LiveDiagnosis((SEGMENT,))
    for step in range(128):
        live.add(step, records(tables, step))
    sparse.add(127, records(tables, 127))
    monkeypatch.setattr(Watched, "marks", lambda *_: pytest.fail("looked at row by row"))
    at = np.arange(128, 320)
    batch = [Rows(name, at, columns, rows[128:]) for name, (columns, rows) in tables.items()]
    told = list(live.extend(at.tolist(), batch))
    assert [step for step, blocks, _ in told if blocks] == [191, 255, 319]
    assert live.findings == judged(tables, 319)
    assert list(sparse.extend(at.tolist(), [each for each in batch if each.stream != "norms"]))
