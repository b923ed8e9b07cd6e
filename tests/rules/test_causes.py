from dataclasses import replace

import pytest

from auscult.core.finding import Evidence, Finding, Severity, Status, in_groups
from auscult.rules.causes import MECHANISMS, SLACK, explained


def finding(
    code: str, severity: Severity = "warning", step: int = 0, path: str = "", status: Status = "active"
) -> Finding:
    evidence = (Evidence("loss", "", step, 1.0),)
    return Finding(code, code.lower(), severity, path, step, "It is.", evidence, ("Do.",), status=status)


def causes(*findings: Finding) -> dict[str, str | None]:
    return {each.code: each.cause and each.cause[0] for each in explained(findings)}


def test_no_mechanism_goes_round_in_a_circle():
    """A cause stands above all that it explains, so every chain ends."""
    order = [cause for cause, _ in MECHANISMS]
    assert len(set(order)) == len(order)
    for cause, consequences in MECHANISMS:
        assert cause not in consequences
        for each in consequences:
            assert each not in order or order.index(each) > order.index(cause), (cause, each)


def test_one_root_explains_all_that_follows():
    found = explained(
        [finding("L001", "critical", 300), finding("U001", step=10), finding("G002", "critical", 200, "0.weight")]
    )
    assert [(each.code, each.cause) for each in found] == [
        ("U001", None),
        ("G002", ("U001", "")),
        ("L001", ("U001", "")),
    ]


def test_a_cause_does_not_begin_after_its_consequence():
    assert causes(finding("U001", step=200), finding("G002", step=200 - SLACK))["G002"] == "U001"
    assert causes(finding("U001", step=200), finding("G002", step=199 - SLACK))["G002"] is None


def test_a_note_explains_notes_only_and_what_has_recovered_nothing_that_lasts():
    assert causes(finding("U001", "info"), finding("G002"))["G002"] is None
    assert causes(finding("U001", "info"), finding("L003", "info"))["L003"] == "U001"
    assert causes(finding("U001", status="recovered"), finding("G002", step=9))["G002"] is None


def test_groups_stand_where_their_worst_finding_does():
    found = explained(
        [finding("A002", "warning", 0, "tanh"), finding("U001", "warning", 5), finding("L001", "critical", 90)]
    )
    assert [each.code for each in found] == ["U001", "L001", "A002"]


def test_a_consequence_whose_cause_is_not_told_stands_by_itself():
    alone = replace(finding("L001"), cause=("U001", ""))
    assert in_groups([finding("A002", "critical"), alone])[1] is alone


@pytest.mark.parametrize("code", ["D001", "I003", "U001", "U005", "H006"])
def test_what_makes_runs_diverge_explains_nan(code):
    assert causes(finding(code), finding("L001", "critical", 50))["L001"] == code
