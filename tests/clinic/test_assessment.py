"""Assessment: what a plan holds, and the whole way from a command to a page and an exit code."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from auscult.clinic.assessment import CI_CASES, CI_CONTROLS, assess, make_plan, parse_seeds
from auscult.clinic.controls import CONTROLS
from auscult.clinic.depth import near
from auscult.clinic.faults import FAULTS
from auscult.clinic.rivals import RIVALS
from auscult.clinic.taxonomy import FAULTS as CLASSES
from auscult.clinic.traits import TRAITS
from auscult.clinic.trial import Trial, run_trial
from auscult.core.errors import SetupError

QUICK = "at-sc"
AUSCULT = Path(sys.executable).parent / "auscult"


def test_every_case_is_of_a_class_that_exists() -> None:
    assert {each.root_cause for each in FAULTS.values()} <= set(CLASSES)


def test_the_whole_plan_has_every_case_and_control() -> None:
    plan = make_plan((0, 1))
    assert len(plan.keys) == 2 * (2 * len(FAULTS) + len(CONTROLS)) and not plan.given
    assert plan.command == "auscult clinic score --seeds 0-1"


def test_the_subset_is_small_and_of_many_classes() -> None:
    plan = make_plan((0,), ci=True)
    assert plan.cases and set(plan.cases) == set(CI_CASES) and set(plan.controls) == set(CI_CONTROLS) and plan.given
    assert len({FAULTS[name].root_cause for name in CI_CASES}) == len(CI_CASES) == 12 and len(CI_CONTROLS) == 8


def test_names_that_are_none_are_refused() -> None:
    with pytest.raises(SetupError, match=f"Did you mean '{QUICK}'"):
        make_plan((0,), [QUICK + "x"])
    with pytest.raises(SetupError, match="but got both"):
        make_plan((0,), [QUICK], ci=True)


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Trial:
    return run_trial("tdc-soft1d", "faulty", 0, tmp_path_factory.mktemp("runs") / "run")


def test_a_trial_holds_what_every_doctor_says(trial) -> None:
    assert set(trial.rivals) == set(RIVALS) and len(trial.features) == len(TRAITS)
    assert near("0.weight", ("0",), trial.depths) == 1.0 and near("2.weight", ("0",), trial.depths) == 0.5


def test_a_first_alarm_is_told_when_it_is_raised(trial) -> None:
    worst = trial.findings[0]
    assert worst.severity == "critical" and worst.step == 0
    assert trial.first_alarm == 7  # the eighth gradient of exactly 0


def test_a_trial_survives_json(trial) -> None:
    again = Trial.from_dict(json.loads(json.dumps(trial.to_dict(), allow_nan=False)))
    assert replace(again, features=()) == replace(trial, features=())
    assert np.array_equal(again.features, trial.features, equal_nan=True)


def test_results_of_another_commit_are_refused(tmp_path) -> None:
    results = tmp_path / "trials.jsonl"
    results.write_text("")
    with pytest.raises(SetupError, match="holds those of an unknown commit"):
        assess(make_plan((0,), [QUICK]), results)
    results.with_name("trials.jsonl.commit").write_text("abc\n")
    with pytest.raises(SetupError, match="holds those of abc"):
        assess(make_plan((0,), [QUICK]), results)


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-4", (0, 1, 2, 3, 4)), ("7", (7,)), ("0-2,10", (0, 1, 2, 10)), ("1, 1-2", (1, 2))]
)
def test_seeds(text, seeds) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "4-0", "-1", "1-", "0..4"])
def test_seeds_that_are_none(text) -> None:
    with pytest.raises(SetupError, match="Expected seeds as"):
        parse_seeds(text)


def test_the_command_writes_the_page_and_checks_the_gates(tmp_path) -> None:
    arguments = ["--case", QUICK, "--seeds", "3", "--date", "2026-11-21"]
    files = ["--out", tmp_path / "page.md", "--results", tmp_path / "trials.jsonl"]
    done = run("clinic", "score", *arguments, *files)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("# Error rate\n\nMade by `auscult clinic score --seeds 3 --case at-sc` on 2026-11-21")
    assert "2 runs: 1 faulty and 1 fixed ones of 1 cases, of which 0 count" in text
    assert f"| {QUICK} | " in text and "too few runs" in text and "detection of faults" in done.stdout
    kept = (tmp_path / "trials.jsonl").read_text()
    again = run("clinic", "score", *arguments, *files)
    assert again.returncode == 0 and (tmp_path / "trials.jsonl").read_text() == kept
    wrong = run("clinic", "score", "--seeds", "4-0")
    assert wrong.returncode == 2 and "Expected seeds as 0-4" in wrong.stderr


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AUSCULT, *map(str, arguments)], capture_output=True, text=True, check=False)
