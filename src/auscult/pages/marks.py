"""Marks: moments of a run that every chart points out: resumes, changes of cadence, epochs, evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from auscult.core.catalogue import METRICS
from auscult.core.run import Run
from auscult.core.series import Series
from auscult.pages.curve import Curve, evenly
from auscult.pages.sweep import steps_of
from auscult.pages.wording import listed

MAX_MARKS = 200
"""Of one kind; of more, some evenly spread are marked."""

MarkKind = Literal["segment", "cadence", "epoch", "evaluation"]
WORDS = {"segment": "resume", "cadence": "change of cadence", "epoch": "epoch", "evaluation": "evaluation"}


@dataclass(frozen=True, slots=True)
class Mark:
    """One moment.

    Attributes:
        kind: What happened.
        step: The first step after it.
        text: What to write beside it.
    """

    kind: MarkKind
    step: int
    text: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"kind": self.kind, "step": self.step, "text": self.text}


def marks(run: Run) -> list[Mark]:
    """What there is to mark, kind by kind, each in the order of steps.

    Epochs are those that the run logged as `epoch`, or under a name that ends in `/epoch`; without them only the
    evaluations tell how often the data was gone through.
    """
    evaluated = steps_of(run, "evaluation").tolist() if "evaluation" in run.streams else []
    return [
        *(Mark("segment", each.step, "resumed") for each in run.segments[1:]),
        *_few(_cadences(run)),
        *_few(_epochs(run)),
        *_few([Mark("evaluation", step, "evaluation") for step in evaluated]),
    ]


def marks_note(several: Sequence[Mark]) -> str:
    """What is marked, in a sentence; empty where nothing is."""
    kinds = dict.fromkeys(each.kind for each in several)
    signs = {"segment": "a solid line", "cadence": "a dotted line", "epoch": "ticks at the top", "evaluation": "dots"}
    return f"Marked: {listed([f'{WORDS[each]}s by {signs[each]}' for each in kinds], 4)}." if kinds else ""


def rate_curve(run: Run) -> dict[str, Any] | None:
    """The learning rate as it can be drawn behind other curves; None if it was not observed.

    Of several parameter groups the one with the largest rate.
    """
    several = [run.series("lr", path) for path in run.paths("lr")] if "lr" in run.metrics else []
    seen = [each for each in several if each.observed]
    if not seen:
        return None
    return Curve("lr", max(seen, key=_largest)).to_dict()


def _largest(series: Series) -> float:
    return float(np.max(series.values, where=np.isfinite(series.values), initial=-np.inf))


def _cadences(run: Run) -> list[Mark]:
    found: list[Mark] = []
    for event in run.events:
        if event["kind"] == "schedule" and event["step"] < run.stop:
            parts = [
                f"{name} every {event[name]:,}" for name in ("norms", "samples") if isinstance(event.get(name), int)
            ]
            found.append(Mark("cadence", event["step"], ", ".join(parts) or "cadence"))
    return found


def _epochs(run: Run) -> list[Mark]:
    """Where the whole part of the epoch grows."""
    if "user" not in run.streams:
        return []
    for channel in run.source.channels("user"):
        if channel.metric.rsplit("/", 1)[-1] == "epoch" and channel.metric not in METRICS:
            logged = run.series(channel.metric, channel.path)
            finite = np.isfinite(logged.values)
            steps, whole = logged.steps[finite], np.floor(logged.values[finite])
            grown = np.flatnonzero(np.diff(whole) > 0) + 1
            return [Mark("epoch", int(steps[at]), f"epoch {whole[at]:.0f}") for at in grown.tolist()]
    return []


def _few(several: Sequence[Mark]) -> list[Mark]:
    return [several[index] for index in evenly(len(several), MAX_MARKS)]
