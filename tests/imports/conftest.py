"""Logs that the tools themselves wrote, as `scripts/foreign_logs.py` made them once."""

import gzip
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from math import inf
from pathlib import Path

import numpy as np
import pytest

from auscult.imports.account import Account
from auscult.imports.foreign import Point
from auscult.imports.formats import find_runs

LOGS = Path(__file__).parent / "logs"
SOURCES = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow.db": "mlflow.db",
    "mlruns": "mlruns",
    "transformers": "trainer/trainer_state.json",
}


@pytest.fixture(scope="session")
def logs(tmp_path_factory) -> Path:
    """A directory with the log of every tool under its name in `SOURCES`."""
    folder = tmp_path_factory.mktemp("logs") / "logs"
    shutil.copytree(LOGS, folder)
    (folder / "mlflow.db").write_bytes(gzip.decompress((folder / "mlflow.db.gz").read_bytes()))
    with zipfile.ZipFile(folder / "mlruns.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def truth() -> dict:
    """Of every tool, run and name the steps and values that the tool's own reader returns."""
    return merged(json.loads((LOGS / "truth.json").read_text()))


def merged(told: dict) -> dict:
    """The truth with what torch's `add_hparams` logs in a directory named by the time as part of its run."""
    found: dict = {}
    for tool, runs in told.items():
        for run, names in runs.items():
            owner = "." if re.fullmatch(r"\d{9,}\.\d+", run) else run
            found.setdefault(tool, {}).setdefault(owner, {}).update(names)
    return found


def latest(points: list, database: bool) -> tuple[list[int], list[float]]:
    """Steps and values in order; of several values at one step the last; infinities as they were logged."""
    kept = {int(step): float(value) for step, value in points}
    limit = np.finfo(np.float64).max
    values = [float(np.sign(each)) * inf if database and abs(each) == limit else each for each in kept.values()]
    order = np.argsort(list(kept), kind="stable")
    return [list(kept)[each] for each in order], [values[each] for each in order]


def points_of(source: Path, skip_damage: bool = False) -> Iterator[Point]:
    """What the readers give of every run of a source, before it is written."""
    for each in find_runs(source, None, None):
        yield from (point for point in each.read(Account(each.name, skip_damage)) if isinstance(point, Point))
