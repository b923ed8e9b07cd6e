"""Notes: the modes in which layers or steps sound one after the other, as separate tones."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.core.score import Score, Timbre, Voice
from auscult.sound.frames import Track
from auscult.sound.glide import LEVEL, ZERO_LEVEL, heartbeat
from auscult.sound.intervals import intervals_of, joined
from auscult.sound.request import Request
from auscult.sound.scales import LOWEST, equal_loudness, frequency_of, quantized
from auscult.sound.scene import Group, Scene, open_scene
from auscult.sound.vitals import TIMBRES, composed, thirds, timbres_of, whole

NOTE = 0.08  # seconds of a note of a sweep
REST = 0.24  # seconds between two sweeps
MOST_NOTES = 12  # of a sweep
SIDE = 0.8  # pan of the first and the last note
SWEEP_LEVEL = 1.6  # one note at a time may be louder than one voice of three

STEP, GAP = 0.25, 0.02  # seconds from one step to the next, and of silence in it
LONGEST = 600.0  # seconds of step mode, unless asked for more


def arpeggio(run: Run, findings: Sequence[Finding], request: Request) -> Score:
    """Layers one after the other, early to late, left to right, again and again; arguments as those of `mix`.

    Where an explosion comes from is heard as a direction: which notes leave the line first.
    """
    scene = open_scene(run, findings, whole(request, "arpeggio"), _portions, frames_of=_sweeps)
    starts = scene.begins[:-1]
    voices: list[Voice] = []
    for index, (group, track, distance) in enumerate(zip(scene.groups, scene.tracks, scene.distances)):
        timbre = TIMBRES[(2 * index + 1) * len(TIMBRES) // (2 * len(scene.groups))]
        times = starts + index * NOTE
        voices += _tones(scene, group, track, distance, times, np.full(len(times), NOTE), timbre, SWEEP_LEVEL)
    return composed(scene, "arpeggio", (*voices, *_heart(scene)))


def step_by_step(run: Run, findings: Sequence[Finding], request: Request) -> Score:
    """Each step as a chord of early, middle and late layers, with silence between; arguments as those of `mix`."""
    scene = open_scene(
        run,
        findings,
        _fitting(run, whole(request, "step")),
        thirds,
        length_of=lambda steps: STEP * max(steps, 1),
        frames_of=lambda steps, _length, _groups: np.arange(steps + 1),
    )
    starts, lengths = scene.begins[:-1], np.diff(scene.begins)
    sounding = np.maximum(lengths - np.minimum(GAP, lengths / 2), 0.0)
    voices: list[Voice] = []
    for group, track, distance, timbre in zip(scene.groups, scene.tracks, scene.distances, timbres_of(scene)):
        voices += _tones(scene, group, track, distance, starts, sounding, timbre, 1.0)
    return composed(scene, "step", (*voices, *_heart(scene)))


def _portions(paths: tuple[str, ...]) -> list[Group]:
    """At most twelve groups of neighbouring layers, spread from left to right."""
    count = min(len(paths), MOST_NOTES)
    bounds = [len(paths) * index // max(count, 1) for index in range(count + 1)]
    groups: list[Group] = []
    for index, (start, stop) in enumerate(pairwise(bounds)):
        name = paths[start] if stop - start == 1 else f"{paths[start]} to {paths[stop - 1]}"
        pan = SIDE * (2 * index / (count - 1) - 1) if count > 1 else 0.0
        groups.append(Group(name, paths[start:stop], pan))
    return groups


def _sweeps(steps: int, length: float, notes: int) -> NDArray[np.int64]:
    """Edges of one frame for each sweep that fits into the length."""
    sweeps = min(steps, max(1, int(length / (max(notes, 1) * NOTE + REST))))
    return np.arange(sweeps + 1) * steps // max(sweeps, 1)


def _fitting(run: Run, request: Request) -> Request:
    """The request for as many steps as fit, from the first on."""
    first, last = request.steps or (0, np.iinfo(np.int64).max)
    steps = run.steps
    steps = steps[(steps >= first) & (steps <= last)]
    fitting = max(1, int((LONGEST if request.seconds is None else request.seconds) / STEP + 1e-9))
    if fitting < len(steps):
        if request.seconds is None:
            warnings.warn(
                f"The mode step lasts {len(steps) * STEP:.0f} s for {len(steps)} steps; only the first {fitting} are "
                "heard. Choose others with `steps=(first, last)`, or hear all of them with mode='overview'.",
                stacklevel=5,
            )
        last = int(steps[fitting - 1])
    return replace(request, steps=(first, last), seconds=None)


def _tones(
    scene: Scene,
    group: Group,
    track: Track,
    distance: NDArray[np.float64],
    starts: NDArray[np.float64],
    lengths: NDArray[np.float64],
    timbre: Timbre,
    strength: float,
) -> list[Voice]:
    """A group's tone in each frame, and in a voice of its own the low one where it is exactly zero."""
    first = scene.edges[:-1]
    broken, zero, missing = (
        np.logical_or.reduceat(mask, first) if len(first) else mask
        for mask in (track.broken > 0, track.zero, track.missing)
    )
    distance = _held(distance)
    heard = ~(np.isnan(distance) | broken | zero | missing)
    pitch = quantized(frequency_of(np.where(np.isnan(distance), 0.0, distance)), scene.request.scale)
    level = LEVEL * strength * equal_loudness(pitch)
    voices = [Voice(group.name, starts, pitch, np.where(heard, level, 0.0), lengths, timbre, group.pan)]
    fallen = zero & ~broken
    if fallen.any():
        count = int(fallen.sum())
        level = LEVEL * strength * ZERO_LEVEL * float(equal_loudness(LOWEST))
        voices.append(
            Voice(
                f"{group.name}, zero",
                starts[fallen],
                np.full(count, LOWEST),
                np.full(count, level),
                lengths[fallen],
                pan=group.pan,
            )
        )
    return voices


def _held(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances `(F,)` in which a frame that nothing was measured in has that of the last one before."""
    last = np.maximum.accumulate(np.where(np.isnan(distance), 0, np.arange(len(distance))))
    return distance[last]


def _heart(scene: Scene) -> tuple[Voice, ...]:
    stopped = [intervals_of(track.broken > 0, scene.times, scene.length) for track in scene.tracks]
    return heartbeat(joined([each for some in stopped for each in some]))
