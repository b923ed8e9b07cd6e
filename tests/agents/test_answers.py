"""What is told of runs: bounded, strict JSON, and only of what lies inside."""

import json

import numpy as np
import pytest
from tests.agents.conftest import ESCAPES, SECRET

import auscult
from auscult.agents import answers
from auscult.agents.fence import Fence
from auscult.core.errors import AuscultError, SetupError, StoreError, UnknownName
from auscult.reading import diagnose


@pytest.fixture
def fence(yard) -> Fence:
    return Fence(yard / "inside")


def strict(answer: dict) -> dict:
    return json.loads(json.dumps(answer, allow_nan=False))


def test_every_answer_can_be_said_in_strict_json() -> None:
    odd = {"a": [float("nan"), (float("-inf"), 1.5)], "\ud800": "\udfff", "deep": {3: np.float64(np.inf)}, "n": None}
    said = json.dumps(answers.in_json(odd), allow_nan=False, ensure_ascii=False).encode()
    assert json.loads(said) == {"a": ["nan", ["-inf", 1.5]], "\\ud800": "\\udfff", "deep": {"3": "inf"}, "n": None}


def test_runs_inside_are_listed_with_their_verdict(fence) -> None:
    told = strict(answers.list_runs(fence))
    assert [each["run"] for each in told["runs"]] == ["deep/sick", "healthy"] and told["not_listed"] == 0
    assert told["runs"][0]["verdict"].startswith("Critical: non-finite") and told["runs"][1]["steps"] == 300


@pytest.mark.parametrize("name", ESCAPES)
def test_nothing_outside_can_be_named(name, fence) -> None:
    for ask in (
        lambda: answers.tell_verdict(fence, name),
        lambda: answers.tell_findings(fence, name),
        lambda: answers.tell_series(fence, name, "loss"),
        lambda: answers.compare(fence, ["healthy", name]),
    ):
        with pytest.raises(StoreError, match="list_runs names") as refused:
            ask()
        assert SECRET not in str(refused.value).replace(repr(name), "")


def test_the_directory_itself_may_be_the_run_and_a_link(yard, tmp_path) -> None:
    (tmp_path / "link").symlink_to(yard / "inside" / "healthy")
    assert Fence(tmp_path / "link").names() == ["."]
    assert answers.tell_verdict(Fence(tmp_path / "link"), ".")["steps"] == 300
    with pytest.raises(SetupError, match="a directory of runs"):
        Fence(tmp_path / "nowhere")


def test_a_series_keeps_its_extremes_and_its_first_nan(fence, yard) -> None:
    told = strict(answers.tell_series(fence, "healthy", "spike", points=20))
    assert len(told["values"]) <= 20 and 1e6 in told["values"]
    assert told["steps"][told["values"].index(1e6)] == 137
    told = strict(answers.tell_series(fence, "deep/sick", "loss", points=20))
    assert told["steps"][told["values"].index("nan")] == 200 and told["summary"]["nonfinite"] == 100
    whole = auscult.load(yard / "inside" / "healthy").series("loss")
    told = strict(answers.tell_series(fence, "healthy", "loss", points=2000, first=10, last=12))
    assert told["steps"] == [10, 11, 12] and told["values"] == whole.values[10:13].tolist()
    assert answers.tell_series(fence, "healthy", "grad_norm")["observed"] is False
    for points in (4, 2001):
        with pytest.raises(SetupError, match="between 5 and 2000"):
            answers.tell_series(fence, "healthy", "loss", points=points)
    with pytest.raises(UnknownName):
        answers.tell_series(fence, "healthy", "loos")


def test_findings_are_those_of_diagnose(fence, yard) -> None:
    told = strict(answers.tell_findings(fence, "deep/sick"))
    assert (
        [each["code"] for each in told["findings"]]
        == [each.code for each in diagnose(auscult.load(yard / "inside" / "deep" / "sick"))]
        == ["L001"]
    )
    told = strict(answers.tell_verdict(fence, "deep/sick"))
    assert told["sick"] and told["findings"] == 1 and {"metric": "loss", "path": ""} in told["recorded"]


def test_runs_are_compared(fence) -> None:
    told = strict(answers.compare(fence, ["healthy", "deep/sick"]))
    healthy, sick = told["runs"]
    assert healthy["findings"] == [] and sick["findings"] == ["L001 non-finite"]
    assert healthy["summary"]["last"] == pytest.approx(np.exp(-2.99)) and sick["summary"]["last"] == "nan"
    assert answers.compare(fence, ["healthy", "deep/sick"], metric="grad_norm")["runs"][0]["summary"] is None
    for names in (["healthy"], ["healthy"] * 9, ["healthy", "healthy"]):
        with pytest.raises(AuscultError, match="2 to 8 runs"):
            answers.compare(fence, names)
