"""Audio: sound itself, and the float WAV file it is kept in. NumPy and the standard library alone."""

import struct
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auscult.core.atomic import write_atomically
from auscult.core.errors import SetupError

IEEE_FLOAT = 3
LARGEST_WAV = 2**32 - 1024


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Sound.

    Attributes:
        samples: float32 `(frames, channels)`, finite, nominally within [-1, 1].
        sample_rate: Frames per second.
    """

    samples: NDArray[np.float32]
    sample_rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.dtype != np.float32:
            raise SetupError(
                f"Expected `samples` to be float32 of shape (frames, channels), but got {self.samples.dtype} of shape "
                f"{self.samples.shape}."
            )
        if not np.isfinite(self.samples).all():
            raise SetupError("Expected `samples` to be finite, but some are not; a player would turn them into noise.")

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.sample_rate

    def write(self, path: str | PathLike[str]) -> Path:
        """Write a WAV file of 32-bit IEEE floats (format tag 3); returns its path.

        Raises:
            SetupError: if the name does not end in `.wav`, the file cannot be written, or 4 GiB do not hold the sound.
        """
        target = Path(path)
        if target.suffix.lower() != ".wav":
            raise SetupError(f"Expected `path` to end in .wav, but got {str(target)!r}.")
        frames, channels = self.samples.shape
        if self.samples.nbytes > LARGEST_WAV:
            raise SetupError(
                f"Expected a sound of at most 4 GiB, which is all a WAV file holds, but got {self.duration:,.0f} s. "
                "Write sonify(run, seconds=60)."
            )
        data = np.ascontiguousarray(self.samples, "<f4").tobytes()
        layout = struct.pack(
            "<HHIIHHH", IEEE_FLOAT, channels, self.sample_rate, self.sample_rate * channels * 4, channels * 4, 32, 0
        )
        chunks = _chunk(b"fmt ", layout) + _chunk(b"fact", struct.pack("<I", frames)) + _chunk(b"data", data)
        write_atomically(target, _chunk(b"RIFF", b"WAVE" + chunks))
        return target


def _chunk(name: bytes, payload: bytes) -> bytes:
    return name + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)
