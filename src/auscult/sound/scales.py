"""Scales: from a measured value to a frequency or a rate.

Knows nothing of runs, voices or time. Bounds hold for every input, because an ear cannot look away.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from auscult.core.errors import SetupError

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
