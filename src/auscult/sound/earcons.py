"""Earcons: short sounds with one fixed meaning each, as tones of a voice.

Knows nothing of samples or of loudness targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from types import MappingProxyType

import numpy as np

from auscult.core.score import SoundEvent, Timbre, Voice


@dataclass(frozen=True, slots=True)
class Pulse:
    """One pulse of an earcon, and the silence after it.

    Attributes:
        frequency: Fundamental, Hz.
        seconds: How long it sounds.
        rest: Seconds of silence that follow.
    """

    frequency: float
    seconds: float
    rest: float = 0.0


@dataclass(frozen=True, slots=True)
class Earcon:
    """A sequence of pulses.

    Attributes:
        pulses: In order.
        timbre: Their partials.
        level: Root mean square while a pulse sounds; a bed of three voices has about 0.3.
        meaning: What it says, in words.
    """

    pulses: tuple[Pulse, ...]
    timbre: Timbre
    level: float
    meaning: str

    @property
    def duration(self) -> float:
        """Seconds from the first pulse to the end of the last, without the rest after it."""
        return sum(pulse.seconds + pulse.rest for pulse in self.pulses) - self.pulses[-1].rest


_ALARM = Pulse(440.0, 0.15, 0.05)
_SIGH = Pulse(233.08, 0.22, 0.03), Pulse(184.99, 0.4, 0.0)
EARCONS = MappingProxyType(
    {
        "nan": Earcon((_ALARM, _ALARM, Pulse(440.0, 0.15, 0.2), _ALARM, _ALARM), "alarm", 0.85, "NaN or infinity"),
        "stalled": Earcon(_SIGH, "reed", 0.45, "the run stands still: no update is made"),
        "critical": Earcon(
            (Pulse(1174.66, 0.07, 0.025), Pulse(880.0, 0.07, 0.025), Pulse(659.26, 0.09)),
            "reed",
            0.5,
            "a critical finding",
        ),
        "warning": Earcon((Pulse(587.33, 0.11, 0.02), Pulse(783.99, 0.15)), "pair", 0.4, "a warning"),
        "info": Earcon((Pulse(1396.91, 0.09),), "pair", 0.2, "a remark"),
        "excursion": Earcon((Pulse(1975.53, 0.03),), "sine", 0.2, "an excursion of a power of ten or more"),
    }
)
"""Name to earcon. A finding sounds as its severity."""


def name_of(event: SoundEvent) -> str | None:
    """The name of an event's earcon; None for what the voices themselves tell."""
    if event.kind == "finding":
        return event.severity if event.severity in ("critical", "info") else "warning"
    return event.kind if event.kind in EARCONS else None


def length_of(event: SoundEvent) -> float:
    """Seconds that an event's earcon lasts; 0 without one."""
    name = name_of(event)
    return 0.0 if name is None else EARCONS[name].duration


def earcon_voices(events: Sequence[SoundEvent]) -> tuple[Voice, ...]:
    """The earcons of events, one voice of tones for each kind that occurs."""
    named = [(name_of(event), event.time) for event in events]
    found = {name: [time for other, time in named if other == name] for name in EARCONS}
    return tuple(earcon_voice(name, times) for name, times in found.items() if times)


def earcon_voice(name: str, times: Sequence[float]) -> Voice:
    """One earcon, heard at some times, in seconds."""
    earcon = EARCONS[name]
    lengths = np.array([pulse.seconds for pulse in earcon.pulses])
    offsets = np.cumsum([0.0, *(pulse.seconds + pulse.rest for pulse in earcon.pulses[:-1])])
    starts = (np.asarray(times)[:, None] + offsets).ravel()
    pitches = np.array([pulse.frequency for pulse in earcon.pulses])
    return Voice(
        name=name,
        times=starts,
        frequencies=np.tile(pitches, len(times)),
        amplitudes=np.full(len(starts), earcon.level * sqrt(2)),
        durations=np.tile(lengths, len(times)),
        timbre=earcon.timbre,
        part="alerts",
    )
