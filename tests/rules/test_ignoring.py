import numpy as np
import pytest

from auscult.core.errors import SetupError
from auscult.rules.ignoring import checked_patterns, sort_out
from auscult.rules.registry import RULES, judge, judgement


def found(training):
    training.column("grad_norm", "layers.1.bias")[:] = 0.0
    training.column("update_norm", "layers.1.bias")[:] = 0.0
    training.column("loss")[130:] = np.nan
    return judge(training.digest(), training.digest())


@pytest.mark.parametrize("pattern", ["L001", "non-finite", "L00?", "L001:*", "non-*"])
def test_a_pattern_is_a_code_or_a_name_with_wildcards(training, pattern):
    kept, ignored = sort_out(found(training), checked_patterns([pattern], RULES))
    assert [each.code for each in kept] == ["G001"]
    assert [(each.finding.code, each.pattern) for each in ignored] == [("L001", pattern)]


def test_a_path_narrows_a_pattern(training):
    some = found(training)
    assert sort_out(some, ("G001:head.*",))[0] == some


@pytest.mark.parametrize("wrong", ["U002", ["U999"], ["U002:"], [""], [3], 7, None, [":head.*"]])
def test_a_malformed_pattern_is_refused(wrong):
    with pytest.raises(SetupError, match="ignore"):
        checked_patterns(wrong, RULES)


def test_what_is_ignored_explains_nothing(training):
    kept, ignored = judgement(found(training), ("L001",))
    assert [each.cause for each in kept] == [None] and len(ignored) == 1
