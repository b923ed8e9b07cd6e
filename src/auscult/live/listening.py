"""Listening: a run heard in a terminal. What happens is printed while it is heard; a run that goes on is followed.

Reads the run's files and nothing else, so that training neither knows nor waits. A run that goes on is heard in clips:
once one has been heard, the steps that were written meanwhile are the next, on the same scale and at the same level.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from auscult.core.errors import MissingExtra, NoDevice, SetupError
from auscult.core.score import Score, SoundEvent
from auscult.live.playback import Delivery, Moment, delivery_of, play_score
from auscult.pages.wording import shown_lines
from auscult.reading import sonify
from auscult.sound.earcons import EARCONS, earcon_voice
from auscult.sound.speaker import Backend, Speaker
from auscult.store.reader import load

SHORTEST, LONGEST = 2.0, 10.0  # seconds of a clip; of more steps than fit, none is left out, they go by faster
GLANCE = 0.25  # seconds between two looks at a run that has nothing new
PATIENCE = 10.0  # seconds without a step after which that is heard


def listen(
    path: Path,
    *,
    mapping: str = "vitals",
    mode: str = "mix",
    metric: str | None = None,
    speed: float = 1.0,
    start: int | None = None,
    volume: float = 1.0,
    following: bool = False,
    skip_damage: bool = False,
    backend: Backend = "default",
    console: Console,
) -> Delivery:
    """Play a run on the sound device of this machine.

    Args:
        path: Its directory.
        mapping: As for `sonify`, and so are `mode` and `metric`.
        mode: See there.
        metric: See there.
        speed: Seconds of the sound per second; pitch stays. Not of a run that is followed.
        start: The step to begin with; None for the first, or for the newest of a run that is followed.
        volume: 0 to 1.
        following: Go on with what is written while it is heard, until the run is closed.
        skip_damage: As for `load`.
        backend: `null` for a device that nobody hears.
        console: Where events and the step are shown.

    Raises:
        MissingExtra: if miniaudio is not installed.
        NoDevice: if there is no sound device. Both say what works instead.
        SetupError: if something cannot be.
    """
    if following and speed != 1:
        raise SetupError(f"Expected no `speed` for a run that is followed, which has its own, but got {speed!r}.")
    run = load(path, skip_damage=skip_damage)
    for each in run.damage:
        console.print(f"left out: {shown_lines(each)}", markup=False, highlight=False)
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        _open_speaker(path, backend) as speaker,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task("composing", total=None)

        def on_moment(moment: Moment) -> None:
            progress.update(bar, description="" if moment.step is None else f"step {moment.step:,}")
            for event in moment.events:
                line = f"step {event.step:,}: {event.line}"
                progress.console.print(shown_lines(line), markup=False, highlight=False)

        if not following:
            score = sonify(run, mapping, mode, metric)
            play_score(score, speaker, speed=speed, start=start, volume=volume, on_moment=on_moment)
        else:
            begin = max(0, run.last_step) if start is None else start
            for clip in follow(path, begin, mapping, mode, metric):
                play_score(clip, speaker, volume=volume, on_moment=on_moment)
        return delivery_of(speaker)


def follow(
    path: Path, start: int, mapping: str = "vitals", mode: str = "mix", metric: str | None = None
) -> Iterator[Score]:
    """Clips of a run that goes on, until it is closed: each of the steps that have come since the one before.

    Waits where there are none. All are on the scale of the first and at its level; one tells when the run stands still.

    Args:
        path: Its directory.
        start: The step to begin with.
        mapping: As for `sonify`, and so are `mode` and `metric`.
        mode: See there.
        metric: See there.
    """
    first: Score | None = None
    changed = time.monotonic()
    stalled = False
    while True:
        run = load(path)
        now = time.monotonic()
        if run.last_step >= start:
            steps, seconds = (start, run.last_step), float(np.clip(now - changed, SHORTEST, LONGEST))
            references = first.references if first else None
            clip = sonify(run, mapping, mode, metric, seconds, steps=steps, references=references)
            first, start, changed, stalled = first or clip, run.last_step + 1, now, False
            yield replace(clip, gain=first.gain)
        elif run.finished:
            return
        elif now - changed > PATIENCE and not stalled:
            stalled = True
            yield _standstill(start - 1, first.gain if first else 1.0)
        else:
            time.sleep(GLANCE)


def _standstill(step: int, gain: float) -> Score:
    """What says that no step comes any more."""
    earcon = EARCONS["stalled"]
    event = SoundEvent(0.0, "stalled", f"no step for {PATIENCE:.0f} s", step)
    voice = earcon_voice("stalled", [0.0])
    return Score("", "vitals", earcon.duration, (voice,), (event,), np.zeros(1), np.array([step]), gain=gain)


def _open_speaker(path: Path, backend: Backend) -> Speaker:
    try:
        return Speaker(backend=backend)
    except (MissingExtra, NoDevice) as error:
        instead = f"A file or a page needs none: auscult sonify {path}, auscult report {path}."
        raise type(error)(f"{error} {instead}") from None
