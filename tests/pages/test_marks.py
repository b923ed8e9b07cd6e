from dataclasses import replace

import numpy as np

from auscult.core.run import Run, Segment
from auscult.pages.marks import MAX_MARKS, marks, marks_note, rate_curve


def marked(run: Run, kind: str) -> list[tuple[int, str]]:
    return [(each.step, each.text) for each in marks(run) if each.kind == kind]


def test_epochs_are_where_the_logged_epoch_reaches_the_next_whole_number(maker: type) -> None:
    built = maker(steps=100)
    built.add("user", "train/epoch", "", np.arange(100) / 40)
    assert marked(built.make(), "epoch") == [(40, "epoch 1"), (80, "epoch 2")]


def test_resumes_cadences_and_evaluations(maker: type) -> None:
    built = maker(steps=60)
    built.add("user", "loss", "", np.ones(60))
    built.add("evaluation", "val/loss", "", np.ones(3), [19, 39, 59])
    built.events = [{"kind": "schedule", "step": 32, "norms": 4, "samples": 64}]
    run = built.make()
    run = replace(run, segments=(*run.segments, Segment(50, 0.0)))
    assert marked(run, "segment") == [(50, "resumed")]
    assert marked(run, "cadence") == [(32, "norms every 4, samples every 64")]
    assert [step for step, _ in marked(run, "evaluation")] == [19, 39, 59]
    note = marks_note(marks(run))
    assert "resumes by a solid line" in note and "evaluations by dots" in note and "epoch" not in note
    assert marked(run.until(30), "cadence") == [] and len(marked(run.until(30), "evaluation")) == 1


def test_very_many_are_thinned_evenly(maker: type) -> None:
    built = maker(steps=5000)
    built.add("evaluation", "val/loss", "", np.ones(5000))
    steps = [step for step, _ in marked(built.make(), "evaluation")]
    assert len(steps) == MAX_MARKS and steps[0] == 0 and steps[-1] == 4999


def test_the_largest_learning_rate_is_the_one_behind_the_charts(maker: type) -> None:
    built = maker(steps=5)
    built.add("steps", "lr", "0", np.full(5, 1e-4))
    built.add("steps", "lr", "1", [np.nan, 1e-3, 1e-3, 0, 0])
    found = rate_curve(built.make())
    assert found is not None and found["values"] == [None, 1e-3, 1e-3, 0, 0]
    other = maker(steps=3)
    other.add("user", "loss", "", np.ones(3))
    assert rate_curve(other.make()) is None
