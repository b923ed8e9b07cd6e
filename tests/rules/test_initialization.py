from math import log

import pytest

from auscult.core.digest import Digest
from auscult.core.run import Audit, Parameter, Segment
from auscult.rules.initialization import InitialLoss


def findings(value, classes=10, reduction="mean", expected=None, batch=32):
    expected = log(classes) if classes else expected
    audit = Audit(0, "cross_entropy", value, expected, classes, reduction, (batch, classes or 1), (batch,))
    return list(InitialLoss().check(Digest((Segment(0, 0.0),), audit)))


def test_the_first_loss_of_makemore():
    """27.88 against -log(1/27) = 3.2958, as printed in the notebook."""
    (finding,) = findings(27.8817, classes=27)
    assert finding.severity == "warning" and finding.step == 0
    assert finding.evidence[0].value == pytest.approx(27.8817)
    assert finding.evidence[0].bound == pytest.approx(3.2958, abs=1e-4)


def test_a_new_head_on_frozen_layers_is_info():
    frozen = Parameter("body.weight", (8, 8), "float32", trainable=False, group=None)
    audit = Audit(0, "cross_entropy", 12.0, log(10), 10, "mean", (32, 10), (32,))
    (finding,) = InitialLoss().check(Digest((Segment(0, 0.0, (frozen,)),), audit))
    assert finding.severity == "info"


@pytest.mark.parametrize("value", [2.30, 2.5, 2.8, 0.02])
def test_default_initialisation_and_a_fine_tuned_start_are_silent(value):
    assert findings(value) == []


def test_somewhat_high_is_info():
    assert [each.severity for each in findings(3.6)] == ["info"]
    assert [each.severity for each in findings(5.7)] == ["info"]


def test_two_classes_need_half_a_nat():
    assert findings(1.1, classes=2) == []
    assert len(findings(1.5, classes=2)) == 1


def test_summed_loss_is_divided_by_the_number_of_targets():
    assert findings(2.35 * 32, reduction="sum") == []
    assert len(findings(20.0 * 32, reduction="sum")) == 1


def test_regression_is_info_at_most():
    assert findings(5.0, classes=None, expected=1.0) == []
    assert [each.severity for each in findings(29000.0, classes=None, expected=6000.0)] == []
    assert [each.severity for each in findings(90000.0, classes=None, expected=6000.0)] == ["info"]


def test_silent_without_an_expectation_or_a_number():
    assert findings(9.0, classes=None, expected=None) == []
    assert findings(float("nan")) == []
