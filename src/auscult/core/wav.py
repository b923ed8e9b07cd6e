"""WAV: sound as a RIFF file in memory, of 32-bit floats or 16-bit integers. NumPy and the standard library alone."""

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import SetupError

PCM, IEEE_FLOAT = 1, 3  # format tags
LARGEST = 2**32 - 1024  # bytes that a RIFF file can hold
INFO = {"title": b"INAM", "software": b"ISFT", "comment": b"ICMT"}
"""What is known of a sound, and the chunk of the INFO list that holds it."""


def wav_file(samples: NDArray[np.float32], sample_rate: int, bits: int, tags: Mapping[str, str] | None = None) -> bytes:
    """Sound as a WAV file.

    Args:
        samples: `(frames, channels)`, finite; what lies beyond [-1, 1] is clipped in 16 bits.
        sample_rate: Frames per second.
        bits: 32 for IEEE floats (format tag 3), bit for bit as they are; 16 for integers, rounded.
        tags: `title`, `software`, `comment`, written as UTF-8.

    Raises:
        SetupError: if 4 GiB do not hold the sound.
    """
    frames, channels = samples.shape
    size = bits // 8 * channels
    if frames * size > LARGEST:
        raise SetupError(
            f"Expected a sound of at most 4 GiB, which is all a WAV file holds, but got {frames / sample_rate:,.0f} s. "
            "Write sonify(run, seconds=60)."
        )
    listed = b"".join(_chunk(INFO[name], text.encode() + b"\0") for name, text in (tags or {}).items())
    about = _chunk(b"LIST", b"INFO" + listed) if listed else b""
    if bits == 32:
        layout = struct.pack("<HHIIHHH", IEEE_FLOAT, channels, sample_rate, sample_rate * size, size, 32, 0)
        head = _chunk(b"fmt ", layout) + _chunk(b"fact", struct.pack("<I", frames))
        data = np.ascontiguousarray(samples, "<f4").tobytes()
    else:
        head = _chunk(b"fmt ", struct.pack("<HHIIHH", PCM, channels, sample_rate, sample_rate * size, size, 16))
        data = np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    return _chunk(b"RIFF", b"WAVE" + head + about + _chunk(b"data", data))


def _chunk(name: bytes, payload: bytes) -> bytes:
    return name + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)
