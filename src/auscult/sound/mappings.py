"""Mappings: every way in which a run can be heard, by name.

A mapping says what is worth hearing, a mode how it is laid out in time. Each entry is a function of a run, findings,
the driving metric and a length that returns a Score; a new way to listen is a new entry.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from auscult.core.errors import SetupError
from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.core.score import Score
from auscult.sound import perone, vitals

Composer = Callable[[Run, Sequence[Finding], str | None, float | None], Score]

MAPPINGS: Mapping[str, Mapping[str, Composer]] = MappingProxyType(
    {
        "vitals": MappingProxyType({"mix": vitals.mix}),
        "perone2019": MappingProxyType({"mix": perone.tones}),
    }
)
"""Mapping name to mode name to the function that composes it."""

MAX_SECONDS = 3600.0


def sonify_run(
    run: Run,
    findings: Sequence[Finding] = (),
    *,
    mapping: str = "vitals",
    mode: str = "mix",
    metric: str | None = None,
    seconds: float | None = None,
) -> Score:
    """Compose what a run sounds like.

    Args:
        run: The run; an empty one gives a silent score.
        findings: What `diagnose` found; warnings and worse become events.
        mapping: `vitals`, or `perone2019` for the original of 2019.
        mode: `mix`, all voices at once.
        metric: What drives the pitch: for `vitals` one of `grad_norm` (the default), `param_norm`, `update_norm`,
            `update_ratio`, `update_to_data`, `grad_to_data`.
        seconds: Length, up to an hour; None chooses one. An earcon at the very end may add up to 2 s.

    Raises:
        SetupError: if the mapping, the mode or the metric is unknown, or the length is not possible.
    """
    modes = MAPPINGS.get(mapping)
    if modes is None:
        raise SetupError(f"Expected `mapping` to be one of {', '.join(MAPPINGS)}, but got {mapping!r}.")
    if mode not in modes:
        raise SetupError(f"Expected `mode` of {mapping} to be one of {', '.join(modes)}, but got {mode!r}.")
    if seconds is not None and not (np.isfinite(seconds) and 0 < seconds <= MAX_SECONDS):
        raise SetupError(f"Expected `seconds` to be > 0 and <= {MAX_SECONDS:.0f}, but got {seconds!r}.")
    return modes[mode](run, findings, metric, seconds)
