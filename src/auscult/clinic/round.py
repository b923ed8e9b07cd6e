"""Round: the trials that a score is made of, made one after the other or several at a time."""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from auscult.clinic.results import Results
from auscult.clinic.trial import Trial, Variant
from auscult.core.errors import SetupError
from auscult.core.version import __version__


@dataclass(frozen=True, slots=True)
class Job:
    """One trial to make.

    Attributes:
        case: A case or a control.
        variant: Which of its variants.
        seed: The seed.
    """

    case: str
    variant: Variant
    seed: int

    @property
    def key(self) -> tuple[str, Variant, int]:
        """What tells its trial from all others of a round."""
        return self.case, self.variant, self.seed


def jobs(cases: Sequence[str], controls: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """Every trial of a round: both variants of each case and each control, with every seed.

    Args:
        cases: Names of the cases.
        controls: Names of the controls.
        seeds: The seeds.
    """
    each_case = [Job(name, variant, seed) for name in cases for variant in ("faulty", "fixed") for seed in seeds]
    return each_case + [Job(name, "control", seed) for name in controls for seed in seeds]


def conduct(
    wanted: Sequence[Job],
    attempt: Callable[[Job], Trial],
    results: Results,
    workers: int = 1,
    on_trial: Callable[[Job], object] | None = None,
) -> list[Trial]:
    """Make the trials that the results do not hold yet.

    Args:
        wanted: The trials.
        attempt: Makes one; a function of a module where there are several workers.
        results: Where they are kept.
        workers: How many processes make them, each with one thread.
        on_trial: Called with each job that is done.

    Returns:
        All trials wanted, in their order.
    """
    missing = [each for each in wanted if each.key not in results.trials]
    for job in wanted:
        if on_trial is not None and job not in missing:
            on_trial(job)
    for job, trial in _made(missing, attempt, workers):
        results.add(trial)
        if on_trial is not None:
            on_trial(job)
    return [results.trials[each.key] for each in wanted]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as the command line takes them: `0-4`, `7`, `0-2,10`.

    Raises:
        SetupError: if they are written in any other way.
    """
    found: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)) or (dash and int(last) < int(first)):
            raise SetupError(f"Expected seeds as 0-4 or 0,1,7, but got {text!r}.")
        found.update(dict.fromkeys(range(int(first), int(last if dash else first) + 1)))
    return tuple(found)


def commit() -> str:
    """The commit of this checkout of auscult, marked where files differ; the version where it is no checkout."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        inside = subprocess.run([*git, "ls-files", "--error-unmatch", "trial.py"], capture_output=True, check=False)
        if inside.returncode:
            return f"auscult {__version__}"
        named = subprocess.run([*git, "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"],
                               capture_output=True, check=True, text=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return f"auscult {__version__}"
    return named.stdout.strip()


def _made(wanted: Sequence[Job], attempt: Callable[[Job], Trial], workers: int) -> Iterator[tuple[Job, Trial]]:
    if workers == 1 or len(wanted) < 2:
        for job in wanted:
            yield job, attempt(job)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_use_one_thread) as pool:
        futures = {pool.submit(attempt, job): job for job in wanted}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _use_one_thread() -> None:
    """Networks this small are not worth a second thread, and the workers share the cores."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
