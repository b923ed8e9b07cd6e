"""Events: the moments of a run that have an earcon and a sentence, placed so that each can be heard.

Knows nothing of pitch or samples; it needs the earcons' lengths only.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from auscult.core.finding import Finding
from auscult.core.score import SoundEvent
from auscult.sound.earcons import EARCONS, earcon_of
from auscult.sound.frames import Track

SPACING = 0.3  # seconds between the beginnings of two events
ALARM_SPACING = 2.0  # seconds between two alarms; what breaks again before that is counted in words
PATIENCE = 3.0  # seconds an earcon may come late; what would come later is counted in words


def stretches(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Maximal runs of True as (start, stop)."""
    changes = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0)).tolist()
    return list(zip(changes[::2], changes[1::2]))


def alarms(
    metric: str, tracks: Sequence[Track], steps: NDArray[np.int64], times: NDArray[np.float64]
) -> list[SoundEvent]:
    """One event at the first step of each stretch in which something is not finite.

    Args:
        metric: What the tracks follow.
        tracks: Groups of parameters on the time axis of `steps`.
        steps: int64 `(N,)`.
        times: Seconds at which each step begins, float64 `(N,)`.
    """
    broken = sum((track.broken for track in tracks), np.zeros(len(steps), np.int64))
    events: list[SoundEvent] = []
    repeats = 0
    for start, _ in stretches(broken > 0):
        if events and times[start] - events[-1].time < ALARM_SPACING:
            repeats += 1
            again = "once more" if repeats == 1 else f"{repeats} more times"
            text = events[-1].text.split("; again")[0]
            events[-1] = replace(events[-1], text=f"{text}; again {again} until step {steps[start]}")
            continue
        repeats = 0
        text = _alarm_text(metric, tracks, start, int(broken[start]))
        events.append(SoundEvent(float(times[start]), "nan", text, int(steps[start])))
    return events


def notices(findings: Sequence[Finding], steps: NDArray[np.int64], times: NDArray[np.float64]) -> list[SoundEvent]:
    """An event for each finding that is at least a warning, at its onset, in time order; earlier and worse first."""
    noted = sorted(
        (each for each in findings if each.severity != "info"), key=lambda each: (each.step, each.severity == "warning")
    )
    return [
        SoundEvent(_time_of(each.step, steps, times), "finding", each.summary, each.step, each.severity)
        for each in noted
    ]


def spread(alarmed: Sequence[SoundEvent], noticed: Sequence[SoundEvent]) -> tuple[SoundEvent, ...]:
    """Alarms at their exact times, other events as soon after their own as no other is sounding.

    Args:
        alarmed: Alarms in time order.
        noticed: Other events in time order.

    Returns:
        All events in time order. What would come more than 3 seconds late is counted in the text of the one before.
    """
    length = EARCONS["nan"].duration + 0.05
    placed: list[SoundEvent] = []
    free, more = 0.0, 0
    for event in noticed:
        need = max(SPACING, earcon_of(event).duration)
        time = max(event.time, free)
        for alarm in alarmed:
            if alarm.time - need < time < alarm.time + length:
                time = alarm.time + length
        if placed and time - event.time > PATIENCE:
            more += 1
            text = placed[-1].text.split(" (and ")[0] if more > 1 else placed[-1].text
            placed[-1] = replace(placed[-1], text=f"{text} (and {more} more)")
            continue
        more = 0
        free = time + need
        placed.append(replace(event, time=time))
    return tuple(sorted((*alarmed, *placed), key=lambda event: event.time))


def end_of(events: Sequence[SoundEvent]) -> float:
    """Seconds at which the last earcon has ended; 0 without events."""
    return max((event.time + earcon_of(event).duration for event in events), default=0.0)


def _alarm_text(metric: str, tracks: Sequence[Track], step: int, broken: int) -> str:
    track = next(track for track in tracks if track.broken[step])
    path, value = track.paths[track.culprit[step]], track.culprit_value[step]
    others = {1: "", 2: ", and so is 1 other parameter"}.get(broken, f", and so are {broken - 1} other parameters")
    return f"{metric} of {path} is not finite ({value}){others}"


def _time_of(step: int, steps: NDArray[np.int64], times: NDArray[np.float64]) -> float:
    if len(steps) == 0:
        return 0.0
    return float(times[np.clip(np.searchsorted(steps, step), 0, len(steps) - 1)])
