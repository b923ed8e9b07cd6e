"""Score: which cases count, what a rank is, and every figure of hand-made trials counted by hand."""

from dataclasses import dataclass

import pytest

from auscult.clinic.gates import gates
from auscult.clinic.rate import Rate
from auscult.clinic.reference import HEALTHY, Learned, always, false_alarms_by_class, guess
from auscult.clinic.score import Admission, Opinion, admit, figures, ours, over_classes, rival
from auscult.clinic.taxonomy import EXACT, FAULTS, NAMES
from auscult.clinic.trial import Trial
from auscult.core.finding import Evidence, Finding
from auscult.rules.registry import RULES


@dataclass(frozen=True)
class Case:
    name: str
    root_cause: str
    also_accept: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


DEPTHS = {"0": 0, "1": 0, "2": 1, "3": 1, "4": 2, "head": 3}


def finding(name: str, severity: str = "warning", step: int = 0, path: str = "", **more) -> Finding:
    evidence = more.pop("evidence", (Evidence("loss", "", step, 1.0),))
    return Finding("X001", name, severity, path, step, "Summary.", evidence, ("Try.",), **more)  # pyright: ignore


def trial(case: str, variant: str = "faulty", seed: int = 0, score: float = 0.2, findings=(), **more) -> Trial:
    first = min((each.step for each in findings if each.severity != "info"), default=None)
    facts = {"nonfinite": False, "updated": True, "steps": 100, "path": "", "depths": DEPTHS, "first_alarm": first}
    return Trial(case, variant, seed, score, findings=tuple(findings), **{**facts, **more})  # pyright: ignore


def runs(faulty: list[float], fixed: list[float], **more) -> list[Trial]:
    low = [trial("case", "faulty", seed, score, **more) for seed, score in enumerate(faulty)]
    return low + [trial("case", "fixed", seed, score) for seed, score in enumerate(fixed)]


def test_every_rule_names_classes_that_exist() -> None:
    assert {rule.name for rule in RULES} <= set(NAMES)
    assert {name for names in NAMES.values() for name in names} | set(EXACT) <= set(FAULTS)
    assert NAMES["no-progress"] == ()


@pytest.mark.parametrize(
    ("trials", "reason"),
    [
        (runs([0.1, 0.2, 0.3, 0.2, 0.1], [0.9, 0.8, 0.9, 0.8, 0.9]), "score"),
        (runs([0.90, 0.91, 0.92, 0.91, 0.90], [0.94, 0.95, 0.94, 0.95, 0.94]), "not reproduced"),  # p < .05, gap .036
        (runs([0.1, 0.9, 0.9, 0.9, 0.9], [0.9, 0.9, 0.9, 0.9, 0.9]), "not reproduced"),  # gap .16, p = .5
        (runs([0.9] * 5, [0.9] * 5, nonfinite=True), "non-finite"),
        (runs([0.9] * 5, [0.9] * 5, updated=False), "invariant"),
        (runs([0.1, 0.1], [0.9, 0.9]), "too few runs"),
        (runs([], [0.9]), "too few runs"),
    ],
)
def test_admission(trials, reason) -> None:
    verdict = admit(Case("case", "lr_too_high"), trials)
    assert verdict.reason == reason
    assert verdict.admitted == (reason in ("score", "non-finite", "invariant"))


def test_one_wild_score_does_not_admit_a_case_by_its_mean() -> None:
    verdict = admit(Case("case", "lr_too_high"), runs([-1e9, 0.9, 0.9, 0.9, 0.9], [0.9] * 5))
    assert not verdict.admitted and verdict.faulty == pytest.approx((-1 + 4 * 0.9) / 5)


def test_alarms_come_before_notes_and_consequences_take_no_rank() -> None:
    opinion = ours(
        trial(
            "case",
            findings=[
                finding("no-progress", step=40),
                finding("dead-units", step=30, path="2", cause=("U001", "")),
                finding("labels-corrupt", "info", step=1),
                finding("lr-too-high", step=20, status="recovered"),
                finding("lr-too-high", step=25, path="4.weight"),
                finding("zero-gradient", "critical", step=50),
            ],
        )
    )
    assert opinion.causes == (("lr_too_high",), ("vanishing_gradient", "dead_units"), ("labels_corrupt",))
    assert opinion.alarm and opinion.critical and opinion.step == 20 and opinion.place == "4.weight"
    assert opinion.names(["dead_units"], 2) and not opinion.names(["dead_units"], 1)


def test_a_note_is_no_alarm_but_names_a_cause() -> None:
    opinion = ours(trial("case", findings=[finding("undertrained", "info")]))
    assert opinion == Opinion(False, causes=(("undertrained",),))
    assert ours(trial("case", findings=[finding("no-progress")])).causes == ()


def test_a_finding_about_the_run_points_where_its_evidence_does() -> None:
    evidence = (Evidence("loss", "", 0, 1.0), Evidence("grad_norm", "2.weight", 0, 0.0))
    assert ours(trial("case", findings=[finding("zero-gradient", evidence=evidence)])).place == "2.weight"


CASES = (
    Case("hot", "lr_too_high", ("exploding_gradient",)),
    Case("cold", "lr_too_low", layers=("2",)),
    Case("frozen", "params_not_updated"),
    Case("hotter", "lr_too_high"),
    Case("harmless", "loss_reduction"),
)
ADMITTED = {"hot", "cold", "frozen", "hotter"}


def both(name: str, *findings: list[Finding], fixed: tuple[Finding, ...] = ()) -> list[Trial]:
    made = [trial(name, "faulty", seed, findings=each) for seed, each in enumerate(findings)]
    return [*made, trial(name, "fixed", 0, 0.9, fixed), trial(name, "fixed", 1, 0.9)]


TRIALS = (
    *both("hot", [finding("exploding-gradient", step=8)], [finding("saturated"), finding("lr-too-high", step=2)]),
    *both("cold", [finding("lr-too-low", path="4.weight", step=16)], [], fixed=(finding("saturated", "critical"),)),
    *both("frozen", [finding("parameters-not-updated")], [finding("parameters-not-updated")]),
    *both("hotter", [finding("no-progress", step=64)], [finding("no-progress", step=64)]),
    *both("harmless", [finding("lr-too-high")], [], fixed=(finding("lr-too-high"),)),
    trial("calm", "control", 0, 0.9),
    trial("calm", "control", 1, 0.9, [finding("overfitting", "info")]),
    trial("odd", "control", 0, 0.9, [finding("lr-too-low", status="recovered")]),
)


def test_figures_counted_by_hand() -> None:
    found = figures(ours, TRIALS, CASES, ADMITTED)
    assert (found.faulty_runs, found.healthy_runs) == (8, 11)
    assert found.detection == Rate(1 + 0.5 + 1 + 1, 4)
    assert found.false_alarms == Rate(0.5 + 1, 6)  # fixed cold in one of two seeds, and the control that recovered
    assert found.critical_false_alarms == 1
    assert found.causes[1, False] == Rate(0 + 0.5 + 1 + 0, 4)
    assert found.causes[1, True] == Rate(0.5 + 0.5 + 1 + 0, 4)
    assert found.causes[3, False] == Rate(0.5 + 0.5 + 1 + 0, 4)
    assert found.causes[3, True] == Rate(1 + 0.5 + 1 + 0, 4)
    assert found.macro_detection == pytest.approx((1 + 0.5 + 1) / 3)
    assert found.macro[3, True] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert found.layer == Rate(0.25, 1)  # a neighbour in one of two seeds
    assert found.exact == Rate(1, 1)
    assert found.first_alarm == 8  # of 8, 0, 16, 0, 0, 64, 64


def test_classes_weigh_the_same_however_many_cases_they_have() -> None:
    assert over_classes({"a": 1.0, "b": 0.0, "c": 1.0}, {"a": "x", "b": "x", "c": "y"}) == 0.75


def test_gates_look_at_bounds_goals_and_what_must_never_be() -> None:
    found = {each.quantity: each for each in gates(figures(ours, TRIALS, CASES, ADMITTED))}
    detection = found["detection of faults"]
    assert not detection.met and detection.rate.value == 0.875
    assert not found["false alarms on healthy runs, none critical"].met
    assert found["cause, top-1 strict"].met and not found["cause, top-1 strict"].goal_met
    perfect = {each.quantity: each for each in gates(figures(always, TRIALS, CASES, ADMITTED))}
    assert perfect["detection of faults"].goal_met and not perfect["cause, top-1 lenient"].met
    quiet = [each for each in TRIALS if each.variant != "control" and each.case != "cold"]
    silent = {each.quantity: each for each in gates(figures(ours, quiet, CASES, ADMITTED))}
    assert silent["false alarms on healthy runs, none critical"].goal_met
    assert silent["layer named right, cases that sit in a layer"].met  # no case asks for it


def test_rivals_are_scored_by_what_is_kept_of_them() -> None:
    said = trial("hot", rivals={"a": ("unknown", "lr_too_high"), "b": (), "c": ("unknown",)})
    assert rival("a")(said) == Opinion(True, causes=(("lr_too_high",),))
    assert rival("b")(said) == Opinion(False)
    assert rival("c")(said) == Opinion(True)


def test_the_guess_leaves_out_the_case_it_is_asked_about() -> None:
    cases = [Case("a", "x"), Case("b", "x"), Case("c", "y"), Case("d", "y"), Case("e", "z")]
    names = {each.name for each in cases}
    assert guess(cases, names)(trial("a")).causes[0] == ("y",)
    assert guess(cases, names)(trial("c")).causes[0] == ("x",)


def learnable() -> tuple[list[Trial], list[Case]]:
    """Two classes of four cases each that one trait tells apart, and one case of a class of its own."""
    cases = [Case(f"{cause}-{n}", cause) for cause in ("lr_too_high", "lr_too_low") for n in range(4)]
    cases.append(Case("lonely", "amp"))
    mark = {"lr_too_high": 1.0, "lr_too_low": -1.0, "amp": 9.0}
    made = [
        trial(case.name, variant, seed, features=(mark[case.root_cause] if variant == "faulty" else 0.0, float("nan")))
        for case in cases
        for variant in ("faulty", "fixed")
        for seed in range(3)
    ]
    return made, cases


def test_the_learned_reference_generalises_and_cannot_name_what_it_has_not_seen() -> None:
    trials, cases = learnable()
    admitted = {each.name for each in cases}
    learned = Learned(trials, cases, admitted)
    said = {(each.case, each.variant): learned(each) for each in trials}
    assert said["lr_too_low-2", "faulty"].causes[0] == ("lr_too_low",) and said["lr_too_low-2", "faulty"].alarm
    assert not said["lr_too_low-2", "fixed"].alarm and (HEALTHY,) not in said["lr_too_low-2", "fixed"].causes
    assert learned.lost_classes == ("amp",) and ("amp",) not in said["lonely", "faulty"].causes
    found = false_alarms_by_class({"ours": ours, "tree": learned.without_class}, trials, cases, admitted)
    assert found["lr_too_high"] == (12, {"ours": 0, "tree": 0})


def test_a_tree_that_has_not_seen_a_class_knows_nothing_of_it() -> None:
    trials, cases = learnable()
    learned = Learned(trials, cases, {each.name for each in cases})
    hot = next(each for each in trials if each.case == "lr_too_high-0" and each.variant == "faulty")
    assert learned(hot).causes[0] == ("lr_too_high",)
    assert ("lr_too_high",) not in learned.without_class(hot).causes


def test_admissions_say_why() -> None:
    assert Admission("a", 0.1, 0.9, 0.01, "given").admitted
