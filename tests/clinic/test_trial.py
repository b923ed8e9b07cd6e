"""Trials: known faults fail as told, their repairs and the controls learn; results survive as JSON."""

import json
import math

import pytest

from auscult.clinic.controls import CONTROLS
from auscult.clinic.trial import Trial, failed_trial, run_trial, training
from auscult.core.errors import SetupError


def test_a_fault_fails_and_its_repair_learns(tmp_path) -> None:
    """A learning rate above 2 / the largest curvature diverges: 2 * 21.3 * 0.1 > 2 on x from -8 to 8."""
    faulty = run_trial("ips-5", "faulty", 0, tmp_path / "faulty")
    assert faulty.nonfinite and faulty.updated
    assert faulty.score == -99.0
    assert faulty.key == ("ips-5", "faulty", 0)
    fixed = run_trial("ips-5", "fixed", 0, tmp_path / "fixed")
    assert fixed.score > 0.95 and not fixed.nonfinite


def test_softmax_over_one_unit_never_updates_and_is_found(tmp_path) -> None:
    trial = run_trial("tdc-soft1d", "faulty", 0, tmp_path / "run")
    assert not trial.updated and trial.steps > 0
    assert any(each.severity == "critical" for each in trial.findings)


@pytest.mark.parametrize("name", ["iris-logistic", "l-bfgs", "resumed", "experts", "rescaled", "sparse-gradients"])
def test_a_control_reaches_its_floor(tmp_path, name: str) -> None:
    trial = run_trial(name, "control", 0, tmp_path / "run")
    assert trial.score >= CONTROLS[name].floor
    assert trial.updated and not trial.nonfinite


def test_json_keeps_everything(tmp_path) -> None:
    trial = run_trial("ips-5", "faulty", 0, tmp_path / "run")
    assert trial.findings
    assert Trial.from_dict(json.loads(json.dumps(trial.to_dict(), allow_nan=False))) == trial
    failed = failed_trial(("ips-5", "faulty", 1), tmp_path, "OSError: no space")
    assert math.isnan(failed.score)
    assert Trial.from_dict(json.loads(json.dumps(failed.to_dict(), allow_nan=False))) == failed


def test_unknown_names_are_refused(tmp_path) -> None:
    for name, variant in (("sloth", "faulty"), ("sloth", "control"), ("ips-5", "control"), ("wine", "fixed")):
        with pytest.raises(SetupError, match="name of a"):
            training(name, variant)


def test_no_name_is_both_a_fault_and_a_control() -> None:
    from auscult.clinic.faults import FAULTS

    assert not FAULTS.keys() & CONTROLS.keys()
