"""Findings: identity, order, JSON."""

import json
import math

import pytest

from auscult.core.errors import SetupError
from auscult.core.finding import Evidence, Finding


def finding(**changes) -> Finding:
    given = {
        "code": "G001",
        "name": "zero-gradient",
        "severity": "warning",
        "path": "fc1",
        "step": 7,
        "summary": "It stopped.",
        "evidence": (Evidence("grad_norm", "fc1", 7, 0.0, 1e-9), Evidence("loss", "", 7, math.nan)),
        "advice": ("Lower the learning rate.",),
    }
    return Finding(**{**given, **changes})


def test_it_survives_strict_json() -> None:
    original = finding(evidence=(Evidence("a", "", 1, math.inf, -math.inf), Evidence("b", "", 1, math.nan)))
    again = Finding.from_dict(json.loads(json.dumps(original.to_dict(), allow_nan=False)))
    assert again.evidence[0] == original.evidence[0] and math.isnan(again.evidence[1].value)
    assert again.key == original.key == ("G001", "fc1")


def test_order_is_active_then_severe_then_early() -> None:
    worst, late = finding(severity="critical", step=9), finding(step=8)
    early, gone = finding(step=2), finding(severity="critical", status="recovered", step=0)
    assert sorted([gone, late, early, worst], key=lambda each: each.rank) == [worst, early, late, gone]


def test_evidence_and_advice_are_required() -> None:
    with pytest.raises(SetupError, match="at least one evidence"):
        finding(evidence=())
    with pytest.raises(SetupError, match="at least one evidence and one advice"):
        finding(advice=())


def test_it_reads_as_a_sentence() -> None:
    assert str(finding()) == (
        "G001 zero-gradient: It stopped. [grad_norm of fc1 = 0 at step 7 (bound 1e-09)] Try: Lower the learning rate."
    )
