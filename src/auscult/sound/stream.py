"""Stream: sound without an end, made beat by beat while it is still open what comes next.

Every beat says where each voice is to be; the voices glide there, phase and all from where the beat before left them.
Earcons begin with a beat and go on as long as they last. Knows nothing of runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from auscult.core.score import Score, Timbre, Voice
from auscult.sound.earcons import EARCONS, earcon_voice
from auscult.sound.glide import HEARTBEAT, LEVEL, PULSE_FALL, PULSE_RISE, PULSES, TREMOLO_DEPTH, ZERO_LEVEL
from auscult.sound.intervals import RAMP
from auscult.sound.level import leveled
from auscult.sound.scales import CENTRE, LOWEST, equal_loudness, frequency_of, tremolo_rate
from auscult.sound.synth import HOP, Glide, Samples, Tones, mixed

BEAT = 0.1  # seconds, about
PARTS = 8  # of a beat, between which a voice is straight
MARGIN = 0.01  # seconds by which a line is longer than its beat at both ends, so that it does not fade there

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Aim:
    """Where a voice is at the end of a beat.

    Attributes:
        distance: Decades from the reference; None where it stays.
        level: 0 for silence to 1.
        zero: Whether the hum of zero is heard in its place.
    """

    distance: float | None = None
    level: float = 1.0
    zero: bool = False


@dataclass(frozen=True, slots=True)
class _State:
    """What a voice is doing between two beats: Hz, amplitude, cycles of its pitch, and of its tremolo with its rate."""

    frequency: float = CENTRE
    amplitude: float = 0.0
    cycles: float = 0.0
    turns: float = 0.0
    rate: float = 0.0


class Stream:
    """Voices and earcons as one sound without an end.

    Attributes:
        sample_rate: Frames per second.
        frames: Frames of a beat.
        made: Frames made so far.
        gain: By what the sum of the voices is multiplied: with it steady voices on C5 have -23 LUFS.

    Args:
        voices: Timbre and pan of each.
        sample_rate: Frames per second.
    """

    def __init__(self, voices: Sequence[tuple[Timbre, float]], sample_rate: int = 44_100) -> None:
        self.sample_rate = sample_rate
        self.frames = HOP * round(BEAT * sample_rate / HOP)
        self.made = 0
        self.gain = _gain(voices)
        self._voices = tuple(voices)
        self._pitches = [_State() for _ in voices]
        self._hums = [_State(frequency=LOWEST) for _ in voices]
        self._sounding: list[Tones | Glide] = []

    @property
    def seconds(self) -> float:
        """Seconds made so far."""
        return self.made / self.sample_rate

    @property
    def silent(self) -> bool:
        """Whether nothing sounds any more."""
        return not self._sounding and all(each.amplitude == 0 for each in (*self._pitches, *self._hums))

    def beat(self, aims: Sequence[Aim], earcons: Sequence[str] = (), heartbeat: bool = False) -> Samples:
        """The next frames, float32 `(frames, 2)`.

        Args:
            aims: Of each voice.
            earcons: Names of those that begin now; they follow each other.
            heartbeat: Whether the double beat of what is not finite begins now.
        """
        begin = self.seconds
        for name in earcons:
            self._sounding.append(Tones.of(earcon_voice(name, [begin]), self.sample_rate))
            begin += EARCONS[name].duration + 0.05
        if heartbeat:
            self._sounding.append(Glide.of(_double_beat(self.seconds), self.sample_rate))
        block = mixed(self._sounding, self.made, self.made + self.frames, 2, self.gain)
        lines: list[Glide] = []
        for number, ((timbre, pan), aim) in enumerate(zip(self._voices, aims)):
            silenced = replace(aim, level=0.0) if aim.zero else aim
            self._pitches[number] = self._moved(self._pitches[number], silenced, LEVEL, timbre, pan, lines)
            hum = Aim(None, aim.level if aim.zero else 0.0)
            self._hums[number] = self._moved(self._hums[number], hum, LEVEL * ZERO_LEVEL, "sine", pan, lines)
        block += mixed(lines, 0, self.frames, 2, self.gain)
        self.made += self.frames
        self._sounding = [each for each in self._sounding if self.made < _end(each)]
        return block

    def _moved(self, state: _State, aim: Aim, loudest: float, timbre: Timbre, pan: float, lines: list[Glide]) -> _State:
        """Add the line of a voice in this beat, if it is heard, and return what it does at its end."""
        seconds = self.frames / self.sample_rate
        at = np.linspace(0.0, seconds, PARTS + 1)
        wanted = state.frequency if aim.distance is None else float(frequency_of(aim.distance))
        if state.amplitude == 0.0:  # nobody hears it go there
            state = replace(state, frequency=wanted)
        frequency = state.frequency * (wanted / state.frequency) ** (at / seconds)
        rate = state.rate if aim.distance is None else float(tremolo_rate(aim.distance))
        turns = state.turns + at * rate
        trembling = 1 - (TREMOLO_DEPTH * (1 - np.abs(2 * (turns % 1.0) - 1)) if rate else 0.0)
        amplitude = aim.level * loudest * equal_loudness(frequency) * trembling
        after = _State(wanted, float(amplitude[-1]), 0.0, float(turns[-1] % 1.0) if rate else 0.5, rate)
        if state.amplitude == after.amplitude == 0.0:
            return after
        times = np.array([-MARGIN, 0.0, RAMP, *at[1:], seconds + MARGIN])
        pitch = np.interp(times, at, np.log(frequency))
        loud = np.array([state.amplitude, state.amplitude, float(np.interp(RAMP, at, amplitude)), *amplitude[1:]])
        voice = Voice("", times, np.exp(pitch), np.append(loud, loud[-1]), timbre=timbre, pan=pan)
        line = Glide.of(voice, self.sample_rate)
        line = replace(line, cycles=line.cycles - line.cycles[1] + state.cycles)
        lines.append(line)
        return replace(after, cycles=float(line.cycles[-2] % 2.0))  # the lowest partial may be half the pitch


def _gain(voices: Sequence[tuple[Timbre, float]]) -> float:
    """The gain at which these voices have -23 LUFS while they are steady on C5."""
    times, level = np.array([0.0, 4.0]), LEVEL * float(equal_loudness(CENTRE))
    steady = [Voice(t, times, np.full(2, CENTRE), np.full(2, level), timbre=t, pan=pan) for t, pan in voices]
    return leveled(Score("", "", 4.0, tuple(steady))).gain


def _double_beat(start: float) -> Voice:
    """The heartbeat of `glide`, once."""
    times, levels = [start], [0.0]
    for after, strength in PULSES:
        times += [start + after + 1e-3, start + after + PULSE_RISE, start + after + PULSE_RISE + PULSE_FALL]
        levels += [0.0, strength * HEARTBEAT[1], 0.0]
    return Voice("not finite", np.array(times), np.full(len(times), HEARTBEAT[0]), np.array(levels), part="alerts")


def _end(line: Tones | Glide) -> float:
    """The frame at which a line has ended."""
    voice = line.voice
    last = voice.times[-1] + (0.0 if voice.durations is None else voice.durations[-1])
    return float(last) * line.sample_rate + 1
