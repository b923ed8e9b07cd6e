import ast
from pathlib import Path

import numpy as np
import pytest

import auscult.rules
from auscult.core.digest import Digest
from auscult.core.run import Segment
from auscult.rules.channels import common_module
from auscult.rules.registry import RULES, judge
from auscult.rules.rule import Rule

SECTIONS = (
    "What it means:",
    "Why it hurts:",
    "How it is decided:",
    "What to try:",
    "Not reported when:",
    "References:",
)


def test_codes_and_names_are_unique():
    assert len({rule.code for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_docstring_is_a_page(rule: Rule):
    places = [(rule.__doc__ or "").find(section) for section in SECTIONS]
    assert -1 not in places and places == sorted(places)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_code_names_its_family(rule: Rule):
    families = {
        "A": {"activations"},
        "D": {"data"},
        "G": {"gradients", "clipping"},
        "H": {"heads", "objectives"},
        "I": {"initialization", "weights"},
        "L": {"losses"},
        "M": {"structure", "attention"},
        "N": {"modes"},
        "P": {"progress"},
        "R": {"ranks"},
        "U": {"updates", "learning_rate", "optimizer"},
    }
    assert type(rule).__module__.removeprefix("auscult.rules.") in families[rule.code[0]]


def test_every_rule_class_is_registered():
    folder = Path(auscult.rules.__file__).parent
    classes = {
        node.name
        for file in folder.glob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id == "Rule" for base in node.bases)
    }
    assert classes == {type(rule).__name__ for rule in RULES}


def test_empty_digest_has_no_findings():
    digest = Digest((Segment(0, 0.0),))
    assert judge(digest, digest) == []


def test_healthy_run_has_no_findings_at_any_length(training):
    for rows in (1, 2, 7, 8, 9, 63, 64, 65, 128, 320):
        digest = training.digest(rows)
        assert judge(digest, digest) == [], rows


def test_rules_leave_the_digest_alone_and_repeat_themselves(training):
    training.column("grad_norm", "layers.3.weight")[100:] = np.nan
    training.column("update_norm", "layers.0.weight")[:] = 3.0
    digest = training.digest()
    before = digest.state.tobytes()
    first = [finding.to_dict() for finding in judge(digest, digest)]
    assert first and first == [finding.to_dict() for finding in judge(digest, digest)]
    assert digest.state.tobytes() == before


def test_exact_rules_see_now_and_others_only_closed_blocks(training):
    training.column("loss")[130:] = np.nan
    for layer in range(4):
        training.column("update_norm", f"layers.{layer}.weight")[:] = 2.0
    codes = [each.code for each in judge(training.digest(64), training.digest(140))]
    assert codes == ["L001"]  # one closed block is too little for U001
    codes = [each.code for each in judge(training.digest(128), training.digest(140))]
    assert sorted(codes) == ["L001", "U001"]


def test_findings_come_worst_first(training):
    training.column("loss")[130:] = np.nan
    training.column("grad_norm", "layers.1.bias")[:] = 0.0
    training.column("update_norm", "layers.1.bias")[:] = 0.0
    findings = judge(training.digest(), training.digest())
    assert [each.severity for each in findings] == ["critical", "info"]


def test_of_two_as_severe_and_as_early_the_cause_stands_first(training):
    for layer in range(4):
        for metric, factor in (("grad_norm", 1e5), ("update_norm", 1e3)):
            training.column(metric, f"layers.{layer}.weight")[20] *= factor
        for metric in ("grad_norm", "update_norm", "param_norm"):
            training.column(metric, f"layers.{layer}.weight")[21:] = np.nan
    training.column("loss")[21:] = np.nan
    findings = judge(training.digest(), training.digest())
    assert [(each.code, each.step) for each in findings] == [("U001", 20), ("G002", 20), ("L001", 21)]
    assert sorted(findings, key=lambda finding: finding.rank) == findings


def test_exact_findings_stand_still_while_nothing_changes(training):
    """The monitor asks exact rules again only for 8 rows after a channel turns non-finite or zero."""
    training.column("grad_norm", "layers.0.weight")[50:] = 0.0
    training.column("update_norm", "layers.0.weight")[50:] = 0.0
    training.column("loss")[60:] = np.nan
    exact = [rule for rule in RULES if rule.exact]
    settled = judge(training.digest(70), training.digest(70), exact)
    assert {each.code for each in settled} == {"L001", "G001"}
    for rows in (71, 100, 128, 200, 320):
        assert judge(training.digest(rows), training.digest(rows), exact) == settled


@pytest.mark.parametrize(
    ("paths", "module"),
    [
        (["0.weight", "4.weight"], ""),
        (["enc.0.weight", "enc.1.weight"], "enc"),
        (["enc.0.weight", "enc.0.bias"], "enc.0"),
        (["scale"], "scale"),
        (["a.b", "a.b.c"], "a.b"),
    ],
)
def test_the_common_module_of_paths_exists(paths, module):
    assert common_module(paths) == module
