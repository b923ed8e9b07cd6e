"""Round: every trial is made once, in any order, kept on disk, and never mixed with those of another commit."""

import json
from dataclasses import replace
from math import inf, nan

import pytest

from auscult.clinic.results import Results
from auscult.clinic.round import Job, commit, conduct, jobs, parse_seeds
from auscult.clinic.trial import Trial
from auscult.core.errors import SetupError
from auscult.core.finding import Evidence, Finding

WANTED = jobs(["a", "b"], ["calm"], [0, 3])
FINDING = Finding("U001", "lr-too-high", "critical", "0.weight", 7, "Why.", (Evidence("loss", "", 7, nan, inf),),
                  ("Try.",), cause=("I003", "0"))  # fmt: skip


def attempt(job: Job) -> Trial:
    return Trial(job.case, job.variant, job.seed, score=0.5, nonfinite=False, updated=True, steps=1,
                 findings=(FINDING,), path="", rivals={"x": ("amp",)}, features=(1.0, inf), depths={"0": 0})  # fmt: skip


def test_a_round_has_every_variant_with_every_seed() -> None:
    assert len(WANTED) == 2 * 2 * 2 + 2 == len(set(WANTED))
    assert Job("a", "fixed", 3) in WANTED and Job("calm", "control", 0) in WANTED


def test_trials_are_made_once_and_kept(tmp_path) -> None:
    path = tmp_path / "kept" / "trials.jsonl"
    done: list[Job] = []
    first = conduct(WANTED[:4], attempt, Results(path, "abc"), on_trial=done.append)
    assert done == WANTED[:4] and [each.case for each in first] == ["a"] * 4
    made: list[Job] = []

    def noted(job: Job) -> Trial:
        made.append(job)
        return attempt(job)

    everything = conduct(WANTED, noted, Results(path, "abc"))
    assert made == WANTED[4:] and len(everything) == len(WANTED) and everything[:4] == first


def test_a_trial_survives_json() -> None:
    trial = replace(attempt(WANTED[0]), score=nan)
    again = Trial.from_dict(json.loads(json.dumps(trial.to_dict())))
    assert again.score != again.score and replace(again, score=0.0) == replace(trial, score=0.0)


def test_results_of_another_commit_or_another_kind_are_refused(tmp_path) -> None:
    path = tmp_path / "trials.jsonl"
    Results(path, "abc")
    with pytest.raises(SetupError, match="trials of commit xyz"):
        Results(path, "xyz")
    path.write_text(path.read_text() + '{"case": "a", "vari')
    with pytest.raises(SetupError, match="delete that line"):
        Results(path, "abc")


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-4", (0, 1, 2, 3, 4)), ("7", (7,)), ("0-2,10", (0, 1, 2, 10)), ("1, 1-2", (1, 2))]
)
def test_seeds(text, seeds) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "4-0", "-1", "1-", "0..4"])
def test_seeds_that_are_none(text) -> None:
    with pytest.raises(SetupError, match="Expected seeds as"):
        parse_seeds(text)


def test_the_commit_is_named() -> None:
    assert commit()
