"""Events: the moments of a run that are told in words, placed so that each earcon can be heard.

Knows nothing of pitch or samples; it needs the earcons' lengths only.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from auscult.core.finding import SEVERITIES, Finding
from auscult.core.naming import mentions_loss
from auscult.core.run import Run
from auscult.core.score import EventKind, SoundEvent
from auscult.sound.earcons import EARCONS, length_of, name_of
from auscult.sound.frames import WHOLE_MODEL, Track
from auscult.sound.intervals import stretches

SPACING = 0.3  # seconds between the beginnings of two events
AGAIN = 2.0  # seconds between two events of one kind and place; what happens again before that is counted in words
PATIENCE = 3.0  # seconds an earcon may come late; what would come later is counted in words
STALLED_SECONDS = 10.0  # between two updates, and
STALLED_FACTOR = 20.0  # times as many as usual: the run stood still

Steps = NDArray[np.int64]
Times = NDArray[np.float64]


def alarms(metric: str, tracks: Sequence[Track], steps: Steps, times: Times) -> list[SoundEvent]:
    """One event at the first step of each stretch in which something is not finite.

    Args:
        metric: What the tracks follow.
        tracks: Groups of parameters on the time axis of `steps`.
        steps: int64 `(N,)`.
        times: Seconds at which each step begins, float64 `(N,)`.
    """
    broken = sum((track.broken for track in tracks), np.zeros(len(steps), np.int64))
    starts = [start for start, _ in stretches(broken > 0)]
    return _told("nan", starts, steps, times, lambda at: _alarm_text(metric, tracks, at, int(broken[at])))


def absences(
    metric: str, groups: Sequence[str], tracks: Sequence[Track], steps: Steps, times: Times
) -> list[SoundEvent]:
    """An event where groups become exactly zero, and one where they are not observed any more."""
    zero = [track.zero for track in tracks]
    gone = [track.missing & (np.cumsum(~track.missing) > 0) for track in tracks]
    return [
        *_gathered("zero", groups, zero, steps, times, f"{subject(metric, 'GROUPS')} is exactly 0"),
        *_gathered("missing", groups, gone, steps, times, f"{subject(metric, 'GROUPS')} is not observed"),
    ]


def excursions(metric: str, tracks: Sequence[Track], steps: Steps, times: Times) -> list[SoundEvent]:
    """An event for the furthest excursion of each frame, at its exact step; it counts those so near that they blur."""
    found: dict[int, str] = {}
    for track in tracks:
        for at, who in zip(track.excursion.tolist(), track.stray.tolist()):
            if at >= 0:
                found.setdefault(at, f"{subject(metric, track.paths[who])} makes an excursion")
    apart = EARCONS["excursion"].duration
    events: list[SoundEvent] = []
    more = 0
    for at in sorted(found):
        if events and times[at] - events[-1].time < apart:
            more += 1
            events[-1] = _counting(events[-1], more)
            continue
        more = 0
        events.append(SoundEvent(float(times[at]), "excursion", found[at], int(steps[at])))
    return events


def subject(metric: str, place: str) -> str:
    """What an event is about: `grad_norm of conv1.weight`, of the whole model, or a loss by its own name."""
    if metric == "loss":
        return place if mentions_loss(place) else f"loss of {place}"
    return f"{metric} of {place or WHOLE_MODEL}"


def standstills(run: Run, steps: Steps, times: Times) -> list[SoundEvent]:
    """An event where no update was made for long: at the update that came at last, or at the end."""
    events: list[SoundEvent] = []
    series = run.series("step_time")
    waits = series.values
    if len(waits) > 1:
        long = waits >= max(STALLED_SECONDS, STALLED_FACTOR * float(np.nanmedian(waits)))
        for step, seconds in zip(series.steps[long].tolist(), waits[long].tolist()):
            if len(steps) and steps[0] <= step <= steps[-1]:
                text = f"the run stood still for {seconds:,.0f} s before this update"
                events.append(SoundEvent(time_of(step, steps, times), "stalled", text, step))
    still = run.standstill
    if still is not None and len(steps) and steps[0] <= still.step and not (run.steps > steps[-1]).any():
        text = f"training goes on without an update: {still.passes:,} passes since the last one"
        events.append(SoundEvent(time_of(still.step, steps, times), "stalled", text, still.step))
    return sorted(events, key=lambda event: event.time)


def notices(findings: Sequence[Finding], steps: Steps, times: Times) -> list[SoundEvent]:
    """An event for each finding at its onset, in time order; of those of one step the worst first."""
    noted = sorted(findings, key=lambda each: (each.step, -SEVERITIES.index(each.severity)))
    return [
        SoundEvent(time_of(each.step, steps, times), "finding", each.summary, each.step, each.severity)
        for each in noted
    ]


def spread(alarmed: Sequence[SoundEvent], others: Sequence[SoundEvent]) -> tuple[SoundEvent, ...]:
    """Alarms and excursions at their exact times, other earcons as soon after their own as no other is sounding.

    Args:
        alarmed: Alarms in time order.
        others: Other events; excursions and those without an earcon stay where they are.

    Returns:
        All events in time order. What would come more than 3 seconds late is counted in the text of the one before.
    """
    length = EARCONS["nan"].duration + 0.05
    placed: list[SoundEvent] = []
    free, more = 0.0, 0
    movable = [each for each in others if name_of(each) not in (None, "excursion")]
    for event in sorted(movable, key=lambda each: each.time):
        need = max(SPACING, length_of(event))
        time = max(event.time, free)
        for alarm in alarmed:
            if alarm.time - need < time < alarm.time + length:
                time = alarm.time + length
        if placed and time - event.time > PATIENCE:
            more += 1
            placed[-1] = _counting(placed[-1], more)
            continue
        more = 0
        free = time + need
        placed.append(replace(event, time=time))
    fixed = [each for each in others if name_of(each) in (None, "excursion")]
    return tuple(sorted((*alarmed, *placed, *fixed), key=lambda event: event.time))


def _counting(event: SoundEvent, more: int) -> SoundEvent:
    """The event with how many others it stands for in its text, in place of the number before."""
    return replace(event, text=f"{event.text.removesuffix(f' (and {more - 1} more)')} (and {more} more)")


def end_of(events: Sequence[SoundEvent]) -> float:
    """Seconds at which the last earcon has ended; 0 without events."""
    return max((event.time + length_of(event) for event in events), default=0.0)


def time_of(step: int, steps: Steps, times: Times) -> float:
    """Seconds at which a step, or the next one that is heard, begins; 0 where none is."""
    if len(steps) == 0:
        return 0.0
    return float(times[np.clip(np.searchsorted(steps, step), 0, len(steps) - 1)])


def _gathered(
    kind: EventKind, groups: Sequence[str], masks: Sequence[NDArray[np.bool_]], steps: Steps, times: Times, text: str
) -> list[SoundEvent]:
    """An event where a stretch begins for one or more groups, whose names replace GROUPS in the text."""
    begun: dict[int, list[str]] = {}
    for group, mask in zip(groups, masks):
        for start, _ in stretches(mask):
            begun.setdefault(start, []).append(group)
    return _told(kind, sorted(begun), steps, times, lambda at: text.replace("GROUPS", ", ".join(begun[at])))


def _told(
    kind: EventKind, starts: Sequence[int], steps: Steps, times: Times, text_of: Callable[[int], str]
) -> list[SoundEvent]:
    """An event at each of these positions; those within two seconds of the one before are counted in its text."""
    events: list[SoundEvent] = []
    repeats = 0
    for start in starts:
        if events and times[start] - events[-1].time < AGAIN:
            repeats += 1
            again = "once more" if repeats == 1 else f"{repeats} more times"
            text = events[-1].text.split("; again")[0]
            events[-1] = replace(events[-1], text=f"{text}; again {again} until step {steps[start]}")
            continue
        repeats = 0
        events.append(SoundEvent(float(times[start]), kind, text_of(start), int(steps[start])))
    return events


def _alarm_text(metric: str, tracks: Sequence[Track], step: int, broken: int) -> str:
    track = next(track for track in tracks if track.broken[step])
    path, value = track.paths[track.culprit[step]], track.culprit_value[step]
    others = {1: "", 2: ", and so is 1 other parameter"}.get(broken, f", and so are {broken - 1} other parameters")
    return f"{subject(metric, path)} is not finite ({value}){others}"
