"""Score: which cases count, and how well what a doctor said of their runs agrees with what was wrong with them.

Pure functions of trials and cases; the doctor may be ours or another one.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, Protocol

from auscult.clinic.depth import near
from auscult.clinic.rate import Rate, bounded, lower_by_chance, mean
from auscult.clinic.taxonomy import EXACT, NAMES, UNKNOWN
from auscult.clinic.trial import Trial
from auscult.core.finding import SEVERITIES, Finding

LEVEL = 0.05  # of the permutation test
LEAST_GAP = 0.05  # in accuracy or R2
TOP = 3
Reason = Literal["score", "non-finite", "invariant", "given", "not reproduced", "too few runs"]


class CaseFacts(Protocol):
    """What is known of a faulty case."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def root_cause(self) -> str:
        """The class of its fault."""
        ...

    @property
    def also_accept(self) -> tuple[str, ...]:
        """Classes that cannot be told from it, or whose cure is the same."""
        ...

    @property
    def layers(self) -> tuple[str, ...]:
        """Paths of the modules that the fault sits in; empty where it sits in none."""
        ...


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a case counts: its fault does harm that the seeds cannot explain.

    Attributes:
        case: Its name.
        faulty: Mean score of the faulty runs, each within [-1, 1].
        fixed: Likewise of the fixed runs.
        p: One-sided permutation test over the runs.
        reason: `score`: p <= .05 and a gap >= .05. `non-finite`: more than half of the faulty runs and none of the
            fixed ones. `invariant`: likewise, parameters that never moved. `given`: the set of cases was given.
            Otherwise the reason for which it is left out.
    """

    case: str
    faulty: float
    fixed: float
    p: float
    reason: Reason

    @property
    def admitted(self) -> bool:
        """Whether it counts."""
        return self.reason not in ("not reproduced", "too few runs")


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one doctor says of one run.

    Attributes:
        alarm: Whether it says that something is wrong.
        critical: Whether it says so in its strongest words.
        causes: The causes it names, the likeliest first; each a tuple of the classes that it does not tell apart.
        place: Path of the module or parameter that it points at first; `""` for none.
        step: Step after which it first said so; None where it is silent or does not say.
    """

    alarm: bool
    critical: bool = False
    causes: tuple[tuple[str, ...], ...] = ()
    place: str = ""
    step: int | None = None

    def names(self, accepted: Collection[str], top: int) -> bool:
        """Whether one of its first causes is among those accepted."""
        return any(name in accepted for cause in self.causes[:top] for name in cause)


Doctor = Callable[[Trial], Opinion]


@dataclass(frozen=True, slots=True)
class Figures:
    """How well a doctor did. Units are cases and controls, never seeds.

    Attributes:
        detection: Alarms on faulty runs, over admitted cases.
        false_alarms: Alarms on healthy runs, over the fixed variants of admitted cases and the controls.
        critical_false_alarms: Healthy runs called critical.
        causes: By (1 or 3, strict or lenient), whether the right cause is among the first so many.
        macro: The same, the mean over classes of the mean over their cases.
        macro_detection: Detection, likewise.
        layer: Over cases that sit in a layer: 1 where it is pointed at, .5 for its neighbour.
        exact: Detection over cases of classes that an invariant decides.
        first_alarm: Median over alarmed faulty runs of the step after which the first alarm was raised.
        faulty_runs: Number of faulty runs counted.
        healthy_runs: Number of healthy runs counted.
    """

    detection: Rate
    false_alarms: Rate
    critical_false_alarms: int
    causes: Mapping[tuple[int, bool], Rate]
    macro: Mapping[tuple[int, bool], float]
    macro_detection: float
    layer: Rate
    exact: Rate
    first_alarm: float | None
    faulty_runs: int
    healthy_runs: int


def admit(case: CaseFacts, trials: Sequence[Trial], given: bool = False) -> Admission:
    """Whether a case counts, by its own runs.

    Args:
        case: The case.
        trials: Trials of any cases; its own faulty and fixed ones are looked at.
        given: Whether it was chosen as one that counts.
    """
    faulty = [each for each in trials if each.case == case.name and each.variant == "faulty"]
    fixed = [each for each in trials if each.case == case.name and each.variant == "fixed"]
    low, high = [bounded(each.score) for each in faulty], [bounded(each.score) for each in fixed]
    p = lower_by_chance(low, high)
    reason: Reason = "not reproduced"
    if given:
        reason = "given"
    elif not faulty or not fixed:
        reason = "too few runs"
    elif _mostly(each.nonfinite for each in faulty) and not any(each.nonfinite for each in fixed):
        reason = "non-finite"
    elif _mostly(not each.updated for each in faulty) and all(each.updated for each in fixed):
        reason = "invariant"
    elif p <= LEVEL and mean(high) - mean(low) >= LEAST_GAP:
        reason = "score"
    elif len(faulty) < 3 or len(fixed) < 3:  # two against two can be no rarer than 1 in 6
        reason = "too few runs"
    return Admission(case.name, mean(low), mean(high), p, reason)


def is_alarm(finding: Finding) -> bool:
    """Whether a finding is an alarm: a warning or worse, whatever became of it.

    A recovered one counts as well: whoever watched the run was called.
    """
    return SEVERITIES.index(finding.severity) >= SEVERITIES.index("warning")


def ours(trial: Trial) -> Opinion:
    """What auscult said of a trial's run.

    Causes stand in the order of `diagnose`, alarms before notes. A finding that another one explains takes no rank of
    its own, nor does one that names no class, nor a class that was named before.
    """
    alarms = [each for each in trial.findings if is_alarm(each)]
    notes = [each for each in trial.findings if not is_alarm(each)]
    roots = [each for each in (*alarms, *notes) if each.cause is None]
    causes = tuple(dict.fromkeys(NAMES[each.name] for each in roots if NAMES[each.name]))
    return Opinion(
        alarm=bool(alarms),
        critical=any(each.severity == "critical" for each in alarms),
        causes=causes,
        place=next((where for where in map(_place, roots) if where), ""),
        step=trial.first_alarm,
    )


def rival(name: str) -> Doctor:
    """A rival, as what it said is kept with each trial: the causes it names, `unknown` for none; silent if empty."""

    def opinion(trial: Trial) -> Opinion:
        said = trial.rivals[name]
        return Opinion(bool(said), causes=tuple((cause,) for cause in said if cause != UNKNOWN))

    return opinion


def figures(doctor: Doctor, trials: Sequence[Trial], cases: Iterable[CaseFacts], admitted: Collection[str]) -> Figures:
    """How well a doctor did.

    Args:
        doctor: Says what it thinks of a run.
        trials: All trials.
        cases: All cases.
        admitted: Names of the cases that count.
    """
    table = {each.name: each for each in cases if each.name in admitted}
    faulty = [(each, doctor(each)) for each in trials if each.variant == "faulty" and each.case in table]
    healthy = [(each, doctor(each)) for each in trials if is_healthy(each, admitted)]
    detected = _by_case((trial.case, float(said.alarm)) for trial, said in faulty)
    alarmed = _by_case((f"{trial.variant} {trial.case}", float(said.alarm)) for trial, said in healthy)
    classes = {name: case.root_cause for name, case in table.items()}
    named = {
        (top, lenient): _by_case(
            (trial.case, float(said.names(accepted(table[trial.case], lenient), top))) for trial, said in faulty
        )
        for top in (1, TOP)
        for lenient in (False, True)
    }
    placed = _by_case(
        (trial.case, near(said.place, table[trial.case].layers, trial.depths))
        for trial, said in faulty
        if table[trial.case].layers
    )
    steps = [said.step for _, said in faulty if said.step is not None]
    return Figures(
        detection=Rate.over(list(detected.values())),
        false_alarms=Rate.over(list(alarmed.values())),
        critical_false_alarms=sum(said.critical for _, said in healthy),
        causes={key: Rate.over(list(each.values())) for key, each in named.items()},
        macro={key: over_classes(each, classes) for key, each in named.items()},
        macro_detection=over_classes(detected, classes),
        layer=Rate.over(list(placed.values())),
        exact=Rate.over([value for name, value in detected.items() if classes[name] in EXACT]),
        first_alarm=median(steps) if steps else None,
        faulty_runs=len(faulty),
        healthy_runs=len(healthy),
    )


def is_healthy(trial: Trial, admitted: Collection[str]) -> bool:
    """Whether a trial counts as a healthy run: a control, or the fixed variant of an admitted case."""
    return trial.variant == "control" or (trial.variant == "fixed" and trial.case in admitted)


def accepted(case: CaseFacts, lenient: bool) -> tuple[str, ...]:
    """The classes that count as naming its cause."""
    return (case.root_cause, *case.also_accept) if lenient else (case.root_cause,)


def over_classes(values: Mapping[str, float], classes: Mapping[str, str]) -> float:
    """The mean over classes of the mean over the cases of each.

    Args:
        values: By case.
        classes: The class of each case.
    """
    by_class: dict[str, list[float]] = {}
    for name, value in values.items():
        by_class.setdefault(classes[name], []).append(value)
    return mean([mean(each) for each in by_class.values()])


def _by_case(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The mean over the seeds of each case."""
    found: dict[str, list[float]] = {}
    for name, value in values:
        found.setdefault(name, []).append(value)
    return {name: mean(each) for name, each in found.items()}


def _mostly(values: Iterable[bool]) -> bool:
    listed = list(values)
    return 2 * sum(listed) > len(listed)


def _place(finding: Finding) -> str:
    """Where a finding points: its path, or, of one about the whole run, that of its first evidence that has one."""
    return finding.path or next((each.path for each in finding.evidence if each.path), "")
