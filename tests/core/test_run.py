"""Run and Series on an in-memory source: derived numbers, unknown names, cutting."""

from collections.abc import Iterator

import numpy as np
import pytest

from auscult.core.digest import Block
from auscult.core.errors import SetupError, UnknownName
from auscult.core.run import Module, Parameter, Run, RunInfo, Segment
from auscult.core.series import Series
from auscult.core.sink import NOT_OBSERVED_32, Channel

INFO = RunInfo("id", "run", 0.0, 1, {}, (), 0, None, {}, "host", ())
PATHS = ("body.0.weight", "body.0.bias", "head.weight")


class Memory:
    """A Source over arrays: stream to (channels, steps, rows)."""

    def __init__(self, **streams: tuple) -> None:
        self._streams = streams

    def streams(self) -> tuple:
        return tuple(self._streams)

    def channels(self, stream: str) -> tuple[Channel, ...]:
        return tuple(Channel(*each) for each in self._streams[stream][0])

    def rows(self, stream: str, start: int, stop: int) -> tuple:
        _, steps, rows = self._streams[stream]
        keep = (steps >= start) & (steps < stop)
        return steps[keep], rows[keep]

    def columns(self, stream: str, positions: list[int], stop: int) -> Iterator[tuple]:
        steps, rows = self.rows(stream, 0, stop)
        for part in np.array_split(np.arange(len(steps)), 3):  # in pieces, as a store does
            yield steps[part], np.ascontiguousarray(rows[part][:, positions].T)

    def blocks(self, stream: str) -> list[Block]:
        return []


@pytest.fixture
def run() -> Run:
    steps = np.arange(10, dtype=np.int64)
    draw = np.random.default_rng(0)
    channels = [(metric, path) for metric in ("grad_norm", "param_norm", "update_norm") for path in PATHS]
    rows = draw.lognormal(size=(10, len(channels))).astype(np.float32)
    rows.view(np.uint32)[3, 1] = NOT_OBSERVED_32
    rows[4, 1] = np.nan
    run_level = np.column_stack([np.full(10, 0.25), np.full(10, 0.1)]).astype(np.float32)
    segment = Segment(
        0,
        0.0,
        tuple(Parameter(path, (2, 2), "float32", True, "0") for path in PATHS),
        (Module("", "Net", False), Module("body", "Sequential", False), Module("body.0", "Linear", True)),
    )
    source = Memory(norms=(channels, steps, rows), steps=([("clip_coefficient", ""), ("lr", "0")], steps, run_level))
    return Run(INFO, (segment,), source)


def test_modules_and_the_whole_model_are_roots_of_sums_of_squares(run) -> None:
    parts = {path: run.series("grad_norm", path) for path in PATHS}
    whole, body = run.series("grad_norm"), run.series("grad_norm", "body")
    for step in (0, 7):
        exact = np.sqrt(sum(parts[path].at(step) ** 2 for path in PATHS))
        assert whole.at(step) == pytest.approx(exact, rel=1e-12)
    assert body.at(0) == pytest.approx(np.hypot(parts["body.0.weight"].at(0), parts["body.0.bias"].at(0)))


def test_not_observed_is_left_out_and_nan_is_kept(run) -> None:
    bias = run.series("grad_norm", "body.0.bias")
    assert 3 not in bias.steps and np.isnan(bias.at(4))
    with pytest.raises(KeyError, match="not observed at step 3"):
        bias.at(3)
    assert run.series("grad_norm").at(3) == pytest.approx(
        np.hypot(run.series("grad_norm", "body.0.weight").at(3), run.series("grad_norm", "head.weight").at(3))
    )
    assert np.isnan(run.series("grad_norm").at(4)) and np.isnan(run.series("grad_norm", "body").at(4))


def test_ratios_are_derived_when_read(run) -> None:
    ratio = run.series("update_ratio", "head.weight")
    exact = run.series("update_norm", "head.weight").values / run.series("param_norm", "head.weight").values
    np.testing.assert_array_equal(ratio.values, exact)
    clipped = run.series("grad_norm_clipped", "head.weight")
    np.testing.assert_allclose(clipped.values, 0.25 * run.series("grad_norm", "head.weight").values, rtol=1e-7)
    assert "update_ratio" in run.metrics and "update_to_data" not in run.metrics
    assert run.paths("effective_lr") == PATHS


def test_unknown_names_raise_and_say_what_is_close(run) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'grad_norm'"):
        run.series("gradnorm")
    with pytest.raises(UnknownName, match=r"Did you mean 'head\.weight'"):
        run.series("grad_norm", "head.weigth")
    with pytest.raises(UnknownName, match="recorded per path"):
        run.series("lr")
    with pytest.raises(UnknownName, match="Did you mean"):
        run.paths("update_rato")


def test_unobserved_is_empty_and_says_so(run) -> None:
    series = run.series("dead_fraction", "body.0")
    assert not series.observed and len(series) == 0 and "not observed" in repr(series)
    assert not run.series("loss").observed


def test_cutting(run) -> None:
    cut = run.until(4)
    assert cut.steps.tolist() == [0, 1, 2, 3, 4] and cut.last_step == 4
    assert cut.until(9).last_step == 4
    assert len(cut.series("grad_norm")) == 5
    assert run.until(-1).last_step == -1


def test_series_is_an_array() -> None:
    steps = np.arange(3)
    left, right = (
        Series("a", "", steps, np.array([1.0, 10.0, 100.0])),
        Series("b", "", steps, np.array([1.0, 2.0, 3.0])),
    )
    np.testing.assert_array_equal(np.log10(left).values, [0, 1, 2])
    np.testing.assert_array_equal((left / right).values, [1, 5, 100 / 3])
    assert np.mean(left) == 37.0 and np.asarray(left).dtype == np.float64
    assert np.add.reduce(left) == 111.0
    with pytest.raises(SetupError, match="equal steps"):
        left + Series("c", "", np.arange(1, 4), np.ones(3))
    with pytest.raises(SetupError, match="equally long"):
        Series("d", "", np.arange(2), np.ones(3))
