"""Mappings: every way in which a run can be heard, by name.

A mapping says what is worth hearing, a mode how it is laid out in time. Each entry is a function of a run, findings and
a request that returns a Score; a new way to listen is a new entry.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from auscult.core.errors import SetupError
from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.core.score import Score
from auscult.sound import notes, perone, vitals
from auscult.sound.request import Request
from auscult.sound.scene import open_scene

Composer = Callable[[Run, Sequence[Finding], Request], Score]

MAPPINGS: Mapping[str, Mapping[str, Composer]] = MappingProxyType(
    {
        "vitals": MappingProxyType(
            {
                "mix": vitals.mix,
                "overview": vitals.overview,
                "arpeggio": notes.arpeggio,
                "solo": vitals.solo,
                "step": notes.step_by_step,
            }
        ),
        "perone2019": MappingProxyType({"mix": perone.tones}),
    }
)
"""Mapping name to mode name to the function that composes it."""


def sonify_run(
    run: Run,
    findings: Sequence[Finding] = (),
    request: Request | None = None,
    *,
    mapping: str = "vitals",
    mode: str = "mix",
) -> Score:
    """Compose what a run sounds like.

    Args:
        run: The run; an empty one gives a silent score.
        findings: What `diagnose` found; they become events.
        request: How it is to be heard; None leaves everything to mapping and mode.
        mapping: `vitals`, or `perone2019` for the original of 2019.
        mode: `mix`, `overview`, `arpeggio`, `solo` or `step`.

    Raises:
        SetupError: if the mapping, the mode or the metric is unknown.
    """
    modes = MAPPINGS.get(mapping)
    if modes is None:
        raise SetupError(f"Expected `mapping` to be one of {', '.join(MAPPINGS)}, but got {mapping!r}.")
    if mode not in modes:
        raise SetupError(f"Expected `mode` of {mapping} to be one of {', '.join(modes)}, but got {mode!r}.")
    score = modes[mode](run, findings, request or Request())
    given = () if request is None else request.references
    if given and score.references and not any(name in given for name in score.references):
        warnings.warn(
            f"The references are those of {_listed(given)}, and none of these is heard, but "
            f"{_listed(score.references)}, by their own. Take them from a score of the same mode.",
            stacklevel=3,
        )
    return score


def _listed(names: Iterable[str]) -> str:
    """Up to three names."""
    known = list(names)
    return ", ".join([*known[:3], *(["..."] if len(known) > 3 else [])])


def sonify_report(run: Run, findings: Sequence[Finding]) -> list[Score]:
    """What a report offers to be heard, the first to begin with: three voices, the overview, and the arpeggio.

    As `sonify_run` gives them one by one; what the first two have in common is read once.

    Args:
        run: The run.
        findings: What `diagnose` found.
    """
    scene = open_scene(run, findings, Request(), vitals.thirds)
    return [vitals.mixed(scene), vitals.overseen(scene), notes.arpeggio(run, findings, Request())]
