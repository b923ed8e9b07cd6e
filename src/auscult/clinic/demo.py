"""Demo: a healthy and a diverging run side by side, with report and sound."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from auscult.clinic.listening import SETTINGS, STEPS, train
from auscult.core.finding import Finding
from auscult.reading import diagnose, report, sonify
from auscult.sound.synth import render
from auscult.store.reader import load

RUNS = {"healthy": "sgd-0.01", "diverging": "sgd-1.0-batch-256"}


@dataclass(frozen=True, slots=True)
class DemoRun:
    """What the demo made of one run.

    Attributes:
        name: `healthy` or `diverging`.
        directory: The run.
        report: Its page.
        sound: Its default sound.
        original: Its sound in the mapping of 2019.
        findings: Its diagnosis.
    """

    name: str
    directory: Path
    report: Path
    sound: Path
    original: Path
    findings: list[Finding]


def run_demo(
    out: Path,
    seed: int,
    on_step: Callable[[str, int, int], object],
    on_finding: Callable[[str, Finding], object],
) -> list[DemoRun]:
    """Train both runs and write what there is to see and hear.

    Args:
        out: Directory for everything.
        seed: Seeds both runs.
        on_step: Called with name, updates made, updates in all.
        on_finding: Called with name and finding, while the run trains.
    """
    made: list[DemoRun] = []
    for name, setting in RUNS.items():
        monitor = train(
            SETTINGS[setting],
            out / name,
            seed=seed,
            on_step=lambda step, name=name: on_step(name, step, STEPS),
            on_finding=lambda finding, name=name: on_finding(name, finding),
        )
        run = load(monitor.path)
        beside = monitor.path.parent
        made.append(
            DemoRun(
                name=name,
                directory=monitor.path,
                report=report(run, beside / f"{monitor.path.name}.html"),
                sound=render(sonify(run)).write(beside / f"{monitor.path.name}.wav"),
                original=render(sonify(run, "perone2019")).write(beside / f"{monitor.path.name}-perone2019.wav"),
                findings=diagnose(run),
            )
        )
    return made
