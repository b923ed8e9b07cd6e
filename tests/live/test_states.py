"""What real trainings are said to do: one that goes on, one that stands still, one that was killed, one that ended."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

pytestmark = pytest.mark.live

TRAIN = """
import sys, time, torch
from torch import nn
import auscult
torch.set_num_threads(1)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
with auscult.watch(model, optimizer, sys.argv[1]) as monitor:
    for step in range(int(sys.argv[2])):
        loss = model(torch.randn(8, 4)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        monitor.log(loss=loss)
        if step == 50:
            print("begun", flush=True)
            if sys.argv[3]:
                raise ValueError(sys.argv[3])
        time.sleep(0.02)
"""


def test_four_real_trainings(tmp_path, serve) -> None:
    with ExitStack() as running:
        processes = {}
        for place, steps, error in (
            ("going", 10**6, ""), ("stopped", 10**6, ""), ("deep/er/killed", 10**6, ""), ("ended", 60, ""),
            ("raised", 60, "no data"),
        ):  # fmt: skip
            (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-c", TRAIN, str(tmp_path / place), str(steps), error]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            running.enter_context(process)
            running.callback(process.kill)
            processes[place] = process
        for process in processes.values():
            assert process.stdout.readline() == "begun\n"
        subprocess.run(
            [sys.executable, "-c", TRAIN, str(tmp_path / "going"), "60", ""],
            check=True,
            capture_output=True,
            timeout=240,
        )  # another writer of the same name
        os.kill(processes["stopped"].pid, signal.SIGSTOP)
        processes["deep/er/killed"].kill()
        server = serve(tmp_path)
        wanted = {"going": "training", "going-2": "finished", "stopped": "stalled", "deep/er/killed": "crashed",
                  "ended": "finished", "raised": "crashed"}  # fmt: skip
        seen: dict[str, str] = {}
        reasons: dict[str, str] = {}
        deadline = time.monotonic() + 120
        with server.events("/events") as events:
            for kind, data, _ in events:
                for run in data["runs"] if kind == "runs" else ():
                    seen[run["place"]], reasons[run["place"]] = run["word"], run["reason"]
                if seen == wanted:
                    break
                assert time.monotonic() < deadline, seen
        assert "its process lives" in reasons["stopped"] and "its process is gone" in reasons["deep/er/killed"]
        assert "no data" in reasons["raised"]
