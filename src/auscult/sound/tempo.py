"""Tempo: a score faster or slower. Pitch is data, so it stays."""

from dataclasses import replace

from auscult.core.errors import SetupError
from auscult.core.score import Score

SLOWEST, FASTEST = 0.1, 20.0


def at_speed(score: Score, speed: float) -> Score:
    """The same score in 1 / speed of the time.

    Args:
        score: The score.
        speed: Seconds of the score per second, 0.1 to 20.

    Raises:
        SetupError: if the speed is not within these bounds.
    """
    if not SLOWEST <= speed <= FASTEST:
        raise SetupError(f"Expected `speed` to be {SLOWEST} to {FASTEST:.0f}, but got {speed!r}. 1 is as composed.")
    return replace(
        score,
        duration=score.duration / speed,
        step_times=score.step_times / speed,
        events=tuple(replace(each, time=each.time / speed) for each in score.events),
        voices=tuple(
            replace(
                each, times=each.times / speed, durations=None if each.durations is None else each.durations / speed
            )
            for each in score.voices
        ),
    )
