"""Faults: known mistakes in training, each with what is wrong, where, and the same training without it.

The facts are those of published benchmarks of training faults and of reports by users; the trainings are analogues of
our own on small data, in `faults.json`. Its keys are those of `Fault`, with `training` naming what the settings are of
(`TRAININGS`), `shared` those of both variants, and `faulty` and `fixed` what is particular to one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, cast

from auscult.clinic.copying import Copying
from auscult.clinic.halfprecision import HalfPrecision
from auscult.clinic.hearing import Hearing
from auscult.clinic.recipe import Recipe
from auscult.clinic.session import Training
from auscult.clinic.tuning import Tuning


@dataclass(frozen=True, slots=True)
class Fault:
    """A known mistake.

    Attributes:
        name: Its name in our tables; rules never see it.
        source: Where the fact is from: repository and path, issue, or practice.
        about: What is wrong.
        root_cause: The class it is of.
        also_accept: Classes that describe it as well.
        layers: Paths of the modules at fault in the faulty model, `""` for itself; empty where no layer is to blame.
        faulty: The training with the mistake.
        fixed: The same training without it, which learns well.
    """

    name: str
    source: str
    about: str
    root_cause: str
    also_accept: tuple[str, ...]
    layers: tuple[str, ...]
    faulty: Training
    fixed: Training


TRAININGS: Mapping[str, type[Training]] = {
    "copying": Copying,
    "half-precision": HalfPrecision,
    "hearing": Hearing,
    "recipe": Recipe,
    "tuning": Tuning,
}

NOT_RUN = {
    "OrderLab/TrainCheck-Evaluation-Workloads: pytorch-104336": "needs several processes",
    "OrderLab/TrainCheck-Evaluation-Workloads: deepspeed-1801": "needs several processes",
    "OrderLab/TrainCheck-Evaluation-Workloads: lightning-thunder-725": "a data type is all that is wrong",
}
"""Source of a case that is not run, and why."""


def _load() -> dict[str, Fault]:
    table = cast("list[dict[str, Any]]", json.loads(files("auscult.clinic").joinpath("faults.json").read_text("utf-8")))
    return {each["name"]: _fault(each) for each in table}


def _fault(facts: Mapping[str, Any]) -> Fault:
    kind = cast("type[Any]", TRAININGS[facts["training"]])
    return Fault(
        name=facts["name"],
        source=facts["source"],
        about=facts["about"],
        root_cause=facts["root_cause"],
        also_accept=tuple(facts["also_accept"]),
        layers=tuple(facts["layers"]),
        faulty=kind(**_settings({**facts["shared"], **facts["faulty"]})),
        fixed=kind(**_settings({**facts["shared"], **facts["fixed"]})),
    )


def _settings(plain: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists and keys as the trainings take them."""
    settings: dict[str, Any] = {
        name: tuple(cast("list[Any]", value)) if isinstance(value, list) else value for name, value in plain.items()
    }
    if "activations" in settings:
        settings["activations"] = {int(layer): name for layer, name in plain["activations"].items()}
    return settings


FAULTS = _load()
"""Name to Fault, in the order of the table."""
