"""The official client over standard input and output, against the real process."""

import asyncio
import hashlib
import os
import sys
from pathlib import Path

import pytest
from tests.agents.conftest import ESCAPES, SECRET

from auscult.imports.importer import import_runs

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CALLS = {
    "list_runs": {},
    "verdict": {"run": "healthy"},
    "findings": {"run": "deep/sick"},
    "series": {"run": "healthy", "metric": "loss", "points": 50},
    "compare": {"runs": ["healthy", "deep/sick"]},
}


def talk(directory: Path, calls: list[tuple[str, dict]]):
    """The tools, and what each call returns."""
    from mcp import Client, StdioServerParameters, stdio_client

    async def ask():
        arguments = ["-m", "auscult", "mcp", str(directory)]
        server = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
        async with Client(stdio_client(server)) as client:
            listed = await client.list_tools()
            return listed.tools, [await client.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(ask())


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file with its bytes and the time of its last change, every folder with that of its own."""
    return {
        str(each.relative_to(folder)): (
            hashlib.sha256(each.read_bytes()).hexdigest() if each.is_file() else "folder",
            each.lstat().st_mtime_ns,
        )
        for each in sorted(folder.rglob("*"))
    }


def test_the_client_lists_and_calls_every_tool_and_nothing_is_written(yard) -> None:
    before = fingerprint(yard)
    tools, results = talk(yard / "inside", list(CALLS.items()))
    assert {tool.name for tool in tools} == set(CALLS)
    for tool in tools:
        assert tool.annotations.read_only_hint and not tool.annotations.destructive_hint
        assert tool.description and all(name in tool.description for name in tool.input_schema["properties"])
    assert not any(each.is_error for each in results)
    told = dict(zip(CALLS, (each.structured_content for each in results), strict=True))
    assert [each["run"] for each in told["list_runs"]["runs"]] == ["deep/sick", "healthy"]
    assert told["verdict"]["verdict"].startswith("No problem found")
    assert told["findings"]["findings"][0]["code"] == "L001" and told["findings"]["findings"][0]["step"] == 200
    assert len(told["series"]["values"]) <= 50 and len(told["compare"]["runs"]) == 2
    assert fingerprint(yard) == before


def test_no_tool_reads_anything_outside_the_directory(yard) -> None:
    calls = [("list_runs", {})]
    for name in ESCAPES:
        calls += [("verdict", {"run": name}), ("findings", {"run": name}), ("series", {"run": name, "metric": "loss"})]
        calls += [
            ("compare", {"runs": ["healthy", name]}),
            ("series", {"run": "healthy", "metric": name, "path": name}),
        ]
    _, results = talk(yard / "inside", calls)
    assert SECRET not in str(results[0].structured_content)
    for (tool, arguments), result in zip(calls[1:], results[1:], strict=True):
        assert result.is_error, (tool, arguments)
        said = "".join(each.text for each in result.content)
        assert "Expected" in said and "Traceback" not in said, said


def test_names_and_settings_that_json_has_no_words_for(tmp_path) -> None:
    """A name with half a character, a setting that is NaN, and a question of a megabyte."""
    for run, steps in (("one", "NaN"), ("two", "7")):
        (tmp_path / run).mkdir()
        (tmp_path / run / "trainer_state.json").write_text(
            f'{{"max_steps": {steps}, "log_history": [{{"step": 1, "loss": Infinity, "s\\ud800x": 2.0}}]}}'
        )
        import_runs(tmp_path / run, tmp_path / "runs" / run)
    metrics = ("loss", "y" * 1_000_000)
    calls = [("verdict", {"run": "one"}), ("compare", {"runs": ["one", "two"]})]
    calls += [("series", {"run": "one", "metric": metric}) for metric in metrics]
    _, results = talk(tmp_path / "runs", calls)
    assert [each.is_error for each in results] == [False, False, False, True]
    verdict, compared, series, _ = (each.structured_content for each in results)
    assert {"metric": "s\\ud800x", "path": ""} in verdict["recorded"] and series["values"] == ["inf"]
    assert compared["differing_config"] == {"max_steps": {"one": "nan", "two": 7}}
    assert len(results[-1].content[0].text) < 2_100


def test_an_error_is_told_in_words_and_the_server_goes_on(yard) -> None:
    calls = [("verdict", {"run": "nowhere"}), ("series", {"run": "healthy", "metric": "loos"}), ("verdict", {})]
    _, results = talk(yard / "inside", [*calls, ("verdict", CALLS["verdict"])])
    assert [each.is_error for each in results] == [True, True, True, False]
    assert "There are: deep/sick, healthy" in results[0].content[0].text
    assert "Did you mean 'loss'" in results[1].content[0].text
