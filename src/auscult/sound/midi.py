"""MIDI: a score as a standard MIDI file, one track for each voice. Needs the extra `midi`.

A gliding voice is a series of notes of the nearest semitone, bent to its exact pitch. Timbres are left to the player.
A bend and a pan are those of a channel, of which there are sixteen: voices share one where both are alike.
"""

import warnings
from collections.abc import Iterator, Sequence
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auscult.core.atomic import write_atomically
from auscult.core.errors import MissingExtra
from auscult.core.score import Score, Voice
from auscult.core.visible import shown_lines

TICKS = 1000  # a second: 500 for each beat of half a second
FRAME = 0.05  # seconds between two looks at a gliding voice
BEND = 8192 / 2  # units of pitch bend per semitone at the usual range of two semitones
CHANNELS = tuple(number for number in range(16) if number != 9)  # the tenth is for drums
LOUDEST = 0.6  # amplitude that becomes velocity 127
HIGHEST = 440.0 * 2 ** ((127 + 8191 / BEND - 69) / 12)  # Hz: the highest note bent up as far as it can be

Message = tuple[int, str, dict[str, int]]
"""Tick, kind, fields."""


def write_midi(score: Score, path: str | PathLike[str]) -> Path:
    """Write a score as a MIDI file; its events are markers. What is higher than MIDI's notes is held at the highest.

    Raises:
        MissingExtra: if mido is not installed.
        SetupError: if the file cannot be written.
    """
    mido = _mido()
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS // 2, charset="utf-8")
    words = mido.MidiTrack([mido.MetaMessage("track_name", name=shown_lines(score.title))])
    words.append(mido.MetaMessage("set_tempo", tempo=500_000))
    now = 0
    for event in score.events:
        at = round(event.time * TICKS)
        words.append(mido.MetaMessage("marker", text=f"step {event.step}: {event.line}", time=at - now))
        now = at
    file.tracks.append(words)
    _warn_of_heights(score.voices)
    for channel, voice in zip(_channels(score.voices), score.voices):
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=shown_lines(voice.name))])
        track.append(mido.Message("control_change", channel=channel, control=10, value=round(63.5 * (voice.pan + 1))))
        now = 0
        for at, kind, fields in sorted(_notes(voice), key=lambda each: each[0]):
            track.append(mido.Message(kind, channel=channel, time=at - now, **fields))
            now = at
        file.tracks.append(track)
    buffer = BytesIO()
    file.save(file=buffer)
    target = Path(path)
    write_atomically(target, buffer.getvalue())
    return target


def _channels(voices: Sequence[Voice]) -> list[int]:
    """A channel for each layer, which its hum of zero shares, and one for all earcons and one for all context.

    A layer and its hum never sound together and have one pan; those of the other two never bend and are in the centre.
    """
    keys = [each.name.removesuffix(", zero") if each.part == "layers" else (each.part,) for each in voices]
    order = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    return [CHANNELS[order[key] % len(CHANNELS)] for key in keys]


def _warn_of_heights(voices: Sequence[Voice]) -> None:
    high = sum(int(((each.frequencies > HIGHEST) & (each.amplitudes > 0)).sum()) for each in voices)
    if high:
        warnings.warn(
            f"{high:,} tones are higher than {HIGHEST:,.0f} Hz, which is all that MIDI can say; they are held there. "
            "A .wav file has them as they are.",
            stacklevel=3,
        )


def _notes(voice: Voice) -> Iterator[Message]:
    """The messages of a voice, those of one note in order."""
    if voice.durations is not None:
        pitches = _semitones(voice.frequencies)
        for start, length, pitch, level in zip(voice.times, voice.durations, pitches, voice.amplitudes):
            if level > 0:
                yield from _note(float(start), float(start + length), float(pitch), float(level))
    elif len(voice.times) > 1:
        at = np.arange(voice.times[0], voice.times[-1], FRAME)
        pitches = np.interp(at, voice.times, _semitones(voice.frequencies))
        levels = np.interp(at, voice.times, voice.amplitudes)
        yield from _glide(at, pitches, levels)


def _glide(at: NDArray[np.float64], pitches: NDArray[np.float64], levels: NDArray[np.float64]) -> Iterator[Message]:
    """A note for as long as a voice sounds and stays on one semitone, bent at each frame."""
    nearest = np.where(levels > 1e-4, np.minimum(np.round(pitches), 127), -1).astype(np.int64)
    starts = np.flatnonzero(np.diff(nearest, prepend=-2))
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(at)]):
        if nearest[start] >= 0:
            until = at[stop] if stop < len(at) else at[-1] + FRAME
            messages = _note(float(at[start]), float(until), float(pitches[start]), float(levels[start:stop].max()))
            yield from messages
            for frame in range(start + 1, stop):
                yield (
                    round(at[frame] * TICKS),
                    "pitchwheel",
                    {"pitch": _bend(float(pitches[frame]), int(nearest[start]))},
                )


def _note(start: float, stop: float, pitch: float, level: float) -> Iterator[Message]:
    note = min(127, round(pitch))
    velocity = min(127, max(1, round(127 * level / LOUDEST)))
    yield round(start * TICKS), "pitchwheel", {"pitch": _bend(pitch, note)}
    yield round(start * TICKS), "note_on", {"note": note, "velocity": velocity}
    yield round(stop * TICKS), "note_off", {"note": note, "velocity": 0}


def _bend(pitch: float, note: int) -> int:
    return max(-8192, min(8191, round((pitch - note) * BEND)))


def _semitones(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """MIDI note numbers, 69 at 440 Hz, up to the highest that can be bent to."""
    return 69 + 12 * np.log2(np.minimum(frequencies, HIGHEST) / 440.0)


def _mido() -> Any:
    try:
        import mido
    except ImportError as error:
        raise MissingExtra(
            f"Expected mido to be installed, which writes .mid, but it cannot be used ({error}). "
            "Install it: pip install 'auscult[midi]'."
        ) from None
    return mido
