"""Real processes, one for each rank, over gloo on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("worker.py")


def start(world: int, directory: Path, *arguments: str, script: Path = WORKER) -> list[subprocess.Popen[str]]:
    """Start every rank."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(world), str(directory), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]


def finish(ranks: Sequence[subprocess.Popen[str]], directory: Path, seconds: float = 240) -> list[dict]:
    """Wait for every rank, and read what each of them told."""
    said = []
    for each in ranks:
        try:
            said.append(each.communicate(timeout=seconds)[0])
        except subprocess.TimeoutExpired:
            for other in ranks:
                other.kill()
            said.append("(did not end)" + each.communicate()[0])
    assert all(each.returncode == 0 for each in ranks), "\n".join(said)
    return [json.loads((directory / f"rank{rank}.json").read_text()) for rank in range(len(ranks))]


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Callable[..., list[dict]]:
    """What all ranks told of some scenarios, trained once in one set of processes."""
    known: dict[tuple[int, tuple[str, ...]], list[dict]] = {}

    def make(world: int, *scenarios: str) -> list[dict]:
        key = world, scenarios
        if key not in known:
            directory = tmp_path_factory.mktemp("ranks")
            known[key] = finish(start(world, directory, *scenarios), directory)
        return known[key]

    return make
