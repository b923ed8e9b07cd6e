"""Assessment: the whole clinic, or part of it, run and judged: what `auscult clinic score` does."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory

from auscult.clinic.campaign import Key, every_trial, run_campaign
from auscult.clinic.controls import CONTROLS
from auscult.clinic.error_rate import Setup, page
from auscult.clinic.faults import FAULTS
from auscult.clinic.gates import Gate, gates
from auscult.clinic.score import Admission, admit, figures, ours
from auscult.clinic.trial import Trial
from auscult.core.errors import SetupError
from auscult.core.version import __version__
from auscult.metrics.environment import versions

CI_CASES = (
    "ips-5",
    "at-sc",
    "tc-accel2665",
    "tc-60335387",
    "uml-b2",
    "tdc-soft1d",
    "so-47724077",
    "tdc-const-init",
    "tdc-dbl-soft",
    "tdc-hidden-softmax",
    "uml-b1",
    "dcr-clip",
)
"""Faulty cases that take seconds, of as many classes: what CI judges, with one seed. All are admitted in the whole."""

CI_CONTROLS = (
    "digits-adam",
    "standardised",
    "adadelta-3",
    "warm-up",
    "zero-head",
    "clipped",
    "evaluated-often",
    "bad-batch",
)
"""Healthy trainings beside them: a plain one, and traps that take seconds."""


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
    def keys(self) -> list[Key]:
        """Its trials."""
        chosen = {*self.cases, *self.controls}
        return [key for key in every_trial(self.seeds) if key[0] in chosen]


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
    first, last = seeds[0], seeds[-1]
    row = len(seeds) > 1 and list(seeds) == list(range(first, last + 1))
    told = f"{first}-{last}" if row else ",".join(map(str, seeds))
    options = [f" --seeds {told}", *(f" --case {name}" for name in names), *([" --subset ci"] if ci else [])]
    cases = tuple(name for name in FAULTS if name in chosen)
    controls = tuple(name for name in CONTROLS if name in chosen)
    return Plan(cases, controls, tuple(seeds), ci, f"auscult clinic score{''.join(options)}")


def assess(
    plan: Plan,
    results: Path | None = None,
    workers: int = 1,
    on_trial: Callable[[Trial, int, int], object] | None = None,
    date: str | None = None,
) -> Assessment:
    """Run a plan and judge it.

    Args:
        plan: What to run.
        results: File that keeps the trials, and from which a round that was stopped goes on.
        workers: How many processes.
        on_trial: Called with each trial that has ended, how many have, and of how many.
        date: Day to print; None takes today's, in UTC.

    Raises:
        SetupError: if the results are those of another commit.
        MissingExtra: if scikit-learn is not installed.
    """
    made_by = commit()
    if results is not None:
        _require_commit(results, made_by)
    with TemporaryDirectory() as directory:
        kept = Path(directory) / "trials.jsonl" if results is None else results
        tried = run_campaign(plan.keys, Path(directory) / "runs", kept, workers, on_trial=on_trial)
    trials = [each for each in tried if each.error is None]
    cases = [FAULTS[name] for name in plan.cases]
    admissions = [admit(case, trials, plan.given) for case in cases]
    admitted = {each.case for each in admissions if each.admitted}
    day = datetime.now(timezone.utc).date().isoformat() if date is None else date
    setup = Setup(made_by, day, versions(), plan.seeds, plan.command)
    table = gates(figures(ours, trials, cases, admitted))
    return Assessment(tuple(tried), tuple(admissions), table, page(tried, cases, admissions, setup))


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
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        inside = subprocess.run([*git, "ls-files", "--error-unmatch", "trial.py"], capture_output=True, check=False)
        if inside.returncode:
            return f"auscult {__version__}"
        named = subprocess.run([*git, "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"],
                               capture_output=True, check=True, text=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return f"auscult {__version__}"
    return named.stdout.strip()


def _require_commit(results: Path, made_by: str) -> None:
    """Note which commit makes the results, in a file beside them; those of another one are another doctor's."""
    note = results.with_name(f"{results.name}.commit")
    if results.exists():
        before = note.read_text("utf-8").strip() if note.exists() else "an unknown commit"
        if before != made_by:
            raise SetupError(
                f"Expected trials of commit {made_by}, but {str(results)!r} holds those of {before}. Write --results "
                "with another file, or delete this one."
            )
    results.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(made_by + "\n", encoding="utf-8")
