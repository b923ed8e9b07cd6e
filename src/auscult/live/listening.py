"""Listening: a run heard in a terminal. What happens is printed while it is heard; a run that goes on is followed.

Reads the run's files and nothing else, so that training neither knows nor waits.
"""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from auscult.core.errors import MissingExtra, NoDevice, SetupError
from auscult.live.conductor import beats
from auscult.live.keys import keys
from auscult.live.playback import Delivery, Moment, delivery_of, play_score
from auscult.live.trail import Trail
from auscult.pages.wording import shown_lines
from auscult.reading import sonify
from auscult.sound.speaker import Backend, Speaker
from auscult.store.reader import load

FOLLOWED = ("mix", "overview")  # the modes that need not know what comes
AHEAD, BUFFER = 0.1, 0.2  # seconds of a followed run that are made ahead and held by the device: a step is heard soon


def listen(
    path: Path,
    *,
    mapping: str = "vitals",
    mode: str = "mix",
    metric: str | None = None,
    layer: str | None = None,
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
        layer: The parameter or module that the mode `solo` plays.
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
    if following:
        _require_followed(mapping, mode, layer, speed)
    run = load(path, skip_damage=skip_damage)
    for each in run.damage:
        console.print(f"left out: {shown_lines(each)}", markup=False, highlight=False)
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        _open_speaker(path, backend, volume, following) as speaker,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        keys(lambda: speaker.pause(not speaker.paused)) as awake,
    ):
        bar = progress.add_task("composing", total=None)
        about = " (space pauses)" if awake else ""

        def on_moment(moment: Moment) -> None:
            progress.update(bar, description="" if moment.step is None else f"step {moment.step:,}{about}")
            for event in moment.events:
                line = f"step {event.step:,}: {event.line}" if event.step >= 0 else event.line
                progress.console.print(shown_lines(line), markup=False, highlight=False)

        if not following:
            score = sonify(run, mapping, mode, metric, path=layer)
            play_score(score, speaker, speed=speed, start=start, on_moment=on_moment)
        else:
            trail = Trail(path, start, metric, mode == "overview", skip_damage)
            for block, look in beats(trail, speaker.sample_rate):
                on_moment(Moment(0.0, look.last if look.last >= 0 else None, look.events))
                speaker.play(block)
            speaker.finish()
        return delivery_of(speaker)


def _require_followed(mapping: str, mode: str, layer: str | None, speed: float) -> None:
    if speed != 1:
        raise SetupError(f"Expected no `speed` for a run that is followed, which has its own, but got {speed!r}.")
    if mapping != "vitals" or mode not in FOLLOWED or layer is not None:
        asked = f"{mapping} in {mode}" if layer is None else f"{mapping} in {mode} of {layer!r}"
        raise SetupError(
            f"Expected a run that is followed to be heard as vitals in one of the modes {', '.join(FOLLOWED)}, but got "
            f"{asked}. What has been recorded is played in any mode without --follow."
        )


def _open_speaker(path: Path, backend: Backend, volume: float, following: bool) -> Speaker:
    try:
        if following:
            return Speaker(backend=backend, volume=volume, ahead=AHEAD, buffer=BUFFER)
        return Speaker(backend=backend, volume=volume)
    except (MissingExtra, NoDevice) as error:
        instead = f"A file or a page needs none: auscult sonify {path}, auscult report {path}."
        raise type(error)(f"{error} {instead}") from None
