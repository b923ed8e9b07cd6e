"""Trackers that misbehave, floods, ranks and resumes, with a tracker in memory; test_round_trip has the real ones."""

import random
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tests.integrations.conftest import EVERYTHING, Training, watched
from torch import nn

import auscult
from auscult.core.detail import TensorDetail
from auscult.core.errors import SetupError
from auscult.core.finding import Finding
from auscult.core.run import RunInfo
from auscult.integrations import outbox
from auscult.integrations.logger import LoggerSink
from auscult.integrations.selection import USUAL, Selection
from auscult.integrations.tracker import Tracker, bars

pytestmark = pytest.mark.provokes_failure


class InMemory(Tracker):
    """Keeps what it is sent, and does first what it is told to do."""

    title: ClassVar[str] = "Memory"
    package: ClassVar[str] = "json"

    def __init__(self, selection: Selection | None = EVERYTHING, at: str = "", do: Any = None, **more: Any) -> None:
        super().__init__(selection, **{"files": False, **more})
        self.at, self.do = at, do
        self.calls: list[str] = []
        self.points: dict[str, list[tuple[int, float]]] = {}
        self.findings: list[tuple[int, str]] = []
        self.histograms: dict[str, list[int]] = {}
        self.begun: list[int] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name == self.at:
            self.do()

    def _open(self, run: RunInfo, path: Path, step: int) -> None:
        self._called("open")
        self.begun.append(step)

    def _send(self, step: int, values: Mapping[str, float]) -> None:
        self._called("send")
        for key, value in values.items():
            self.points.setdefault(key, []).append((step, value))

    def _send_histograms(self, step: int, tensors: Mapping[str, TensorDetail]) -> None:
        self._called("histograms")
        for key in tensors:
            self.histograms.setdefault(key, []).append(step)

    def _send_finding(self, step: int, finding: Finding, text: str) -> None:
        self._called("finding")
        self.findings.append((step, finding.code))

    def _send_files(self, page: Path, sound: Path) -> None:
        self._called("files")
        assert page.stat().st_size > 10_000 < sound.stat().st_size

    def _finish(self) -> None:
        self._called("finish")


def fail() -> None:
    raise ConnectionError("no route to host")


class Missing(InMemory):
    package: ClassVar[str] = "no_such_tracker"


def bare_bits(steps: int) -> list[torch.Tensor]:
    training = Training()
    training.run(range(steps), None)
    return training.bits()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Missing(), "No module named 'no_such_tracker'"),
        (lambda: InMemory(at="open", do=fail), "no route to host"),
        (lambda: InMemory(at="send", do=fail), "no route to host"),
        (lambda: InMemory(at="finding", do=fail), "no route to host"),
        (lambda: InMemory(at="finish", do=fail), "no route to host"),
    ],
    ids=["not installed", "cannot be opened", "takes no numbers", "takes no findings", "cannot be finished"],
)
def test_a_tracker_that_fails_changes_nothing_and_is_told_of_once(
    make: Callable[[], InMemory], said: str, tmp_path: Path
) -> None:
    training, sink, beside = Training(), make(), InMemory()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with watched(training, tmp_path / "run", [sink, beside]) as monitor:
            training.run(range(10), monitor)
            training.model[3].weight.data[0, 0] = float("nan")
            training.run(range(10, 12), monitor)
    messages = [str(each.message) for each in caught]
    assert len(messages) == 1 and said in messages[0], messages
    assert type(sink).__name__ in messages[0] and "Training is not affected" in messages[0]
    assert [part for part, _ in monitor.failures] == [f"sink {type(sink).__name__}"]
    run = auscult.load(tmp_path / "run")
    assert run.steps.tolist() == list(range(12))
    assert any(each["kind"] == "failure" for each in run.events) or sink.at == "finish"  # after the run was closed
    assert [step for step, _ in beside.points["loss"]] == list(range(12))


@pytest.mark.parametrize("make", [lambda: Missing(), lambda: InMemory(at="send", do=fail)], ids=["missing", "raises"])
def test_a_tracker_that_fails_leaves_every_bit(make: Callable[[], InMemory], tmp_path: Path) -> None:
    training = Training()
    random.seed(1)
    before = random.getstate(), str(np.random.get_state())  # noqa: NPY002
    with pytest.warns(RuntimeWarning), watched(training, tmp_path / "run", [make()]) as monitor:
        training.run(range(12), monitor)
    assert all(a.equal(b) for a, b in zip(bare_bits(12), training.bits(), strict=True))
    assert before == (random.getstate(), str(np.random.get_state()))  # noqa: NPY002


def test_what_a_tracker_draws_is_not_drawn_from_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "drawing_tracker.py").write_text(
        "import random\nfrom random import choice, gauss\nrandom.random()\n"
        "def draw():\n    return random.random(), choice('ab'), gauss(0, 1), random.Random(1).random()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    class Drawing(InMemory):
        package: ClassVar[str] = "drawing_tracker"

        def _called(self, name: str) -> None:
            self._client.draw()
            super()._called(name)

    random.seed(1)
    before, training = random.getstate(), Training()
    with watched(training, tmp_path / "run", [sink := Drawing()]) as monitor:
        training.run(range(6), monitor)
    assert monitor.failures == [] and sink.calls.count("send") == 6
    assert before == random.getstate()


@pytest.mark.parametrize("at", ["open", "send"])
def test_a_tracker_that_blocks_for_30_seconds_is_not_waited_for(at: str, tmp_path: Path) -> None:
    called, released, training = Event(), Event(), Training()
    sink = InMemory(at=at, do=lambda: called.set() or released.wait(30), seconds=0.2)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with watched(training, tmp_path / "run", [sink]) as monitor:
                training.run(range(60), monitor)
                assert monitor.step == 60
                assert called.wait(60)  # on a thread of its own, which may come late
                assert sink.calls[-1] == at and not sink.points  # the training is over, the first call is not
        assert all(a.equal(b) for a, b in zip(bare_bits(60), training.bits(), strict=True))
        assert len(caught) == 1 and "within 0.2 s" in str(caught[0].message), [str(each.message) for each in caught]
    finally:
        released.set()


def test_beyond_the_room_the_oldest_numbers_are_dropped_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "ROOM", 5_000)
    released, training = Event(), Training()
    sink = InMemory(at="open", do=lambda: released.wait(30))
    with (
        pytest.warns(RuntimeWarning, match="The oldest are dropped"),
        watched(training, tmp_path / "run", [sink]) as monitor,
    ):
        training.run(range(150), monitor)
        training.model[3].weight.data[0, 0] = float("nan")
        training.run(range(150, 200), monitor)
        released.set()
    steps = [step for step, _ in sink.points["loss"]]
    assert steps == list(range(200 - len(steps), 200)) and 10 < len(steps) < 100
    assert "L001" in {code for _, code in sink.findings} and 0 in sink.histograms["param_histogram/0.weight"]


def test_after_a_failure_it_goes_on_with_what_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FIRST_PAUSE", 0.01)
    failures = iter([fail, fail])
    training = Training()
    sink = InMemory(at="send", do=lambda: next(failures, lambda: None)())
    with pytest.warns(RuntimeWarning, match="no route to host"), watched(training, tmp_path / "run", [sink]) as monitor:
        training.run(range(20), monitor)
    assert [step for step, _ in sink.points["loss"]] == list(range(2, 20))


def test_only_rank_0_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    training, sink = Training(), InMemory()
    with watched(training, tmp_path / "run", [sink]) as monitor:
        training.run(range(5), monitor)
    assert sink.calls == [] and monitor.failures == []


def test_what_is_sent_is_what_run_series_says(tmp_path: Path) -> None:
    training, sink = Training(), InMemory(files=True)
    with watched(training, tmp_path / "run", [sink]) as monitor:
        training.run(range(10), monitor)
        training.model[0].bias.requires_grad_(False)  # from here on it has no gradient, but is still there
        training.run(range(10, 20), monitor)
    assert monitor.failures == [] and sink.calls[-2:] == ["files", "finish"]
    run, compared = auscult.load(tmp_path / "run"), 0
    for metric in run.metrics:
        for path in {"", *run.paths(metric)}:
            key = f"{metric}/{path}" if path else metric
            if key in sink.points or path:
                series = run.series(metric, path)
                assert [step for step, _ in sink.points.get(key, [])] == series.steps.tolist(), key
                values = [value for _, value in sink.points.get(key, [])]
                np.testing.assert_allclose(values, series, rtol=1e-14, err_msg=key)
                compared += len(series)
    assert compared > 2000 and {"grad_norm", "param_norm", "update_ratio", "grad_norm_clipped"} <= sink.points.keys()


def test_a_resume_behind_what_was_sent_doubles_nothing(tmp_path: Path) -> None:
    first, sink = Training(), InMemory()
    with watched(first, tmp_path / "run", [sink]) as monitor:
        first.run(range(8), monitor)
        checkpoint, state = first.state(), monitor.state_dict()
        first.run(range(8, 12), monitor)
    again, later = Training(seed=1), InMemory()
    again.load(checkpoint)
    with watched(again, tmp_path / "run", [later], if_exists="resume") as monitor:
        monitor.load_state_dict(state)
        again.run(range(8, 20), monitor)
    assert later.begun == [8]
    assert [step for step, _ in sink.points["loss"] + later.points["loss"]] == list(range(20))
    run = auscult.load(tmp_path / "run")
    sent = [value for _, value in sink.points["grad_norm/0.weight"] + later.points["grad_norm/0.weight"]]
    np.testing.assert_allclose(sent, run.series("grad_norm", "0.weight"), rtol=1e-14)


def test_cadence_is_the_first_value_of_each_window(tmp_path: Path) -> None:
    training, sink = Training(), InMemory(Selection(every=5, paths_every=20))
    with watched(training, tmp_path / "run", [sink]) as monitor:
        training.run(range(50), monitor)
        for step in (53, 54, 61):
            training.run(range(50, 51), monitor)
            monitor.log({"rare": float(step)})
    steps = {key: [step for step, _ in points] for key, points in sink.points.items()}
    assert steps["loss"] == steps["grad_norm"] == steps["lr/0"] == list(range(0, 51, 5))
    assert steps["grad_norm/0.weight"] == [0, 20, 40]
    assert steps["val/accuracy"] == list(range(3, 50, 4))  # evaluations are all sent
    assert steps["rare"] == [50]


def test_five_thousand_channels_do_not_flood_a_project(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(320)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    usual, all_of_them = (
        InMemory(Selection(every=1, paths_every=1)),
        InMemory(Selection(every=1, paths_every=1, include=("*",))),
    )
    with auscult.watch(model, optimizer, tmp_path / "run", sinks=[usual, all_of_them], every=(1, 1)) as monitor:
        for _ in range(3):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    run = auscult.load(tmp_path / "run")
    assert sum(len(run.paths(metric)) for metric in run.metrics) > 5_000
    for sink in (usual, all_of_them):
        single = {key for key in {*sink.points, *sink.histograms} if "/" in key and not key.startswith("lr/")}
        assert 300 < len(single) <= 500, len(single)
        assert not any(key.startswith(("grad_norm/", "update_ratio/")) for key in single)  # all 640 of them, or none
        assert "grad_norm" in sink.points and "update_ratio" in sink.points
    told = [each.getMessage() for each in caplog.records if "beyond the limit" in each.getMessage()]
    assert told and "Selection(include=" in told[0]
    assert isinstance(monitor, auscult.Monitor) and monitor.failures == []


def test_include_and_exclude_choose_by_key(tmp_path: Path) -> None:
    include, exclude = ("grad_norm/0.*", "*_histogram/3.weight"), ("step_time", "*.bias")
    chosen = Selection(every=1, paths_every=1, include=include, exclude=exclude)
    training, sink = Training(), InMemory(chosen)
    with watched(training, tmp_path / "run", [sink]) as monitor:
        training.run(range(4), monitor)
    single = {key for key in {*sink.points, *sink.histograms} if key.count("/") and key.endswith((".weight", ".bias"))}
    assert single == {"grad_norm/0.weight", *(f"{kind}_histogram/3.weight" for kind in ("param", "grad", "update"))}
    assert "overhead_time" in sink.points and "step_time" not in sink.points


@pytest.mark.parametrize("wrong", [{"every": 0}, {"paths_every": 1.5}, {"limit": -1}, {"include": "grad_norm/*"}])
def test_a_selection_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match="Expected `"):
        Selection(**wrong)
    assert Selection().include == USUAL


def test_a_logger_gets_the_same_on_the_training_thread(tmp_path: Path) -> None:
    told: dict[int, dict[str, float]] = {}
    training = Training()
    sink = LoggerSink(lambda values, *, step: told.update({step: values}), EVERYTHING)
    with watched(training, tmp_path / "run", [sink]) as monitor:
        training.run(range(10), monitor)
    run = auscult.load(tmp_path / "run")
    assert list(told) == list(range(10))
    np.testing.assert_allclose([each["grad_norm"] for each in told.values()], run.series("grad_norm"), rtol=1e-14)


def test_bars_hold_every_finite_element(tmp_path: Path) -> None:
    training = Training()
    with watched(training, tmp_path / "run", []) as monitor:
        training.run(range(2), monitor)
    for tensor in auscult.load(tmp_path / "run").detail(0).tensors:
        counts, edges = bars(tensor)
        assert counts.sum() == tensor.histogram.total and (np.diff(edges) > 0).all() and (counts >= 0).all()
        assert edges[0] <= tensor.minimum and tensor.maximum <= edges[-1]
