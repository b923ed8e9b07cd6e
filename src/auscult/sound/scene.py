"""Scene: a part of a run laid out in time: which step is heard when, and what each group of layers does there.

Knows nothing of sounds. Modes make voices of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import SetupError
from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.sound.frames import SHARES, Table, Track, follow, open_table, usual_metric, weights
from auscult.sound.request import Request

ABSOLUTE = {"update_to_data": 1e-3, "update_ratio": 1e-3, **SHARES}
"""References that do not depend on the run: what is usual for the metric."""

FRAMES_PER_SECOND = 10
STEP_SECONDS = 0.1
SHORTEST, LONGEST = 12.0, 60.0  # seconds; runs of less than 12 steps get a second per step


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that are heard as one, and how: `paths` in the order of the model, `pan` as in `Voice`."""

    name: str
    paths: tuple[str, ...]
    pan: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What modes need to know.

    Attributes:
        run: The run.
        request: How it is to be heard.
        findings: What `diagnose` found within the steps that are heard.
        metric: What drives the pitch.
        steps: The steps that are heard, int64 `(N,)`.
        times: Seconds at which each begins, float64 `(N,)`.
        length: Seconds at which the last one ends.
        edges: Position among the steps at which each frame begins, and the end of the last, int64 `(F + 1,)`.
        groups: The layers.
        tracks: What each group does; per step arrays are `(N,)`, per frame arrays `(F,)`.
        references: Of each group, None where nothing was observed.
    """

    run: Run
    request: Request
    findings: tuple[Finding, ...]
    metric: str
    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    length: float
    edges: NDArray[np.int64]
    groups: tuple[Group, ...]
    tracks: tuple[Track, ...]
    references: tuple[float | None, ...]

    @property
    def begins(self) -> NDArray[np.float64]:
        """Seconds at which each frame begins, and the end of the last, `(F + 1,)`."""
        return np.append(self.times, self.length)[self.edges]

    @property
    def centres(self) -> NDArray[np.float64]:
        """Seconds at the middle of each frame, `(F,)`."""
        return 0.5 * (self.begins[:-1] + self.begins[1:])

    @property
    def distances(self) -> list[NDArray[np.float64]]:
        """Decades of each group above its reference, or below with polarity `down`, per frame; NaN if not observed."""
        sign = 1.0 if self.request.polarity == "up" else -1.0
        return [
            np.full(len(track.level), np.nan) if reference is None else sign * (track.level - np.log10(reference))
            for track, reference in zip(self.tracks, self.references)
        ]


def usual_length(steps: int) -> float:
    """Seconds for a number of steps: ten steps a second between 12 and 60 seconds; 1 second for an empty run."""
    return min(LONGEST, max(STEP_SECONDS * steps, min(SHORTEST, float(max(steps, 1)))))


def usual_frames(steps: int, length: float, _groups: int) -> NDArray[np.int64]:
    """Edges of ten frames a second, or of one for each step where there are fewer."""
    frames = min(steps, max(1, round(length * FRAMES_PER_SECOND)))
    return np.arange(frames + 1) * steps // max(frames, 1)


def open_scene(
    run: Run,
    findings: Sequence[Finding],
    request: Request,
    group: Callable[[tuple[str, ...]], Sequence[Group]],
    length_of: Callable[[int], float] = usual_length,
    frames_of: Callable[[int, float, int], NDArray[np.int64]] = usual_frames,
) -> Scene:
    """Lay out a run.

    Args:
        run: The run.
        findings: What `diagnose` found.
        request: How it is to be heard.
        group: Makes groups of the recorded layers.
        length_of: Seconds for a number of steps, where the request names none.
        frames_of: Edges of frames for a number of steps, seconds, and groups.

    Raises:
        SetupError: if the metric cannot drive a voice, or the path is none that it was recorded of.
    """
    table = open_table(run, request.metric or usual_metric(run))
    first, last = request.steps or (0, np.iinfo(np.int64).max)
    begin = int(np.searchsorted(table.steps, first, "left"))
    end = int(np.searchsorted(table.steps, last, "right"))
    steps = table.steps[begin:end]
    if request.steps is not None and len(table.steps) and not len(steps):
        raise SetupError(
            f"Expected `steps` to be some of the run, but got {request.steps}, and it has {table.steps[0]:,} to "
            f"{table.steps[-1]:,}."
        )
    length = length_of(len(steps)) if request.seconds is None else request.seconds
    heard = _heard(table, request.path)
    groups = tuple(group(heard)) if table.single is None or request.path else (Group(table.single, heard),)
    edges = frames_of(len(steps), length, len(groups))
    tracks = tuple(_cut(follow(table, each.paths, begin + edges), begin, end) for each in groups)
    return Scene(
        run=run,
        request=request,
        findings=tuple(each for each in findings if first <= each.step <= last),
        metric=table.metric,
        steps=steps,
        times=np.arange(len(steps), dtype=np.float64) * (length / max(len(steps), 1)),
        length=length,
        edges=edges,
        groups=groups,
        tracks=tracks,
        references=tuple(_reference(each, track, table.metric, request) for each, track in zip(groups, tracks)),
    )


def _heard(table: Table, path: str | None) -> tuple[str, ...]:
    """The layers that are heard: all weights, or the parameter or module of this path."""
    if path is None:
        return weights(table)
    inside = tuple(each for each in table.columns if each == path or each.startswith(path + "."))
    if not inside:
        close = get_close_matches(path, list(table.columns), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else f" `run.paths({table.metric!r})` lists them."
        raise SetupError(f"Expected `path` to be one that has {table.metric}, but got {path!r}.{hint}")
    return inside


def _cut(track: Track, begin: int, end: int) -> Track:
    """A track with its per-step arrays cut to the steps that are heard."""
    names = ("zero", "broken", "culprit", "culprit_value", "missing")
    return replace(
        track,
        excursion=np.where(track.excursion < 0, -1, track.excursion - begin),
        **{name: getattr(track, name)[begin:end] for name in names},
    )


def _reference(group: Group, track: Track, metric: str, request: Request) -> float | None:
    if not track.paths:
        return None
    return request.references.get(group.name, ABSOLUTE.get(metric, track.reference))
