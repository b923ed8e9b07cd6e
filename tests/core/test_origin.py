"""Origin: what it says of itself, and that it survives JSON."""

import json

import pytest

from auscult.core.origin import Origin

FOUND = Origin(
    7, "forward", "output", "encoder.2", "Log", "inf", "float16", "log", "model.py:12", ("head.weight",), "hooks aside"
)


@pytest.mark.parametrize("origin", [FOUND, Origin(3, reason="no forward pass was seen")])
def test_it_survives_json(origin: Origin) -> None:
    assert Origin.from_dict(json.loads(json.dumps(origin.to_dict()))) == origin
    assert Origin.from_dict({**origin.to_dict(), "kind_of_event": "origin"}) == origin


def test_it_says_what_happened_where() -> None:
    assert str(FOUND) == (
        "At step 7 the output of encoder.2 (Log) became infinite in float16 from finite numbers by log at model.py:12; "
        "hooks aside."
    )
    assert str(Origin(1, "data", "argument", "", "Net", "nan", "float32")) == (
        "At step 1 an argument of the model was already NaN in float32."
    )
    assert str(Origin(1, "update", "update", "head.bias", "Linear", "nan")) == (
        "At step 1 the value of head.bias (Linear) became NaN in the update."
    )
    assert str(Origin(1, "backward", "norm", "", kind="overflow")) == (
        "At step 1 the norm of the gradients overflowed although every element was finite."
    )


def test_it_says_what_is_not_known() -> None:
    unknown = Origin(5, reason="the batch was written over")
    assert not unknown.known and "unknown: the batch was written over" in str(unknown)
    half = Origin(5, "backward", "gradient", kind="nan", reason="no loss was given", parameters=("a", "b"))
    assert not half.known and str(half) == (
        "At step 5 the gradient became NaN. Where exactly is unknown: no loss was given."
    )
