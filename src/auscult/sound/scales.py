"""Scales: from a measured value to a frequency or a rate.

Knows nothing of runs, voices or time. Bounds hold for every input, because an ear cannot look away.
"""

from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from auscult.core.errors import SetupError

Scale = Literal["continuous", "chromatic", "pentatonic"]

NOTES: MappingProxyType[Scale, tuple[int, ...]] = MappingProxyType(
    {"chromatic": tuple(range(12)), "pentatonic": (0, 2, 4, 7, 9)}
)
"""Scale to its notes, in semitones above C."""

HYSTERESIS = 30.0  # cents by which another note must be nearer before a voice leaves the one it is on

CONTOUR = (
    (100.0, 125.0, 160.0, 200.0, 250.0, 315.0, 400.0, 500.0, 630.0, 800.0, 1000.0, 1250.0, 1600.0, 2000.0, 2500.0),
    (18.65, 15.56, 12.47, 9.86, 7.53, 5.39, 3.45, 2.05, 0.81, -0.11, 0.0, 2.15, 3.19, -0.04, -2.74),
)
"""Hz, and dB above the level at 1 kHz that a sine needs there to be as loud: ISO 226:2003 at 60 phon."""

STRONGEST = 12.0  # dB that a low tone is raised at most

CENTRE = 523.25  # Hz, C5: where a value equal to its reference lies
OCTAVES = 2.0  # the furthest a value can go from the centre, either way
LOWEST = CENTRE / 2**OCTAVES  # 130.8 Hz
HIGHEST = CENTRE * 2**OCTAVES  # 2093 Hz

TREMOLO_FROM = 2.0  # decades from the reference at which the tremolo sets in
TREMOLO_SLOWEST = 4.0  # Hz
TREMOLO_FASTEST = 16.0  # Hz, still heard as separate beats


def decades(x: ArrayLike, ref: float) -> NDArray[np.float64]:
    """How many powers of ten a value lies above its reference: log10(x / ref), -inf at 0.

    Args:
        x: Values >= 0, any shape; infinity is allowed.
        ref: The reference, finite and > 0.

    Raises:
        SetupError: if a value is NaN or negative, or the reference is not finite and positive.
    """
    values = np.asarray(x, np.float64)
    if not (np.isfinite(ref) and ref > 0):
        raise SetupError(
            f"Expected `ref` to be finite and > 0, but got {ref!r}. Use the median of values known as good."
        )
    if not (values >= 0).all():
        raise SetupError(
            "Expected `x` to be >= 0, but some values are negative or NaN. NaN has no pitch; it is an event."
        )
    with np.errstate(divide="ignore"):
        return np.log10(values) - np.log10(ref)


def frequency_of(distance: ArrayLike) -> NDArray[np.float64]:
    """Hz at a distance in decades: 523.25 * 2**(2 * tanh(distance / 2)), from 130.8 to 2093 whatever the distance."""
    return CENTRE * 2.0 ** (OCTAVES * np.tanh(np.asarray(distance, np.float64) / 2.0))


def soft_log_frequency(x: ArrayLike, ref: float) -> NDArray[np.float64]:
    """The pitch of a value: an octave per decade near the reference, less and less beyond.

    523.25 * 2**(2 * tanh(log10(x / ref) / 2)) Hz. Always within 130.8 to 2093 Hz, and strictly increasing until float64
    runs out of digits some 30 decades from the reference.

    Args:
        x: Values >= 0, any shape; 0 gives the lowest and infinity the highest frequency.
        ref: The value that sounds as C5, finite and > 0.

    Returns:
        Hz, float64 of the shape of `x`.

    Raises:
        SetupError: as `decades` does.
    """
    return frequency_of(decades(x, ref))


def tremolo_rate(distance: ArrayLike) -> NDArray[np.float64]:
    """Hz at which a voice trembles: 0 within 2 decades of the reference, 4 at 2, 8 at 3, 16 from 4 decades on.

    Beyond 2 decades the pitch hardly moves any more; the tremolo says how far it has gone.

    Args:
        distance: Decades from the reference, either sign, any shape.
    """
    beyond = np.abs(np.asarray(distance, np.float64)) - TREMOLO_FROM
    rate = TREMOLO_SLOWEST * 2.0 ** np.clip(beyond, 0.0, np.log2(TREMOLO_FASTEST / TREMOLO_SLOWEST))
    return np.where(beyond >= 0, rate, 0.0)


def linear_frequency(x: ArrayLike, base: float = 200.0, slope: float = 100.0) -> NDArray[np.float64]:
    """Hz as base + slope * x, unbounded: the mapping of Perone (2019)."""
    return base + slope * np.asarray(x, np.float64)


def equal_loudness(frequency: ArrayLike) -> NDArray[np.float64]:
    """The factor on its amplitude that makes a tone as loud as one of 1 kHz; at most +12 dB.

    Source: ISO 226:2003, the contour of 60 phon, between its frequencies by log frequency.

    Args:
        frequency: Hz, any shape.
    """
    at, level = CONTOUR
    decibels = np.interp(np.log(np.asarray(frequency, np.float64)), np.log(at), level)
    return 10.0 ** (np.minimum(decibels, STRONGEST) / 20)


def quantized(frequencies: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """Each frequency of a line `(N,)` as the nearest note of a scale; a note is left only for one 30 cents nearer."""
    if scale == "continuous":
        return frequencies
    notes = np.array([12.0 * octave + note for octave in range(-3, 4) for note in NOTES[scale]])
    wanted = 12.0 * np.log2(frequencies / CENTRE)
    heard = np.empty(len(wanted))
    current = np.inf
    for index, pitch in enumerate(wanted.tolist()):
        nearest = float(notes[np.abs(notes - pitch).argmin()])
        if abs(current - pitch) - abs(nearest - pitch) > HYSTERESIS / 100:
            current = nearest
        heard[index] = current
    return CENTRE * 2.0 ** (heard / 12)
