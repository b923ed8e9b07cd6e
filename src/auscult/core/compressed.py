"""Compressed: sound as FLAC, Ogg Vorbis, Opus or MP3 in memory, by libsndfile. Needs the extra `audio-files`."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import MissingExtra, SetupError

FORMATS = {
    ".flac": ("FLAC", "PCM_24"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
"""Ending of a name to format and subtype of libsndfile."""

OPUS_RATES = (8000, 12_000, 16_000, 24_000, 48_000)
CHUNK = 4096  # frames handed over at a time; libsndfile's Vorbis encoder overflows the stack where it gets them all


def compressed_file(
    samples: NDArray[np.float32], sample_rate: int, ending: str, bits: int, tags: Mapping[str, str]
) -> bytes:
    """Sound as a compressed file.

    Args:
        samples: `(frames, channels)`, finite.
        sample_rate: Frames per second; one of 8000, 12000, 16000, 24000, 48000 for Opus.
        ending: A key of `FORMATS`.
        bits: 16 for FLAC of 16 bits; otherwise it has 24.
        tags: `title`, `software`, `comment`.

    Raises:
        MissingExtra: if soundfile is not installed.
        SetupError: if Opus does not know the sample rate, or this libsndfile not the format.
    """
    soundfile = _soundfile(ending)
    if ending == ".opus" and sample_rate not in OPUS_RATES:
        raise SetupError(
            f"Expected a sample rate that Opus has, but got {sample_rate:,} Hz. Write render(score, 48_000)."
        )
    kind, subtype = FORMATS[ending]
    if not soundfile.check_format(kind, subtype):
        raise SetupError(
            f"Expected libsndfile to write {kind} ({subtype}), but {soundfile.__libsndfile_version__} does not. "
            "Install a newer soundfile, or write .flac or .wav."
        )
    if subtype == "PCM_24" and bits == 16:
        subtype = "PCM_16"
    buffer = BytesIO()
    with soundfile.SoundFile(buffer, "w", sample_rate, samples.shape[1], subtype, format=kind) as file:
        for name, text in tags.items():
            plain = text.encode("ascii", "backslashreplace").decode() if kind == "MP3" else text  # its tags are Latin-1
            setattr(file, name, plain)
        for start in range(0, len(samples), CHUNK):
            file.write(samples[start : start + CHUNK])
    return buffer.getvalue()


def _soundfile(ending: str) -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise MissingExtra(
            f"Expected soundfile to be installed, which writes {ending}, but it cannot be used ({error}). "
            "Install it: pip install 'auscult[audio-files]', or write .wav, which needs nothing."
        ) from None
    return soundfile
