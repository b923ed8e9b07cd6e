"""Every tool asked of a run that a real training is writing at that moment: whole answers, never an error."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.agents.conftest import write_run
from tests.agents.test_server import talk

from auscult.agents.answers import compare, list_runs, tell_findings, tell_series, tell_verdict
from auscult.agents.fence import Fence
from auscult.store.reader import load

TRAIN = """
import sys, torch, auscult
from pathlib import Path
torch.set_num_threads(1)
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
monitor = auscult.watch(model, optimizer, sys.argv[1], every=(1, 1), config={"lr": 0.01})
step = 0
while not Path(sys.argv[2]).exists():
    model(torch.ones(2, 4)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    monitor.log(loss=step)
    step += 1
    if step == 70:
        print("going", flush=True)
monitor.close()
"""
ROUNDS = 5


@pytest.fixture
def going(tmp_path) -> Iterator[tuple[Path, Path, subprocess.Popen]]:
    """A directory in which a process writes the run `going`, the file that ends it, and the process."""
    folder, end = tmp_path / "runs", tmp_path / "end"
    write_run(folder / "before", np.arange(5.0))
    code = [sys.executable, "-c", TRAIN, str(folder / "going"), str(end)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "going\n"
            yield folder, end, process
        finally:
            end.touch()
            process.wait(60)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_so_does_the_server(going) -> None:
    folder, _, process = going
    asked = {
        "list_runs": {},
        "verdict": {"run": "going"},
        "findings": {"run": "going"},
        "series": {"run": "going", "metric": "grad_norm", "path": "weight"},
        "compare": {"runs": ["before", "going"]},
    }
    tools, results = talk(folder, [*asked.items()] * 3)
    assert {tool.name for tool in tools} == set(asked) and process.poll() is None
    assert not any(each.is_error for each in results), results


@pytest.mark.live
def test_every_tool_answers_while_the_run_is_written(going) -> None:
    folder, end, process = going
    fence, seen = Fence(folder), [0]
    for _ in range(ROUNDS):
        listed = list_runs(fence)["runs"]
        assert [each["run"] for each in listed] == ["before", "going"] and not any("error" in each for each in listed)
        assert tell_verdict(fence, "going")["state"] == tell_findings(fence, "going")["state"] == "unfinished"
        series = tell_series(fence, "going", "loss", points=2000)
        assert series["steps"] == series["values"], "a number stands at a step that is not its own"
        assert series["summary"]["count"] == series["summary"]["last"] + 1
        pair = compare(fence, ["before", "going"])["runs"]
        assert pair[0]["summary"]["last"] == 4.0 and pair[1]["summary"]["last"] >= series["summary"]["last"]
        seen.append(pair[1]["steps"])
        time.sleep(0.02)
    assert seen == sorted(seen) and seen[-1] > seen[1], "the run did not go on meanwhile"
    assert process.poll() is None
    end.touch()
    assert process.wait(60) == 0
    loss = load(folder / "going").series("loss")
    np.testing.assert_array_equal(loss.values, loss.steps)
    assert tell_verdict(fence, "going")["state"] == "finished"
