"""Legend: every sound with what it means, one after the other, as a score."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from auscult.core.score import Score, SoundEvent, Voice
from auscult.sound.context import CLICK, LR_RATE, LR_TICK, STROKE, clicks, pad
from auscult.sound.earcons import EARCONS, earcon_voice
from auscult.sound.glide import fallen, heartbeat, line
from auscult.sound.level import leveled

PAUSE = 0.6  # seconds of silence between two sounds


@dataclass(frozen=True, slots=True)
class Entry:
    """One sound: what it means, how many seconds it lasts, and its voices, from 0 seconds on."""

    meaning: str
    seconds: float
    voices: Callable[[], tuple[Voice, ...]]


def legend() -> Score:
    """All sounds of `vitals`; its events say what each one means."""
    voices: list[Voice] = []
    events: list[SoundEvent] = []
    start = PAUSE
    for number, entry in enumerate(ENTRIES):
        voices += [replace(voice, times=voice.times + start) for voice in entry.voices()]
        events.append(SoundEvent(start, "legend", entry.meaning, number))
        start += entry.seconds + PAUSE
    times = np.array([event.time for event in events])
    return leveled(
        Score(
            title="Legend of auscult",
            mapping="vitals",
            mode="legend",
            duration=start,
            voices=tuple(voices),
            events=tuple(events),
            step_times=times,
            steps=np.arange(len(times)),
        )
    )


def _glide(*decades: float, seconds: float = 2.0) -> tuple[Voice, ...]:
    """A layer that goes through these distances from its reference, at even times."""
    at = np.linspace(0.0, seconds, 81)
    distance = np.interp(at, np.linspace(0.0, seconds, len(decades)), decades)
    return (Voice("layers", *line(distance, at, [], seconds, "continuous"), timbre="hollow"),)


def _leap() -> tuple[Voice, ...]:
    at = np.arange(21) / 10
    voice = Voice("layers", *line(np.where(np.arange(21) == 10, 1.0, 0.0), at, [], 2.0, "continuous"), timbre="hollow")
    return (voice, earcon_voice("excursion", [1.0]))


def _alarm() -> tuple[Voice, ...]:
    return (earcon_voice("nan", [0.0]), *heartbeat([(0.0, 4.0)]))


def _zero() -> tuple[Voice, ...]:
    (voice,) = _glide(0.0, 0.0)
    return (fallen("layers, zero", [(0.0, 2.0)], voice, 2.0, 0.0),)


def _loss() -> tuple[Voice, ...]:
    grid = np.linspace(0.0, 3.0, 61)
    return pad(grid, np.linspace(1.0, 0.0, 61), 3.0)


def _ticks(*rates: float) -> tuple[Voice, ...]:
    at = np.concatenate([np.arange(0.0, 1.5, 1 / rate) + 1.5 * index for index, rate in enumerate(rates)])
    return clicks("learning rate", at, np.ones(len(at)), LR_TICK)


ENTRIES: tuple[Entry, ...] = (
    Entry("as at the beginning of the run, or as usual: C5", 2.0, lambda: _glide(0.0, 0.0)),
    Entry("grows to ten times as much", 2.0, lambda: _glide(0.0, 1.0)),
    Entry("shrinks to a tenth", 2.0, lambda: _glide(0.0, -1.0)),
    Entry("trembles: a hundred times, a thousand times, ten thousand times as much", 4.0,
          lambda: _glide(2.0, 3.0, 4.0, seconds=4.0)),
    Entry("an excursion of a power of ten, for a single step; the tick only in the mode overview", 2.0, _leap),
    Entry("NaN or infinity; the soft double beat: it is still not finite", 4.0, _alarm),
    Entry("exactly zero: nothing arrives there", 2.0, _zero),
    Entry("silence: not observed", 1.0, lambda: ()),
    *(
        Entry(EARCONS[name].meaning, EARCONS[name].duration, lambda name=name: (earcon_voice(name, [0.0]),))
        for name in ("stalled", "critical", "warning", "info")
    ),
    Entry("loss: bright where it is high, dull where it is low", 3.0, _loss),
    Entry("learning rate: twice as many ticks are more than twice the rate", 3.0,
          lambda: _ticks(LR_RATE, 2 * LR_RATE)),
    Entry("clipping: a click for each clipped step, at most ten a second", 2.0,
          lambda: clicks("clipping", np.array([0.0, 0.5, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5]), np.ones(8), CLICK)),
    Entry("an epoch or an evaluation begins", 1.0, lambda: clicks("epochs", np.array([0.0, 0.6]), np.ones(2), STROKE)),
)  # fmt: skip
"""What is heard, in order."""
