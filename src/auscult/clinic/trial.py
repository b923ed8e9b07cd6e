"""Trial: one training of a known fault, of its repair or of a healthy control, and what the doctor says of it."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from typing import Any, Literal, cast, get_args

import numpy as np

from auscult.clinic.controls import CONTROLS
from auscult.clinic.depth import depths_of
from auscult.clinic.faults import FAULTS
from auscult.clinic.rivals import opinions
from auscult.clinic.session import Training
from auscult.clinic.traits import traits_of
from auscult.core.errors import SetupError
from auscult.core.finding import Finding, number_to_json
from auscult.core.run import Run
from auscult.reading import diagnose
from auscult.store.reader import load

Variant = Literal["faulty", "fixed", "control"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one training.

    Attributes:
        case: Name of the fault or of the control.
        variant: `faulty`, `fixed`, or `control`.
        seed: What the training was seeded with.
        score: Accuracy or R2 on held-out data in evaluation mode; higher is better.
        nonfinite: Whether a logged loss was NaN or infinite.
        updated: Whether any parameter changed.
        steps: Number of updates.
        findings: What the doctor says, as `diagnose` gives it.
        path: Directory of the run.
        seconds: Processor time of training and diagnosis.
        first_alarm: Step after which the first warning or worse was reported, while it trained; None where none was.
        rivals: By name of a rival, the classes that it names, the likeliest first; empty where it is silent.
        features: The numbers of `TRAITS`.
        depths: Layers by path, as `depths_of` gives them.
        error: What ended it before its time, all other figures then being empty; None where nothing did.
    """

    case: str
    variant: Variant
    seed: int
    score: float
    nonfinite: bool
    updated: bool
    steps: int
    findings: tuple[Finding, ...]
    path: str
    seconds: float = 0.0
    first_alarm: int | None = None
    rivals: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    features: tuple[float, ...] = ()
    depths: Mapping[str, int] = field(default_factory=dict[str, int])
    error: str | None = None

    def __post_init__(self) -> None:
        # One NaN object for all, so that equal trials compare equal.
        object.__setattr__(self, "score", self.score if self.score == self.score else math.nan)
        object.__setattr__(self, "features", tuple(each if each == each else math.nan for each in self.features))

    @property
    def key(self) -> tuple[str, Variant, int]:
        """What was to be tried: case, variant and seed."""
        return self.case, self.variant, self.seed

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        findings = [each.to_dict() for each in self.findings]
        features = [number_to_json(each) for each in self.features]
        return {**asdict(self), "score": number_to_json(self.score), "findings": findings, "features": features}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Trial":
        """The inverse of `to_dict`."""
        findings = tuple(Finding.from_dict(each) for each in plain["findings"])
        rivals = {name: tuple(said) for name, said in plain["rivals"].items()}
        features = tuple(float(each) for each in plain["features"])
        fields = {**plain, "score": float(plain["score"]), "findings": findings, "rivals": rivals, "features": features}
        return cls(**cast("dict[str, Any]", fields))


def run_trial(name: str, variant: Variant, seed: int, path: str | PathLike[str]) -> Trial:
    """Train once, recorded at `path`, and diagnose what was recorded.

    Args:
        name: A name of `FAULTS`, or of `CONTROLS` for the variant `control`.
        variant: Which training.
        seed: Seeds it.
        path: Directory of the run.

    Raises:
        SetupError: if there is no such training.
    """
    chosen = training(name, variant)
    began = time.process_time()
    outcome = chosen.train(path, seed)
    run = load(path)
    findings = tuple(diagnose(run))
    seconds = time.process_time() - began
    traits = traits_of(run)
    return Trial(
        name,
        variant,
        seed,
        outcome.score,
        _nonfinite(run),
        outcome.updated,
        outcome.steps,
        findings,
        str(path),
        round(seconds, 2),
        min((step for step, each in run.findings if each.severity != "info"), default=None),
        opinions(traits),
        traits.numbers(),
        depths_of(run),
    )


def failed_trial(key: tuple[str, Variant, int], path: str | PathLike[str], error: str) -> Trial:
    """A trial that was ended by an error."""
    return Trial(
        *key, score=math.nan, nonfinite=False, updated=False, steps=0, findings=(), path=str(path), error=error
    )


def training(name: str, variant: Variant) -> Training:
    """What is trained.

    Raises:
        SetupError: if there is no such training.
    """
    if variant == "control" and name in CONTROLS:
        return CONTROLS[name].training
    if variant != "control" and name in FAULTS:
        return FAULTS[name].faulty if variant == "faulty" else FAULTS[name].fixed
    raise SetupError(
        f"Expected the name of a {'control' if variant == 'control' else 'fault'} of the clinic, but got {name!r}."
    )


def _nonfinite(run: Run) -> bool:
    losses = [metric for metric in run.metrics if metric.split("/")[-1] == "loss"]
    return any(not np.isfinite(run.series(each).values).all() for each in losses)
