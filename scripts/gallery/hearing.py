"""Hearing: the sound of a run as a small file, and in words what a listener hears."""

from collections import Counter
from io import BytesIO

import numpy as np
import soundfile

import auscult
from auscult.core.run import Run
from auscult.core.score import Score, Voice
from auscult.pages.wording import listed
from auscult.sound.earcons import name_of
from auscult.sound.scales import CENTRE, LOWEST

SECONDS = 12.0
COMPRESSION = 0.7  # of libsndfile: 0 is largest, 1 smallest
SAMPLE_RATE = 32_000  # room for every partial, the highest of which is 12.6 kHz
END = 0.1  # the share of the sound that counts as its end
NOTICEABLE, FAR = 0.25, 0.75  # octaves: what is more than near C5, what is worth saying of the way there
EARCONS = {
    "nan": ("five hard pulses", "not finite"),
    "critical": ("three falling notes", "a critical finding"),
    "warning": ("two rising notes", "a warning"),
    "info": ("a short note", "a remark"),
    "stalled": ("two falling low notes", "no update for long"),
}
ZERO, BROKEN = ", zero", "not finite"  # how the score names the voices of what is exactly zero, and of the heartbeat


def compose(run: Run) -> Score:
    """The run in twelve seconds; an earcon at the very end may add up to two."""
    return auscult.sonify(run, seconds=SECONDS)


def encode(score: Score) -> bytes:
    """The score as MP3, which every browser plays; the same score gives the same bytes."""
    audio = auscult.render(score, SAMPLE_RATE)
    file = BytesIO()
    soundfile.write(
        file, audio.samples, audio.sample_rate, format="MP3", subtype="MPEG_LAYER_III", compression_level=COMPRESSION
    )
    return file.getvalue()


def in_words(score: Score) -> str:
    """What is heard, from the score's own frequencies, amplitudes and events."""
    groups: dict[str, list[str]] = {}
    companions = {each.name: each for each in score.voices[3:]}
    for voice in score.voices[:3]:
        zero = companions.get(voice.name + ZERO)
        if voice.name in score.references or zero is not None:
            fate = _fate(voice, zero, BROKEN in companions, score.duration * (1 - END))
            groups.setdefault(fate, []).append(voice.name.removesuffix(" layers"))
    said = [f"the {listed(names)} layers {fate}" for fate, names in groups.items()]
    return f"{_sentence('; '.join(said) or 'nothing but silence')} {_events(score)}"


def _fate(voice: Voice, zero: Voice | None, broken: bool, until: float) -> str:
    """What becomes of a voice; `zero` sounds in its place while it is 0, its end begins at `until` seconds."""
    if zero is not None and _sounds_after(zero, until):
        first = zero.times[zero.amplitudes > 0][0]
        return f"turn into the hum at {LOWEST:.0f} Hz that means exactly 0, first at {first:.1f} s"
    if not _sounds_after(voice, until):
        return "break off, not finite, over a soft double beat" if broken else "fall silent"
    octaves = np.log2(voice.frequencies / CENTRE)
    heard = voice.amplitudes > 0
    end = float(np.median(octaves[heard & (voice.times >= until)]))
    furthest = int(np.argmax(np.where(heard, np.abs(octaves - end), -1.0)))
    if abs(octaves[furthest] - end) < FAR:
        return f"end {_distance(end)}"
    return f"go from {_distance(float(octaves[furthest]))} at {voice.times[furthest]:.1f} s to {_distance(end)}"


def _distance(octaves: float) -> str:
    if abs(octaves) < NOTICEABLE:
        return "near C5"
    return f"{abs(octaves):.1f} octaves {'above' if octaves > 0 else 'below'} C5"


def _events(score: Score) -> str:
    kinds = [name_of(each) for each in score.events]
    if not any(kinds):
        return "No alarm and no finding is heard."
    heard = []
    for kind, count in Counter(kind for kind in kinds if kind is not None).items():
        sound, meaning = EARCONS[kind]
        times = ", ".join(f"{each.time:.1f} s" for each, own in zip(score.events, kinds) if own == kind)
        heard.append(f"{sound} at {times} ({'each ' if count > 1 else ''}{meaning})")
    return _sentence("; ".join(heard))


def _sounds_after(voice: Voice, seconds: float) -> bool:
    return bool((voice.amplitudes[voice.times >= seconds] > 0).any())


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
