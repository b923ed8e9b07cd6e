"""What `diagnose --json` prints is valid by the schema that is published with it, and what it says is true."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator, ValidationError

from auscult.core.finding import SEVERITIES, Evidence, Finding
from auscult.core.run import Run
from auscult.imports.importer import import_runs
from auscult.pages.diagnosis import VERSION, diagnosis, diagnosis_schema, diagnosis_text
from auscult.reading import examine
from auscult.rules.registry import RULES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    plain = json.loads(diagnosis_schema())
    Draft202012Validator.check_schema(plain)
    return Draft202012Validator(plain)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """A directory with a healthy, a noted and a sick run."""
    folder = tmp_path_factory.mktemp("runs")
    falling = np.exp(-np.arange(300) / 100)
    for name, loss in {"healthy": falling, "sick": np.where(np.arange(300) < 200, falling, np.inf)}.items():
        lines = ["step,loss", *(f"{step},{value!r}" for step, value in enumerate(loss.tolist()))]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
        import_runs(folder / f"{name}.csv", folder / name)
    return folder


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "auscult", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=dict(os.environ),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["healthy", "exploding", "poisoned", "hostile"])
def test_every_diagnosis_is_valid(name: str, request: pytest.FixtureRequest, schema: Draft202012Validator) -> None:
    run: Run = request.getfixturevalue(name)
    findings, ignored = examine(run, ["G0*", "L00?"])
    told = json.loads(
        diagnosis_text(run, findings, [(each.pattern, each.finding) for each in ignored]), parse_constant=pytest.fail
    )
    schema.validate(told)
    schema.validate(json.loads(diagnosis_text(run, examine(run)[0]), parse_constant=pytest.fail))
    assert [Finding.from_dict(each) for each in told["findings"]] == findings
    assert told["steps"] == len(run.steps) and told["last_step"] == run.last_step


def test_an_empty_run_and_every_kind_of_finding_are_valid(
    run_of: Callable[..., Run], finding: Callable[..., Finding], schema: Draft202012Validator
) -> None:
    run = run_of(steps=0, finished=False)
    schema.validate(json.loads(diagnosis_text(run, [])))
    assert diagnosis(run, [])["last_step"] is None and diagnosis(run, [])["state"] == "unfinished"
    figures = [Evidence("m", "", 0, value, bound) for value in (1.0, np.nan, np.inf, -np.inf) for bound in (None, 2.0)]
    kinds = [
        finding(severity=severity, status=status, phase=phase, evidence=tuple(figures), cause=cause)
        for severity in SEVERITIES
        for status in ("active", "recovered")
        for phase, cause in ((None, None), ("loss", ("L001", "")), ("update", None))
    ]
    schema.validate(json.loads(diagnosis_text(run_of(steps=3), kinds, [("G0*", kinds[0])])))


def test_codes_and_names_of_all_rules_fit_the_schema() -> None:
    properties = json.loads(diagnosis_schema())["$defs"]["finding"]["properties"]
    for rule in RULES:
        assert re.fullmatch(properties["code"]["pattern"].strip("^$"), rule.code)
        assert re.fullmatch(properties["name"]["pattern"].strip("^$"), rule.name)


@pytest.mark.parametrize(
    ("key", "value"),
    [("version", 2), ("sick", "yes"), ("findings", None), ("steps", -1), ("state", "dead"), ("verdict", "")],
)
def test_the_schema_refuses_what_is_none(key, value, healthy: Run, schema: Draft202012Validator) -> None:
    with pytest.raises(ValidationError):
        schema.validate({**diagnosis(healthy, []), key: value})
    with pytest.raises(ValidationError):
        schema.validate({name: each for name, each in diagnosis(healthy, []).items() if name != key})


def test_the_schema_is_printed_and_names_every_key_and_no_other(healthy: Run) -> None:
    done = call("diagnose", "--schema")
    assert done.returncode == 0 and done.stdout == diagnosis_schema()
    plain = json.loads(done.stdout)
    assert set(plain["properties"]) == set(plain["required"]) == set(diagnosis(healthy, []))
    assert plain["$id"].endswith(f":{VERSION}") and plain["properties"]["version"]["const"] == VERSION
    assert all("description" in each or "enum" in each for each in plain["properties"].values())
    page = (ROOT / "docs" / "diagnose-json.md").read_text()
    assert all(f"`{key}`" in page for key in plain["properties"])
    assert all(f"`{key}`" in page for key in plain["$defs"]["finding"]["properties"])


@pytest.mark.parametrize(
    ("name", "options", "code"),
    [
        ("sick", [], 0),
        ("sick", ["--fail-on", "critical"], 1),
        ("sick", ["--fail-on", "critical", "--ignore", "L001"], 0),
        ("healthy", ["--fail-on", "info"], 0),
        ("nowhere", [], 2),
        ("sick", ["--fail-on", "sometimes"], 2),
    ],
)
def test_exit_codes_are_as_documented(name, options, code, stored: Path, schema: Draft202012Validator) -> None:
    done = call("diagnose", stored / name, "--json", *options)
    assert done.returncode == code, done.stderr
    if code == 2:
        assert done.stdout == "" and done.stderr
    else:
        schema.validate(json.loads(done.stdout, parse_constant=pytest.fail))
