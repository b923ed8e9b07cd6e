"""Playback: a score on the sound device of this machine, from any step on, and what is heard told while it is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import SetupError
from auscult.core.score import Score, SoundEvent
from auscult.sound.speaker import Speaker
from auscult.sound.synth import Synth
from auscult.sound.tempo import at_speed

BLOCK = 4096  # frames made at a time
FADE = 0.02  # seconds in which a sound begins that does not begin at its beginning


@dataclass(frozen=True, slots=True)
class Moment:
    """What is heard now.

    Attributes:
        seconds: Since the beginning of the score.
        step: The step, None where the score has none.
        events: What has begun since the moment before.
    """

    seconds: float
    step: int | None
    events: tuple[SoundEvent, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How playing went.

    Attributes:
        seconds: How long it was heard.
        missing: Seconds of silence because sound was not made in time.
        longest: The longest time between two questions of the device, seconds.
        buffer: Seconds of sound that the device holds: what `longest` has to stay below.
    """

    seconds: float
    missing: float
    longest: float
    buffer: float


def play_score(
    score: Score,
    speaker: Speaker,
    *,
    speed: float = 1.0,
    start: int | None = None,
    on_moment: Callable[[Moment], None] = lambda _: None,
) -> Delivery:
    """Play a score; returns as soon as the device has all of it.

    Args:
        score: The score.
        speaker: Where it is heard, behind what was handed over before.
        speed: Seconds of the score per second; pitch stays.
        start: The step to begin with; None for the first.
        on_moment: Called several times a second with what is heard.

    Raises:
        NoDevice: if the sound device goes away.
        SetupError: if the speed or the step cannot be.
    """
    played = at_speed(score, speed)
    first = round(begin_of(played, start) * speaker.sample_rate)
    synth = Synth(played, speaker.sample_rate)
    teller = _Teller(played, first, speaker, on_moment)
    for block in _faded(synth.blocks(BLOCK, first), speaker.sample_rate if first > 0 else 0):
        speaker.play(block)
        teller.tell()
    speaker.finish(teller.tell)
    teller.tell_rest()
    return delivery_of(speaker)


def begin_of(score: Score, start: int | None) -> float:
    """Seconds at which a step is heard.

    Raises:
        SetupError: if the step lies behind the last that is heard.
    """
    if start is None or not len(score.steps):
        return 0.0
    if start > score.steps[-1]:
        raise SetupError(
            f"Expected a step to begin with up to {score.steps[-1]:,}, but got {start:,}. The run has no more."
        )
    return float(np.interp(start, score.steps, score.step_times))


def delivery_of(speaker: Speaker) -> Delivery:
    """How a speaker was served."""
    rate = speaker.sample_rate
    return Delivery(speaker.delivered / rate, speaker.missing / rate, speaker.longest, speaker.buffer)


class _Teller:
    """Tells what is heard, each event once."""

    def __init__(self, score: Score, first: int, speaker: Speaker, on_moment: Callable[[Moment], None]) -> None:
        self._score = score
        self._first = first - speaker.handed
        self._speaker = speaker
        self._on_moment = on_moment
        self._events = [each for each in score.events if each.time * speaker.sample_rate >= first]

    def tell(self) -> None:
        """Tell what is heard by now."""
        self._tell((self._first + self._speaker.heard) / self._speaker.sample_rate)

    def tell_rest(self) -> None:
        """Tell what is left, which the device already has."""
        self._tell(self._score.duration)

    def _tell(self, seconds: float) -> None:
        if seconds < 0:  # what was handed over before is still heard
            return
        due = [each for each in self._events if each.time <= seconds]
        self._events = self._events[len(due) :]
        score = self._score
        step = int(np.interp(seconds, score.step_times, score.steps)) if len(score.steps) else None
        self._on_moment(Moment(seconds, step, tuple(due)))


def _faded(blocks: Iterator[NDArray[np.float32]], sample_rate: int) -> Iterator[NDArray[np.float32]]:
    """The blocks, the first of them from silence; as they are with a sample rate of 0."""
    for number, block in enumerate(blocks):
        if sample_rate and number == 0:
            ramp = np.minimum(np.arange(len(block)) / (FADE * sample_rate), 1.0).astype(np.float32)
            block = block * ramp[:, None]
        yield block
