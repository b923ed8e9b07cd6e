"""Campaign: many trials, in processes of their own, whose results survive whatever ends it."""

import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from os import PathLike
from pathlib import Path
from threading import Lock, local

import torch

from auscult.clinic.controls import CONTROLS
from auscult.clinic.faults import FAULTS
from auscult.clinic.trial import Trial, Variant, failed_trial, run_trial
from auscult.core.errors import SetupError

Key = tuple[str, Variant, int]


def every_trial(seeds: Iterable[int]) -> Iterator[Key]:
    """All there is to be tried: every fault and its repair, every control, seed by seed."""
    for seed in seeds:
        for name in FAULTS:
            yield name, "faulty", seed
            yield name, "fixed", seed
        for name in CONTROLS:
            yield name, "control", seed


def run_campaign(
    keys: Iterable[Key],
    directory: str | PathLike[str],
    results: str | PathLike[str],
    jobs: int | None = None,
    keep: bool = False,
    on_trial: Callable[[Trial, int, int], object] | None = None,
) -> list[Trial]:
    """Run trials, each with one thread, several at a time.

    A trial that fails, or that takes its process with it, is kept with its error, and tried again the next time.

    Args:
        keys: What is to be tried, as (case, variant, seed).
        directory: Where runs are written, at `<directory>/<case>/<variant>/<seed>`.
        results: File of JSON lines, one per trial, to which results are added as they come. What it holds already is
            not tried again.
        jobs: Trials at a time; None for one per processor.
        keep: Whether the runs are kept after their diagnosis.
        on_trial: Called with each trial that has ended, how many have, and of how many.

    Returns:
        The trials asked for, in the order of `keys`.

    Raises:
        SetupError: if `jobs` is not positive.
    """
    workers = (os.cpu_count() or 1) if jobs is None else jobs
    if workers < 1:
        raise SetupError(f"Expected at least one job, but got {workers}. Leave it out for one per processor.")
    asked = list(dict.fromkeys(keys))
    log = _ResultLog(Path(results))
    done = {each.key: each for each in log.read() if each.error is None}
    left = [each for each in asked if each not in done]
    lock, mine = Lock(), local()
    started: list[_Worker] = []

    def attempt(key: Key) -> None:
        if not hasattr(mine, "worker"):
            mine.worker = _Worker()
            started.append(mine.worker)
        trial = mine.worker.run(key, _place(Path(directory), key), keep)
        with lock:
            log.add(trial)
            done[key] = trial
            if on_trial is not None:
                on_trial(trial, sum(each in done for each in asked), len(asked))

    try:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(attempt, left))
    finally:
        for worker in started:
            worker.end()
    return [done[each] for each in asked]


def read_results(path: str | PathLike[str]) -> list[Trial]:
    """The trials of a file of results, the last of each; a last line that was cut off is left out."""
    return list({each.key: each for each in _ResultLog(Path(path)).read()}.values())


class _ResultLog:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Trial]:
        if not self._path.exists():
            return []
        lines = self._path.read_text("utf-8").split("\n")
        return [Trial.from_dict(json.loads(line)) for line in lines[:-1] if line]

    def add(self, trial: Trial) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            if file.tell() and not self._path.read_bytes().endswith(b"\n"):  # a line was cut off
                whole = self._path.read_bytes().rfind(b"\n") + 1
                file.truncate(whole)
            file.write((json.dumps(trial.to_dict(), allow_nan=False) + "\n").encode())


class _Worker:
    """A process that runs one trial after the other, and is replaced when it dies."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def run(self, key: Key, path: Path, keep: bool) -> Trial:
        if self._pipe is None:
            self._begin()
        assert self._pipe is not None
        assert self._process is not None
        try:
            self._pipe.send((key, str(path), keep))
            return Trial.from_dict(self._pipe.recv())
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            self._pipe = None
            return failed_trial(key, path, f"the process ended with exit code {code}")

    def end(self) -> None:
        if self._pipe is not None and self._process is not None:
            self._pipe.close()
            self._process.join()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        process.start()
        self._process = process
        theirs.close()


def _work(pipe: Connection) -> None:
    """Run what is asked for until the other end is closed."""
    torch.set_num_threads(1)
    logging.getLogger("auscult").setLevel(logging.CRITICAL + 1)  # findings are kept with the trial
    while True:
        try:
            (name, variant, seed), path, keep = pipe.recv()
        except EOFError:
            return
        shutil.rmtree(path, ignore_errors=True)
        try:
            trial = run_trial(name, variant, seed, path)
        except Exception as error:  # whatever a training raises is a result
            trial = failed_trial((name, variant, seed), path, f"{type(error).__name__}: {error}")
        if not keep:
            shutil.rmtree(path, ignore_errors=True)
        try:
            pipe.send(trial.to_dict())
        except OSError:  # nobody waits any more
            return


def _place(directory: Path, key: Key) -> Path:
    name, variant, seed = key
    return directory / name / variant / str(seed)
