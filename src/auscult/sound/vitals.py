"""Vitals: the default mapping. Pitch says how far the layers are from their reference.

Every voice reads the same scale, 131 to 2093 Hz, so layers in good order are in unison. What sets the voices an octave
apart is their timbre, as with the stops of an organ: `warm` has a partial an octave below the pitch, `bright` strong
ones above. Knows nothing of samples.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import SetupError
from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.core.score import Score, SoundEvent, Timbre, Voice
from auscult.sound.context import context_voices, unrecorded
from auscult.sound.earcons import earcon_voices
from auscult.sound.events import absences, alarms, end_of, excursions, notices, spread, standstills
from auscult.sound.glide import glides
from auscult.sound.level import leveled
from auscult.sound.request import Request
from auscult.sound.scene import Group, Scene, open_scene

VOICES: tuple[tuple[str, Timbre, float], ...] = (
    ("early layers", "warm", -0.6),
    ("middle layers", "hollow", 0.0),
    ("late layers", "bright", 0.6),
)
TIMBRES: tuple[Timbre, ...] = tuple(timbre for _, timbre, _ in VOICES)


def mix(run: Run, findings: Sequence[Finding], request: Request) -> Score:
    """Three voices at once: early, middle and late layers.

    Args:
        run: The run.
        findings: What `diagnose` found; it is heard.
        request: How it is to be heard.

    Raises:
        SetupError: if the metric cannot drive a voice.
    """
    return mixed(open_scene(run, findings, whole(request, "mix"), thirds))


def overview(run: Run, findings: Sequence[Finding], request: Request) -> Score:
    """As `mix`, and every excursion is marked at its exact step; arguments as there."""
    return overseen(open_scene(run, findings, whole(request, "overview"), thirds))


def mixed(scene: Scene) -> Score:
    """The score of `mix` of a scene of three groups."""
    return composed(scene, "mix", glides(scene, timbres_of(scene)))


def overseen(scene: Scene) -> Score:
    """The score of `overview` of a scene of three groups."""
    return composed(
        scene,
        "overview",
        glides(scene, timbres_of(scene)),
        excursions(scene.metric, scene.tracks, scene.steps, scene.times),
    )


def solo(run: Run, findings: Sequence[Finding], request: Request) -> Score:
    """One layer alone, in the centre; arguments as those of `mix`.

    Raises:
        SetupError: if no path is asked for, or one that is not recorded.
    """
    path = request.path
    if path is None:
        raise SetupError(
            "Expected `path` to name the layer that is heard alone, but got none. Write path='conv1.weight', "
            "or in a shell --path conv1.weight."
        )
    scene = open_scene(run, findings, request, lambda paths: [Group(path, paths)])
    return composed(scene, "solo", glides(scene, ("hollow",)))


def thirds(paths: tuple[str, ...]) -> list[Group]:
    """Early, middle and late paths; two are early and late, a single one is in the middle."""
    first, second = round(len(paths) / 3), round(2 * len(paths) / 3)
    parts = (paths[:first], paths[first:second], paths[second:])
    return [Group(name, part, pan) for (name, _, pan), part in zip(VOICES, parts)]


def timbres_of(scene: Scene) -> tuple[Timbre, ...]:
    """The timbre of each group; one that is alone has that of the middle layers."""
    return TIMBRES if len(scene.groups) > 1 else TIMBRES[1:2]


def composed(scene: Scene, mode: str, voices: tuple[Voice, ...], more: Sequence[SoundEvent] = ()) -> Score:
    """A score of a scene: the voices of its layers, those of its context, and the earcons of its events."""
    axis = scene.steps, scene.times
    events = spread(
        alarms(scene.metric, scene.tracks, *axis),
        [
            *notices(scene.findings, *axis),
            *standstills(scene.run, *axis),
            *more,
            *absences(scene.metric, [each.name for each in scene.groups], scene.tracks, *axis),
            *_notes(scene),
        ],
    )
    context = context_voices(scene.run, scene.request.context, *axis, scene.length)
    references = {group.name: value for group, value in zip(scene.groups, scene.references) if value is not None}
    mapped = _mapped(scene)
    return leveled(
        Score(
            title=scene.run.info.name,
            mapping="vitals",
            mode=mode,
            metric=scene.metric,
            duration=max(scene.length, end_of(events)),
            voices=(*voices, *context, *earcon_voices(events)),
            events=events,
            step_times=scene.times[mapped],
            steps=scene.steps[mapped],
            references=references,
        )
    )


def _mapped(scene: Scene) -> NDArray[np.int64]:
    """Positions of the steps that the score's map holds: where frames begin, and in place of the last the last step."""
    begins = scene.edges[:-1]
    return np.unique([*begins[: max(1, len(begins) - 1)], *range(len(scene.steps))[-1:]]).astype(np.int64)


def _notes(scene: Scene) -> list[SoundEvent]:
    """What is asked for, or usual, and cannot be heard because it was not recorded."""
    wanted = scene.request.metric or "grad_norm"
    said = [f"nothing is heard of {name}: it was not recorded" for name in unrecorded(scene.run, scene.request.context)]
    if scene.metric != wanted:
        said.append(f"no {wanted} was recorded: the pitch is that of the {scene.metric}")
    elif not any(group.paths for group in scene.groups):
        said.append(f"no {wanted} was recorded: nothing has a pitch")
    return [SoundEvent(0.0, "missing", text, int(scene.steps[0])) for text in said if len(scene.steps)]


def whole(request: Request, mode: str) -> Request:
    """The request, of a mode that sounds the whole model.

    Raises:
        SetupError: if it asks for one path.
    """
    if request.path is not None:
        raise SetupError(
            f"Expected no `path` for the mode {mode}, which sounds the whole model, but got {request.path!r}. "
            "Write mode='solo', or in a shell --mode solo."
        )
    return request
