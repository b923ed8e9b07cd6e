"""Earcons: short sounds with one fixed meaning each, as samples.

Knows neither scores nor loudness targets. Pulses have raised-cosine ramps of 5 ms, so none of them clicks.
"""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from auscult.core.score import SoundEvent

RAMP = 0.005  # seconds


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
    rest: float


@dataclass(frozen=True, slots=True)
class Earcon:
    """A sequence of pulses.

    Attributes:
        pulses: In order.
        partials: Number of harmonics including the fundamental; the k-th has 1/sqrt(k) of its amplitude.
        level: Root mean square while a pulse sounds; a bed of three voices has about 0.3.
    """

    pulses: tuple[Pulse, ...]
    partials: int
    level: float

    @property
    def duration(self) -> float:
        """Seconds from the first pulse to the end of the last, without the rest after it."""
        return sum(pulse.seconds + pulse.rest for pulse in self.pulses) - self.pulses[-1].rest


_ALARM = Pulse(440.0, 0.15, 0.05)
EARCONS = MappingProxyType(
    {
        "nan": Earcon((_ALARM, _ALARM, Pulse(440.0, 0.15, 0.2), _ALARM, _ALARM), partials=6, level=0.6),
        "warning": Earcon((Pulse(587.33, 0.11, 0.02), Pulse(783.99, 0.15, 0.0)), partials=2, level=0.4),
        "critical": Earcon(
            (Pulse(1174.66, 0.07, 0.025), Pulse(880.0, 0.07, 0.025), Pulse(659.26, 0.09, 0.0)), partials=4, level=0.5
        ),
        "tick": Earcon((Pulse(1567.98, 0.02, 0.0),), partials=1, level=0.15),
    }
)
"""Name to earcon. A finding sounds as its severity."""


def earcon_of(event: SoundEvent) -> Earcon:
    """The earcon of an event; a finding of unknown severity sounds as a warning."""
    if event.kind == "finding":
        return EARCONS["critical" if event.severity == "critical" else "warning"]
    return EARCONS[event.kind]


def synthesize(earcon: Earcon, sample_rate: int) -> NDArray[np.float32]:
    """Samples `(frames,)` of an earcon, mono; partials at or above half the sample rate are left out."""
    samples = np.zeros(round(earcon.duration * sample_rate), np.float32)
    start = 0.0
    for pulse in earcon.pulses:
        first = round(start * sample_rate)
        count = min(round(pulse.seconds * sample_rate), len(samples) - first)
        samples[first : first + count] = earcon.level * _pulse(pulse.frequency, count, earcon.partials, sample_rate)
        start += pulse.seconds + pulse.rest
    return samples


def ramped(count: int, sample_rate: int) -> NDArray[np.float64]:
    """An envelope `(count,)` of 1 with raised-cosine ramps at both ends, 5 ms each or half of what there is."""
    length = min(round(RAMP * sample_rate), count // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(length) / max(length, 1))
    return np.concatenate([ramp, np.ones(count - 2 * length), ramp[::-1]])


def _pulse(frequency: float, count: int, partials: int, sample_rate: int) -> NDArray[np.float64]:
    """A pulse with root mean square 1 before its ramps."""
    audible = [k for k in range(1, partials + 1) if k * frequency < sample_rate / 2]
    angle = 2 * np.pi * frequency / sample_rate * np.arange(count)
    total = sum((np.sin(k * angle) / np.sqrt(k) for k in audible), np.zeros(count))
    power = sum(0.5 / k for k in audible) or 1.0
    return total / np.sqrt(power) * ramped(count, sample_rate)
