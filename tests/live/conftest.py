"""Stores that grow while they are looked at, and the real server over them."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from auscult.core.run import Module, Parameter, RunInfo, Segment
from auscult.core.sink import Channel, Record
from auscult.store.writer import StoreWriter

PATHS = ("0.weight", "0.bias", "2.weight")
STEPS = (Channel("finite", ""), Channel("step_time", ""))
NORMS = tuple(Channel(metric, path) for metric in ("grad_norm", "param_norm", "update_norm") for path in PATHS)
LOSS = (Channel("loss", ""),)
DEADLINE_S = 60


class Grower:
    """Writes a run row by row, as a monitor does. Step `n` has the loss `n`, and NaN where told."""

    def __init__(self, path: Path, name: str = "", time: float = 0.0, if_exists: str = "error", step: int = 0, **facts):
        parameters = tuple(Parameter(each, (4, 4), "float32", True, "0") for each in PATHS)
        modules = (
            Module("", "Net", False),
            Module("0", "Linear", True, "affine"),
            Module("2", "Linear", True, "affine"),
        )
        info = RunInfo(
            id=facts.pop("id", f"id of {path.name}"),
            name=name or path.name,
            created=time,
            format_version=1,
            config=facts.pop("config", {"lr": 0.1}),
            command=("train.py",),
            seed=1,
            git_commit=None,
            versions={"auscult": "0.1.0"},
            host=facts.pop("host", "elsewhere"),
            devices=("cpu",),
        )
        self.writer = StoreWriter.create(path, info, if_exists)
        self.writer.begin_segment(Segment(step, time, facts.pop("parameters", parameters), modules))
        self.step = step
        assert not facts

    def grow(self, steps: int, nan_at: int = -1) -> "Grower":
        random = np.random.default_rng(self.step)
        for step in range(self.step, self.step + steps):
            loss = np.nan if step == nan_at else float(step)
            self.writer.write(Record("norms", step, NORMS, random.uniform(0.5, 2, len(NORMS)).astype(np.float32)))
            self.writer.write(Record("user", step, LOSS, np.array([loss])))
            self.writer.write(Record("steps", step, STEPS, np.array([1.0, 0.01], np.float32)))
        self.step += steps
        return self

    def end(self, reason: str = "closed") -> "Grower":
        self.writer.write_event("end", self.step - 1, reason=reason)
        self.writer.close()
        return self


class Server:
    """`auscult live` as a user starts it."""

    def __init__(self, directory: Path, *arguments: str, port: int = 0) -> None:
        self.directory = directory
        self.arguments = arguments
        self.start(port)

    def start(self, port: int) -> None:
        command = [sys.executable, "-m", "auscult", "live", str(self.directory), "--port", str(port), *self.arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "COLUMNS": "200"}
        )
        line = self.process.stdout.readline()
        assert "http://" in line, line + self.process.stdout.read()
        self.address = line.split()[-1]
        self.port = int(self.address.split(":")[2].split("/")[0])
        self.lines: list[str] = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self.reader.start()

    def stop(self, how: int = signal.SIGKILL) -> int:
        self.process.send_signal(how)
        code = self.process.wait(DEADLINE_S)
        self.reader.join(DEADLINE_S)
        self.process.stdout.close()
        return code

    def restart(self) -> None:
        """Killed without warning, and started again at the same port."""
        self.stop()
        self.start(self.port)

    def get(self, target: str, headers: dict[str, str] | None = None, method: str = "GET"):
        """Status, headers and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request(method, target, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    @contextmanager
    def events(self, target: str, headers: dict[str, str] | None = None) -> "Iterator[Iterator[Event]]":
        """Server-sent events as they come: (kind, data, id)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        connection.request("GET", target, headers=headers or {})
        answer = connection.getresponse()
        assert answer.status == 200 and answer.getheader("content-type").startswith("text/event-stream")
        try:
            yield _parse(answer)
        finally:
            answer.close()
            connection.close()

    def run_id(self, place: str) -> str:
        """The id under which the listing has a run.

        Raises:
            TimeoutError: if it is not listed although everything was.
        """
        with self.events("/events") as events:
            for kind, data, _ in events:
                for run in data["runs"] if kind == "runs" else ():
                    if run["place"] == place:
                        return run["id"]
                if kind == "beat":
                    raise TimeoutError(f"{place} is not listed")
        raise AssertionError("the listing ended")


Event = tuple[str, dict, str]


def _parse(answer) -> Iterator[Event]:
    kind = data = mark = ""
    for raw in answer:
        line = raw.decode().rstrip("\n")
        field, _, value = line.partition(": ")
        if field == "event":
            kind = value
        elif field == "data":
            data = value
        elif field == "id":
            mark = value
        elif not line and kind:
            yield kind, json.loads(data), mark
            kind = data = ""


def wait_for(events: Iterator[Event], kind: str, until: Callable[[dict], bool] = lambda data: True) -> Event:
    """The next event of a kind for which something holds."""
    return next(each for each in events if each[0] == kind and until(each[1]))


@pytest.fixture(scope="session")
def grower() -> type[Grower]:
    return Grower


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(directory: Path, *arguments: str) -> Server:
        started.append(Server(directory, *arguments))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.stop()


@pytest.fixture(scope="session")
def awaited() -> Callable[..., Event]:
    return wait_for
