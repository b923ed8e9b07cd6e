"""Error rate: the page on which auscult publishes its own, as Markdown.

Knows nothing of how the runs were made.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from auscult.clinic.gates import Gate, gates
from auscult.clinic.rate import Rate
from auscult.clinic.reference import Learned, always, false_alarms_by_class, guess
from auscult.clinic.rivals import RIVALS
from auscult.clinic.score import (
    TOP,
    Admission,
    CaseFacts,
    Doctor,
    Figures,
    Opinion,
    accepted,
    figures,
    is_alarm,
    is_healthy,
    ours,
    rival,
)
from auscult.clinic.trial import Trial
from auscult.core.finding import Finding

OURS = "auscult"
CAVEAT = (
    "The cases are PyTorch analogues of published faults, on small data; the published tools were scored on Keras "
    "originals. Thresholds were chosen with these cases in sight; a second set of the same classes, kept aside, scores "
    "releases."
)


@dataclass(frozen=True, slots=True)
class Setup:
    """With what the runs of a page were made.

    Attributes:
        commit: The commit of auscult, or what stands in for it.
        date: Day, as 2026-01-31.
        versions: By name.
        seeds: The seeds.
        command: The command that makes the page again.
    """

    commit: str
    date: str
    versions: Mapping[str, str]
    seeds: tuple[int, ...]
    command: str


def page(tried: Sequence[Trial], cases: Sequence[CaseFacts], admissions: Sequence[Admission], setup: Setup) -> str:
    """The page.

    Args:
        tried: All trials; failed ones are listed and count for nothing.
        cases: All cases that were run.
        admissions: One for each case.
        setup: With what they were made.
    """
    trials = [each for each in tried if each.error is None]
    admitted = frozenset(each.case for each in admissions if each.admitted)
    mine = figures(ours, trials, cases, admitted)
    learned = Learned(trials, cases, admitted)
    doctors: dict[str, Doctor] = {
        OURS: ours,
        **{name: rival(name) for name in RIVALS},
        "always alarms": always,
        "most frequent class": guess(cases, admitted),
        "decision tree on traits": learned,
    }
    parts = (
        _head(trials, admissions, setup),
        _gates(gates(mine), mine),
        _doctors({name: figures(doctor, trials, cases, admitted) for name, doctor in doctors.items()}, learned),
        _false_alarms(trials, admitted),
        _by_class(trials, cases, admitted, learned),
        _confusion(trials, cases, admitted),
        _cases(trials, cases, admissions),
        _left_out(admissions),
        _failed(tried),
        _method(),
    )
    return "\n".join(line for part in parts for line in (*part, "") if part).rstrip() + "\n"


def _head(trials: Sequence[Trial], admissions: Sequence[Admission], setup: Setup) -> list[str]:
    variants = Counter(each.variant for each in trials)
    counted = sum(each.admitted for each in admissions)
    versions = ", ".join(f"{name} {version}" for name, version in setup.versions.items())
    seeds = ", ".join(str(seed) for seed in setup.seeds)
    return [
        "# Error rate",
        "",
        f"Made by `{setup.command}` on {setup.date} at commit `{setup.commit}` with {versions}.",
        "",
        f"{len(trials)} runs: {variants['faulty']} faulty and {variants['fixed']} fixed ones of {len(admissions)} "
        f"cases, of which {counted} count, and {variants['control']} healthy controls; seeds {seeds}.",
        "",
        CAVEAT,
    ]


def _gates(table: Sequence[Gate], mine: Figures) -> list[str]:
    rows: list[Sequence[str]] = []
    for each in table:
        quantity, measured, bound, goal, state = each.cells()
        rows.append((quantity, each.published, bound, goal, measured, state if each.met else f"**{state}**"))
    lines = ["## Gates and goals", ""]
    lines += _table(("quantity", "best published", "gate", "goal", "measured", ""), rows)
    first = "no alarm says one" if mine.first_alarm is None else f"{mine.first_alarm:g}"
    lines += [
        "",
        f"Counted are {mine.faulty_runs} faulty and {mine.healthy_runs} healthy runs. In brackets stand 95 % "
        "intervals and the number of cases. As a mean over classes: detection "
        f"{mine.macro_detection:.2f}, top-1 strict {mine.macro[1, False]:.2f}, top-1 lenient "
        f"{mine.macro[1, True]:.2f}, top-3 lenient {mine.macro[TOP, True]:.2f}. Median step of the first alarm: "
        f"{first}.",
    ]
    return lines


def _doctors(found: Mapping[str, Figures], learned: Learned) -> list[str]:
    heads = ("doctor", "detection", "false alarms", "top-1 strict", "top-1 lenient", "top-3 lenient")
    rows = [
        (name, str(each.detection), str(each.false_alarms),
         *(_short(each.causes[key]) for key in ((1, False), (1, True), (TOP, True))))
        for name, each in found.items()
    ]  # fmt: skip
    lost = ", ".join(f"`{name}`" for name in learned.lost_classes) or "none"
    return [
        "## Others on the same runs",
        "",
        *_table(heads, rows),
        "",
        "The published tables are judged as `src/auscult/clinic/rivals.py` says, with what a run holds. The tree is "
        "asked about a case after it has learned from all others alone; classes of a single case, which it can never "
        f"name: {lost}.",
    ]


def _false_alarms(trials: Sequence[Trial], admitted: frozenset[str]) -> list[str]:
    rows = [
        (each.case, each.variant, str(each.seed), finding.severity, _name(finding), finding.path or "the run",
         str(finding.step), finding.status)
        for each in trials
        if is_healthy(each, admitted)
        for finding in each.findings
        if is_alarm(finding)
    ]  # fmt: skip
    if not rows:
        return ["## False alarms", "", "None."]
    heads = ("run", "variant", "seed", "severity", "finding", "where", "step", "status")
    return ["## False alarms", "", "One by one:", "", *_table(heads, rows)]


def _by_class(
    trials: Sequence[Trial], cases: Sequence[CaseFacts], admitted: frozenset[str], learned: Learned
) -> list[str]:
    doctors: dict[str, Doctor] = {OURS: ours, "tree": learned.without_class}
    found = false_alarms_by_class(doctors, trials, cases, admitted)
    rows = [(f"`{name}`", str(runs), *(str(alarms[who]) for who in doctors)) for name, (runs, alarms) in found.items()]
    return [
        "## False alarms, one class left out",
        "",
        "On the healthy variants of each class. The rules' thresholds are constants, so that nothing is fitted anew "
        "for them; the tree has learned from the runs of all other classes and from the controls.",
        "",
        *_table(("class", "healthy runs", OURS, "tree without the class"), rows),
    ]


def _confusion(trials: Sequence[Trial], cases: Sequence[CaseFacts], admitted: frozenset[str]) -> list[str]:
    classes = {each.name: each.root_cause for each in cases if each.name in admitted}
    found: dict[str, Counter[str]] = {}
    for each in trials:
        if each.variant == "faulty" and each.case in classes:
            found.setdefault(classes[each.case], Counter())[_first(ours(each))] += 1
    rows = [
        (f"`{cause}`", str(counts.total()), str(counts[cause]),
         ", ".join(f"{name} {count}" for name, count in counts.most_common() if name != cause) or "-")
        for cause, counts in sorted(found.items())
    ]  # fmt: skip
    heads = ("root cause", "runs", "named first", "named first in its place")
    return ["## Confusion", "", *_table(heads, rows)]


def _cases(trials: Sequence[Trial], cases: Sequence[CaseFacts], admissions: Sequence[Admission]) -> list[str]:
    verdicts = {each.case: each for each in admissions}
    rows: list[Sequence[str]] = []
    for case in sorted(cases, key=lambda each: (each.root_cause, each.name)):
        verdict = verdicts[case.name]
        said = [ours(each) for each in trials if each.case == case.name and each.variant == "faulty"]
        if not verdict.admitted or not said:
            continue
        first = Counter(_first(each) for each in said)
        steps = sorted(each.step for each in said if each.step is not None)
        rows.append(
            (
                case.name,
                f"`{case.root_cause}`",
                f"{verdict.faulty:.2f} / {verdict.fixed:.2f}",
                verdict.reason,
                f"{sum(each.alarm for each in said)}/{len(said)}",
                ", ".join(name if len(first) == 1 else f"{name} {count}" for name, count in first.most_common()),
                _hits(case, said),
                f"{steps[len(steps) // 2]}" if steps else "-",
            )
        )
    heads = ("case", "root cause", "score faulty / fixed", "counts by", "alarm", "named first", "right", "first alarm")
    return [
        "## Case by case",
        "",
        "Scores are accuracy or R2, a mean over seeds, each within [-1, 1]. Right: share of seeds with the root cause "
        "named first / an accepted one first / an accepted one among three.",
        "",
        *_table(heads, rows),
    ]


def _left_out(admissions: Iterable[Admission]) -> list[str]:
    rows = [
        (each.case, f"{each.faulty:.2f}", f"{each.fixed:.2f}", f"{each.p:.3f}", each.reason)
        for each in admissions
        if not each.admitted
    ]
    if not rows:
        return ["## Cases left out", "", "None."]
    lines = ["## Cases left out", "", "Their fault does no harm here that the seeds could not explain.", ""]
    return lines + _table(("case", "faulty", "fixed", "p", "why"), rows)


def _failed(tried: Iterable[Trial]) -> list[str]:
    rows = [(each.case, each.variant, str(each.seed), each.error) for each in tried if each.error is not None]
    if not rows:
        return []
    return ["## Runs that failed", "", *_table(("run", "variant", "seed", "error"), rows)]


def _method() -> list[str]:
    return [
        "## How it is counted",
        "",
        "- A case counts if the scores of its faulty runs lie below those of its fixed ones (one-sided permutation "
        "test, p <= .05) by .05 or more, or if most faulty runs and no fixed one become non-finite or never move a "
        "parameter.",
        "- Healthy are the fixed variants of these cases, and the controls.",
        "- An alarm is a finding of severity warning or critical, active or recovered: whoever watched was called. "
        "Notes (info) are no alarms; what they name is ranked after the alarms.",
        "- Causes stand in the order of `diagnose`. A finding that another one explains has no rank of its own, and "
        "one that says that something is wrong and not what (`no-progress`, `loss-spike`, `diverging-loss`) detects "
        "and names nothing.",
        "- Strict is the root cause itself; lenient is one of those that cannot be told from it or share its cure.",
        "- Units are cases and controls, not runs: a case counts with the mean over its seeds, so that the sum over "
        "cases need not be whole. Wilson's interval takes the share and the number of cases.",
        "- A layer counts 1 if the first cause that names a place names it, .5 for its neighbour in the forward pass.",
        "- Out of scope: a wrong width or a missing layer cannot be seen in a run. `batch_size`, `optimizer_choice`, "
        "`bad_augmentation` and `rank_divergence` have no rule; cases of these classes count all the same.",
    ]


def _hits(case: CaseFacts, said: Sequence[Opinion]) -> str:
    wanted = (accepted(case, False), 1), (accepted(case, True), 1), (accepted(case, True), TOP)
    return " / ".join(f"{sum(each.names(names, top) for each in said) / len(said):.1f}" for names, top in wanted)


def _first(opinion: Opinion) -> str:
    """What is named first."""
    if opinion.causes:
        return opinion.causes[0][0]
    return "unknown" if opinion.alarm else "silent"


def _name(finding: Finding) -> str:
    return f"{finding.code} {finding.name}"


def _short(rate: Rate) -> str:
    return f"{rate.value:.2f}" if rate.units else "-"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in line) + " |" for line in lines]
