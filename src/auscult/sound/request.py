"""Request: how somebody wants to hear a run, besides mapping and mode."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from auscult.core.errors import SetupError
from auscult.sound.scales import Scale

Polarity = Literal["up", "down"]
Context = Literal["loss", "lr", "clipping", "epochs"]

MAX_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        metric: What drives the pitch; None leaves it to the mapping.
        seconds: Length; None leaves it to the mode.
        path: The parameter or module that is heard alone; None for the whole model.
        steps: First and last step that are heard; None for all.
        polarity: Whether more is higher (`up`) or lower (`down`).
        scale: The notes that a pitch may have.
        context: What is heard besides the layers.
        references: Voice to reference, in place of the run's own.
    """

    metric: str | None = None
    seconds: float | None = None
    path: str | None = None
    steps: tuple[int, int] | None = None
    polarity: Polarity = "up"
    scale: Scale = "continuous"
    context: tuple[Context, ...] = ()
    references: Mapping[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        if self.seconds is not None and not (np.isfinite(self.seconds) and 0 < self.seconds <= MAX_SECONDS):
            raise SetupError(f"Expected `seconds` to be > 0 and <= {MAX_SECONDS:.0f}, but got {self.seconds!r}.")
        if self.steps is not None and not 0 <= self.steps[0] <= self.steps[1]:
            raise SetupError(f"Expected `steps` to be first and last, as (0, 999), but got {self.steps!r}.")
        _require("polarity", self.polarity, get_args(Polarity))
        _require("scale", self.scale, get_args(Scale))
        for each in self.context:
            _require("context", each, get_args(Context))
        for name, value in self.references.items():
            if not (np.isfinite(value) and value > 0):
                raise SetupError(
                    f"Expected `references` to be finite and > 0, but got {value!r} for {name!r}. "
                    "Hand over the `references` of another score."
                )


def parse_steps(text: str) -> tuple[int, int]:
    """First and last step from `FIRST:LAST`.

    Raises:
        SetupError: if the text is not of that form.
    """
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal()):
        raise SetupError(f"Expected steps as FIRST:LAST, but got {text!r}. Write --steps 0:999.")
    return int(first), int(last)


def _require(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SetupError(f"Expected `{name}` to be one of {', '.join(known)}, but got {value!r}.")
