"""Assessment: the whole clinic, or part of it, run and judged: what `auscult clinic score` does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory

from auscult.clinic.controls import CONTROLS
from auscult.clinic.error_rate import Setup, page
from auscult.clinic.faults import FAULTS, Fault
from auscult.clinic.gates import Gate, gates
from auscult.clinic.results import Results
from auscult.clinic.round import Job, commit, conduct, jobs
from auscult.clinic.score import Admission, admit, figures, ours
from auscult.clinic.trial import Trial, failed_trial, run_trial
from auscult.core.errors import SetupError
from auscult.metrics.environment import versions

CI_CASES = ()
"""Faulty cases that take seconds, of as many classes: what CI judges, with one seed. All are admitted in the whole."""

CI_CONTROLS = ()


@dataclass(frozen=True, slots=True)
class Assessment:
    """A round, judged.

    Attributes:
        trials: The runs, failed ones included.
        admissions: One for each case.
        gates: The table of gates and goals.
        page: Everything, as Markdown.
    """

    trials: tuple[Trial, ...]
    admissions: tuple[Admission, ...]
    gates: tuple[Gate, ...]
    page: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes:
        cases: Names of faulty cases.
        controls: Names of healthy controls.
        seeds: The seeds.
        given: Whether all cases count without a test, as one seed allows none.
        command: The command that asks for it.
    """

    cases: tuple[str, ...]
    controls: tuple[str, ...]
    seeds: tuple[int, ...]
    given: bool
    command: str

    @property
    def jobs(self) -> list[Job]:
        """Its trials."""
        return jobs(self.cases, self.controls, self.seeds)


def make_plan(seeds: Sequence[int], names: Sequence[str] = (), ci: bool = False) -> Plan:
    """A plan of the whole clinic, of its fixed subset for CI, or of some cases and controls by name.

    Args:
        seeds: The seeds.
        names: Cases and controls; empty takes all.
        ci: Takes the subset for CI, all of whose cases count.

    Raises:
        SetupError: if there is no such case, or names are given for the subset.
    """
    if ci and names:
        raise SetupError("Expected `--case` or `--subset ci`, but got both. Leave one out.")
    known = (*FAULTS, *CONTROLS)
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise SetupError(f"Expected a case or a control of the clinic, but got {name!r}.{hint}")
    chosen = set((*CI_CASES, *CI_CONTROLS) if ci else names or known)
    told = (
        f"{seeds[0]}-{seeds[-1]}" if list(seeds) == list(range(seeds[0], seeds[-1] + 1)) else ",".join(map(str, seeds))
    )
    options = [f" --seeds {told}", *(f" --case {name}" for name in names), *([" --subset ci"] if ci else [])]
    cases = tuple(name for name in FAULTS if name in chosen)
    controls = tuple(name for name in CONTROLS if name in chosen)
    return Plan(cases, controls, tuple(seeds), ci, f"auscult clinic score{''.join(options)}")


def assess(
    plan: Plan,
    results: Path | None = None,
    workers: int = 1,
    on_trial: Callable[[Job], object] | None = None,
    date: str | None = None,
) -> Assessment:
    """Run a plan and judge it.

    Args:
        plan: What to run.
        results: File that keeps the trials, and from which a round that was stopped goes on.
        workers: How many processes.
        on_trial: Called with each job that is done.
        date: Day to print; None takes today's, in UTC.

    Raises:
        SetupError: if the results are those of another commit.
        MissingExtra: if scikit-learn is not installed.
    """
    made_by = commit()
    tried = conduct(plan.jobs, attempt, Results(results, made_by), workers, on_trial)
    trials = [each for each in tried if each.error is None]
    cases: list[Fault] = [FAULTS[name] for name in plan.cases]
    admissions = [admit(case, trials, plan.given) for case in cases]
    admitted = {each.case for each in admissions if each.admitted}
    day = datetime.now(timezone.utc).date().isoformat() if date is None else date
    setup = Setup(made_by, day, versions(), plan.seeds, plan.command)
    return Assessment(
        tuple(tried),
        tuple(admissions),
        gates(figures(ours, trials, cases, admitted)),
        page(tried, cases, admissions, setup),
    )


def attempt(job: Job) -> Trial:
    """Make one trial, in this process or in a worker; what was recorded is gone afterwards."""
    with TemporaryDirectory() as directory:  # whose name says nothing about the case
        path = Path(directory) / "run"
        try:
            trial = run_trial(job.case, job.variant, job.seed, path)
        except Exception as error:  # one training that fails must not take hours of others with it
            trial = failed_trial(job.key, path, f"{type(error).__name__}: {error}")
        return replace(trial, path="")
