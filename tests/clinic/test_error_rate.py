"""Error rate: the page holds every figure, every false alarm and every case that was left out."""

from dataclasses import dataclass

import pytest

from auscult.clinic.error_rate import CAVEAT, Setup, page
from auscult.clinic.rivals import RIVALS
from auscult.clinic.score import admit
from auscult.clinic.trial import Trial
from auscult.core.finding import Evidence, Finding

SETUP = Setup("abc1234", "2026-11-21", {"torch": "2.13.0"}, (0, 1, 2), "auscult clinic score")


@dataclass(frozen=True)
class Case:
    name: str
    root_cause: str
    also_accept: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


CASES = (Case("hot|er", "lr_too_high", layers=("0",)), Case("cold", "lr_too_low"), Case("harmless", "loss_reduction"))


def finding(name: str, severity: str, step: int, path: str = "") -> Finding:
    return Finding("U001", name, severity, path, step, ".", (Evidence("loss", "", 0, 1.0),), (".",))  # pyright: ignore


def trial(case: str, variant: str, seed: int, score: float, *findings: Finding) -> Trial:
    watchers = {name: (("lr_too_high",) if name == "UMLAUT" else ()) for name in RIVALS}
    first = findings[0].step + 1 if findings else None
    return Trial(case, variant, seed, score, False, True, 64, findings, "", first_alarm=first, rivals=watchers,  # pyright: ignore
                 features=(score, float(seed)), depths={"0": 0})  # fmt: skip


@pytest.fixture(scope="module")
def text() -> str:
    trials: list[Trial] = []
    for seed in range(3):
        trials += [
            trial("hot|er", "faulty", seed, 0.1 + seed / 100, finding("lr-too-high", "critical", 7, "0.weight")),
            trial("hot|er", "fixed", seed, 0.9 + seed / 100),
            trial("cold", "faulty", seed, 0.2, finding("saturated", "warning", 9)),
            trial("cold", "fixed", seed, 0.95, *([finding("saturated", "warning", 33, "2")] if seed == 1 else ())),
            trial("harmless", "faulty", seed, 0.91),
            trial("harmless", "fixed", seed, 0.92),
            trial("calm", "control", seed, 0.9),
        ]
    return page(trials, CASES, [admit(case, trials) for case in CASES], SETUP)


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_page_says_with_what_it_was_made(text) -> None:
    assert "`auscult clinic score` on 2026-11-21 at commit `abc1234` with torch 2.13.0" in text
    assert "21 runs: 9 faulty and 9 fixed ones of 3 cases, of which 2 count, and 3 healthy controls" in text
    assert CAVEAT in text


def test_gates_stand_with_their_intervals(text) -> None:
    gates = section(text, "Gates and goals")
    assert (
        "| detection of faults | .94 (false alarms unpublished) | >= 0.90 | >= 0.95 | 1.00 [0.34, 1.00; 2] |" in gates
    )
    assert "0.11 [0.01, 0.65; 3], 0 critical | **gate missed** |" in gates  # one of three seeds of one of three units
    assert (
        "| cause, top-1 lenient | .63 any match | >= 0.60 | >= 0.75 | 0.50 [0.09, 0.91; 2] | **gate missed** |" in gates
    )
    assert "Median step of the first alarm: 9." in gates


def test_every_doctor_stands_beside_ours(text) -> None:
    others = section(text, "Others on the same runs")
    assert "| UMLAUT | 1.00 [0.34, 1.00; 2] | 1.00 [0.44, 1.00; 3] | 0.50 | 0.50 | 0.50 |" in others
    assert "| NaN + plateau watcher | 0.00 [0.00, 0.66; 2] | 0.00" in others
    for name in (*RIVALS, "auscult", "always alarms", "most frequent class", "decision tree on traits"):
        assert f"| {name} |" in others
    assert "`lr_too_high`, `lr_too_low`." in others


def test_false_alarms_and_cases_are_listed_one_by_one(text) -> None:
    assert "| cold | fixed | 1 | warning | U001 saturated | 2 | 33 | active |" in section(text, "False alarms")
    assert "| `lr_too_low` | 3 | 1 | " in section(text, "False alarms, one class left out")
    assert "| `lr_too_low` | 3 | 0 | saturated 3 |" in section(text, "Confusion")
    cases = section(text, "Case by case")
    assert "| hot\\|er | `lr_too_high` | 0.11 / 0.91 | score | 3/3 | lr_too_high | 1.0 / 1.0 / 1.0 | 8 |" in cases
    assert "harmless" not in cases
    assert "| harmless | 0.91 | 0.92 | 0.050 | not reproduced |" in section(text, "Cases left out")


def test_tables_are_whole(text) -> None:
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) >= 6
    for lines in tables:
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1, lines[0]
