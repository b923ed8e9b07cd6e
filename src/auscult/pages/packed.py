"""Packed: an array as text small enough for a page: little-endian numbers, deflated, in base64."""

import zlib
from base64 import b64encode

import numpy as np
from numpy.typing import NDArray

LEVEL = 1
KEPT_BITS = 11


def packed(values: NDArray[np.int16] | NDArray[np.float32]) -> str:
    """An array, row after row; `unpack` in `assets/packed.js` reads it back."""
    plain = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return b64encode(zlib.compress(plain.tobytes(), LEVEL)).decode("ascii")


def shortened(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """As float32 with 11 bits of fraction, rounded: three significant digits, which deflate to half their size.

    Sign, zero and NaN stay; numbers beyond float32 become infinite.
    """
    with np.errstate(over="ignore"):
        bits = values.astype(np.float32).view(np.uint32)
    dropped = np.uint32(23 - KEPT_BITS)
    half = np.uint32(1) << (dropped - np.uint32(1))
    exact = ~np.isfinite(values) | (bits & np.uint32(0x7FFFFFFF) > np.uint32(0x7F7FE000))
    rounded = ((bits + half) >> dropped) << dropped
    return np.where(exact, bits, rounded).astype(np.uint32).view(np.float32)
