"""Player: the controls of the sound, the scores it plays, and in words what is heard, as HTML and as data.

A page carries scores, not audio: numbers that `assets/sound.js` plays in the browser, at any speed and from anywhere,
in a few per cent of the size.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auscult.core.score import Score, Voice
from auscult.pages.tables import folded
from auscult.pages.wording import counted, shown, shown_lines

MAX_MOMENTS = 4000
SPEEDS = (0.5, 1, 2, 4, 8)
MODES = {
    ("vitals", "mix"): "Early, middle and late layers at once",
    ("vitals", "overview"): "The same, every excursion marked",
    ("vitals", "arpeggio"): "Layers one after the other, early to late",
    ("vitals", "solo"): "One layer alone",
    ("vitals", "step"): "Step by step",
    ("perone2019", "mix"): "As in 2019: 200 + 100 × norm Hz",
}
"""What a choice of sound is called."""


def sound_parts(scores: Sequence[Score], volume: float = 1.0) -> dict[str, str]:
    """The heading, the controls (which stay in sight while the page scrolls), and the text twin, as parts of a page.

    Args:
        scores: The ways in which the run can be heard; without one the page is silent.
        volume: What it begins with, 0 to 1.
    """
    if not scores:
        return {"sound": '<p class="quiet">No sound was made for this report.</p>'}
    intro = (
        '<p class="quiet">A line runs over every chart while it plays; a click on a chart moves it there. '
        "Escape silences it. Pitch says how far layers are from healthy, whatever the speed.</p>"
    )
    twins = "".join(_transcript(number, score) for number, score in enumerate(scores))
    return {
        "sound": intro,
        "player": _controls(scores, volume),
        "twin": f'<div class="twin" id="twin">{folded("What is heard, in words", twins)}</div>',
    }


def sound_data(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """The scores as `createPlayer` takes them, to as many digits as can be heard."""
    return [_data(score) for score in scores]


def _controls(scores: Sequence[Score], volume: float) -> str:
    speeds = "".join(f'<option value="{each}"{" selected" if each == 1 else ""}>{each}×</option>' for each in SPEEDS)
    modes = "".join(f'<option value="{number}">{_name(score)}</option>' for number, score in enumerate(scores))
    return (
        '<div class="player" id="player" role="group" aria-label="Sound of the run">'
        '<button type="button" id="stop">Stop</button><button type="button" id="play">Play</button>'
        '<input type="range" id="position" aria-label="Position" min="0" max="1000" value="0" step="1">'
        f'<label><span class="hint">Sound </span><select id="mode" aria-label="Sound">{modes}</select></label>'
        '<label><span class="hint">Hear </span><select id="heard" aria-label="What is heard">'
        '<option value="all">all</option><option value="alerts">alerts only</option></select></label>'
        f'<label><span class="hint">Speed </span><select id="speed" aria-label="Speed">{speeds}</select></label>'
        '<label><span class="hint">Volume </span><input type="range" id="volume" aria-label="Volume" min="0" max="100" '
        f'value="{round(100 * volume)}"></label>'
        '<button type="button" id="scale">Scale</button>'
        f'<output id="now" aria-live="off">{scores[0].duration:.1f} s</output></div>'
    )


def _name(score: Score) -> str:
    return escape(MODES.get((score.mapping, score.mode), shown(f"{score.mapping}, {score.mode}")))


def _transcript(number: int, score: Score) -> str:
    voices = ", ".join(shown(each.name) for each in score.voices if each.part == "layers")
    items = "".join(
        f'<li><button type="button" class="moment" data-time="{each.time:.3f}">{each.time:.1f} s</button> '
        f"<span>step {each.step:,}</span> {escape(shown_lines(each.text))}</li>"
        for each in score.events
    )
    listing = f'<ol class="transcript">{items}</ol>' if items else "<p>Nothing happens that has a sound of its own.</p>"
    return (
        f'<div class="words" data-sound="{number}"{" hidden" if number else ""}><p>Voices: {escape(voices or "none")}. '
        f"Length: {score.duration:.1f} s. {counted(len(score.events), 'event')}.</p>{listing}</div>"
    )


def _data(score: Score) -> dict[str, Any]:
    count = len(score.steps)
    kept = np.unique(np.linspace(0, count - 1, min(count, MAX_MOMENTS)).astype(int)) if count else np.empty(0, int)
    return {
        "mapping": score.mapping,
        "duration": score.duration,
        "channels": score.channels,
        "gain": score.gain,
        "times": _rounded(score.step_times[kept], 4),
        "steps": score.steps[kept].tolist(),
        "voices": [_voice(each) for each in score.voices],
        "events": [
            {"time": round(each.time, 4), "text": f"step {each.step:,}: {shown_lines(each.text)}"}
            for each in score.events
        ],
    }


def _voice(voice: Voice) -> dict[str, Any]:
    return {
        **voice.to_dict(),
        "name": shown(voice.name),
        "times": _rounded(voice.times, 6),
        "frequencies": _rounded(voice.frequencies, 3),
        "amplitudes": _rounded(voice.amplitudes, 5),
        "durations": None if voice.durations is None else _rounded(voice.durations, 5),
    }


def _rounded(values: NDArray[np.float64], digits: int) -> list[float]:
    """Values to some digits behind the point; a whole number without one."""
    return [int(each) if each == int(each) else each for each in np.round(values, digits).tolist()]
