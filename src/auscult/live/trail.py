"""Trail: what has become of a run since the last look: its new steps as places of voices, and what happened, in words.

Reads the run's files and nothing else. What it costs grows with what is new, not with the run.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from auscult.core.run import Run
from auscult.core.score import SoundEvent
from auscult.live.condition import Facts
from auscult.live.processes import is_held
from auscult.live.pulse import PulseTaker
from auscult.live.window import window
from auscult.sound.events import alarms, excursions
from auscult.sound.request import Request
from auscult.sound.scene import Scene, open_scene
from auscult.sound.vitals import thirds
from auscult.store.reader import load

PATIENCE = 10.0  # seconds without a step, and
PATIENCE_STEPS = 20.0  # times as long as a step usually takes: the run stands still
SURROUNDINGS = 8  # looks back that tell what is usual, so that an excursion is told from noise
REST = 4.0  # times as long as reading took nothing is read again: at most a fifth of a core
ENOUGH = 64  # rows after which a group's first fifty values are known, and its reference stays


@dataclass(frozen=True, slots=True)
class Place:
    """Where a group of layers is; None and False until something is known.

    Attributes:
        name: What it is called.
        distance: Decades above its reference.
        broken: Whether it is not finite.
        zero: Whether it is exactly 0.
        missing: Whether it is not observed.
    """

    name: str
    distance: float | None = None
    broken: bool = False
    zero: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What is new.

    Attributes:
        first: The first new step.
        last: The last step; before `first` where none is new.
        places: Of the groups, after the last step.
        events: What happened, in order; their times say nothing.
        waiting: Seconds since the last step came.
        usual: Seconds that a step usually takes.
        state: `training`, `stalled`, `crashed`, or `finished`, after which nothing more comes.
    """

    first: int
    last: int
    places: tuple[Place, ...]
    events: tuple[SoundEvent, ...]
    waiting: float
    usual: float
    state: str


class Trail:
    """Looks at a run again and again.

    Attributes:
        references: Of each group; from its first values on they stay.

    Args:
        path: Its directory.
        start: The first step that is new; None for the newest.
        metric: What drives the pitch; None as for `sonify`.
        with_excursions: Whether excursions are told.
    """

    def __init__(
        self, path: Path, start: int | None = None, metric: str | None = None, with_excursions: bool = False
    ) -> None:
        self.references: dict[str, float] = {}
        self._path = path
        self._request = Request(metric)
        self._excursions = with_excursions
        self._taker = PulseTaker(path)
        self._shape: object = None
        self._rested = 0.0  # when the run may be read again
        self._run = load(path)
        self._facts = Facts.of(self._run)
        self._next = max(0, self._facts.last_step) if start is None else start
        self._looks: list[int] = []  # the first step of each look that had some
        self._places: tuple[Place, ...] = ()
        self._segments, self._told = len(self._run.segments), len(self._run.findings)
        self._changed = time.monotonic() - max(0.0, time.time() - self._taker.take().written)
        self._quiet: str | None = None  # what was said of a run that writes nothing
        self._sought = -PATIENCE  # when its process was last looked for
        self._settled = False

    def look(self) -> Look:
        """What has come since the last look.

        Raises:
            StoreError: if the run cannot be read any more.
        """
        pulse, now = self._taker.take(), time.monotonic()
        events: list[SoundEvent] = []
        first = self._next
        if pulse.shape != self._shape and now >= self._rested:
            self._shape = pulse.shape
            self._run = load(self._path)
            self._facts = Facts.of(self._run)
            events += self._resumed()
            first = self._next
            if self._facts.last_step >= first:
                events += self._heard(first, self._facts.last_step)
                self._changed, self._quiet, self._next = now, None, self._facts.last_step + 1
            events += self._findings()
            self._rested = now + (1 + REST) * (time.monotonic() - now)
        waiting = now - self._changed
        usual = self._facts.pace(pulse.written)
        state = "finished" if self._facts.end is not None else self._state(waiting, usual)
        if state != "training" and state != self._quiet:
            self._quiet = state
            events.append(self._silence(state, waiting))
        return Look(first, self._next - 1, self._places, tuple(events), waiting, usual, state)

    def _heard(self, first: int, last: int) -> list[SoundEvent]:
        """Put the groups where they are after some new steps, and tell what is heard in these."""
        self._looks = [*[each for each in self._looks if each < first][-SURROUNDINGS:], first]
        self._settle()
        scene = self._scene(window(self._run, self._looks[0], last), self._looks)
        before = {each.name: each for each in self._places}
        places: list[Place] = []
        for group, track, distance in zip(scene.groups, scene.tracks, scene.distances):
            known = distance[-1] if len(distance) and np.isfinite(distance[-1]) else None
            place = before.get(group.name, Place(group.name))
            place = replace(place, distance=place.distance if known is None else float(known))
            if len(track.missing) and not track.missing[-1]:
                place = replace(place, broken=bool(track.broken[-1]), zero=bool(track.zero[-1]))
            places.append(place)
        self._places = tuple(places)
        times = np.arange(len(scene.steps), dtype=np.float64) * 10.0  # apart, so that none is counted in words
        broken = [each for each in alarms(scene.metric, scene.tracks, scene.steps, times) if each.step >= first]
        found = broken[:1]
        if self._excursions:
            strays = excursions(scene.metric, scene.tracks, scene.steps, times)
            found += [each for each in strays if each.step >= first]
        return found

    def _settle(self) -> None:
        """Keep the references, which are those of the whole run's beginning."""
        if not self._settled:
            self.references = {}
            scene = self._scene(self._run, [0])
            known = zip(scene.groups, scene.references)
            self.references = {group.name: value for group, value in known if value is not None}
            rows = [len(track.missing) - int(track.missing.sum()) for track in scene.tracks if track.paths]
            self._settled = bool(rows) and min(rows) >= ENOUGH

    def _scene(self, run: Run, begins: Sequence[int]) -> Scene:
        """A run with one frame from each of these steps on."""
        steps = run.steps
        edges = np.append(np.searchsorted(steps, begins), len(steps))
        request = replace(self._request, references=self.references)
        return open_scene(run, (), request, thirds, frames_of=lambda _steps, _length, _groups: edges)

    def _resumed(self) -> list[SoundEvent]:
        """After a resume the steps from its own first one on are new, those that it makes again too."""
        if len(self._run.segments) == self._segments:
            return []
        self._segments = len(self._run.segments)
        step = self._run.segments[-1].step
        self._next, self._places = min(self._next, step), ()
        self._told = min(self._told, len(self._run.findings))
        self._looks = []
        return [SoundEvent(0.0, "legend", "training was resumed", step)]

    def _findings(self) -> list[SoundEvent]:
        """The findings that the monitor has told since."""
        told = self._run.findings
        new, self._told = told[self._told :], len(told)
        return [SoundEvent(0.0, "finding", finding.summary, step, finding.severity) for step, finding in new]

    def _state(self, waiting: float, usual: float) -> str:
        if self._facts.waiting:
            return "stalled"
        if waiting <= max(PATIENCE, PATIENCE_STEPS * usual):
            return "training"
        now = time.monotonic()
        if self._quiet == "crashed" or now - self._sought < PATIENCE:
            return self._quiet or "stalled"
        self._sought = now
        return "crashed" if is_held(self._path, self._facts.host) is False else "stalled"

    def _silence(self, state: str, waiting: float) -> SoundEvent:
        last = self._facts.last_step
        if state == "finished":
            return SoundEvent(0.0, "legend", f"the run has ended: {self._facts.end}", last)
        if self._facts.waiting:
            text = f"training goes on without an update: {self._facts.waiting:,} passes since the last one"
        elif state == "crashed":
            text = f"no step for {waiting:.0f} s, and its process is gone; waiting for a resume, Ctrl-C ends"
        else:
            text = f"no step for {waiting:.0f} s"
        return SoundEvent(0.0, "stalled", text, last)
