"""Audio: sound itself, and the files that it is kept in, with what it says in words beside them."""

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auscult.core.atomic import write_atomically
from auscult.core.compressed import FORMATS, compressed_file
from auscult.core.errors import SetupError
from auscult.core.score import SUMMARY, Score
from auscult.core.version import __version__
from auscult.core.visible import shown_lines
from auscult.core.wav import wav_file

MOMENTS = 100  # of the map of steps at most; libsndfile reads no text of more than 2 KB from a WAV file


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Sound.

    Attributes:
        samples: float32 `(frames, channels)`, finite, nominally within [-1, 1].
        sample_rate: Frames per second.
        score: What it was rendered from; a file then carries the run's name and which step is heard when, and has a
            transcript and captions beside it.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    score: Score | None = None

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

    @property
    def tags(self) -> dict[str, str]:
        """What a file carries besides sound: `title`, `software`, and as JSON in `comment` which step is heard when."""
        if self.score is None:
            return {}
        count = len(self.score.steps)
        kept = np.unique(np.linspace(0, count - 1, min(count, MOMENTS)).astype(int)) if count else np.empty(0, int)
        about = {
            "mapping": self.score.mapping,
            "mode": self.score.mode,
            "metric": self.score.metric,
            "steps": self.score.steps[kept].tolist(),
            "step_times": np.round(self.score.step_times[kept], 3).tolist(),
        }
        return {
            "title": shown_lines(self.score.title),
            "software": f"auscult {__version__}",
            "comment": json.dumps(about, separators=(",", ":"), allow_nan=False),
        }

    def write(self, path: str | PathLike[str], bits: int = 32) -> Path:
        """Write a file, and beside it what is heard in words: a transcript (`.txt`) and captions (`.vtt`).

        Args:
            path: Ends in `.wav`; or with the extra `audio-files` in `.flac`, `.ogg`, `.opus` or `.mp3`.
            bits: 32 for a WAV file of IEEE floats, bit for bit; 16 for integers, half as large, which any player knows.

        Returns:
            The path.

        Raises:
            SetupError: if the name ends otherwise, the file cannot be written, or cannot hold the sound, or if another
                file is where the transcript goes.
            MissingExtra: if the format needs soundfile, which is not installed.
        """
        target = Path(path)
        ending = target.suffix.lower()
        if ending not in (".wav", *FORMATS):
            raise SetupError(f"Expected `path` to end in .wav, {', '.join(FORMATS)}, but got {str(target)!r}.")
        if bits not in (16, 32):
            raise SetupError(f"Expected `bits` to be 16 or 32, but got {bits!r}.")
        if self.score is not None:
            require_room(target)
        if ending == ".wav":
            data = wav_file(self.samples, self.sample_rate, bits, self.tags)
        else:
            data = compressed_file(self.samples, self.sample_rate, ending, bits, self.tags)
        write_atomically(target, data)
        if self.score is not None:
            write_words(self.score, target)
        return target


def require_room(path: Path) -> None:
    """Make sure that a transcript beside a file would replace nothing but an earlier one.

    Raises:
        SetupError: if something else is there, as a log of the training may be.
    """
    place = path.with_suffix(".txt")
    try:
        with place.open("rb") as file:
            begin = file.read(len(SUMMARY)).strip()
    except OSError:  # nothing there, or nothing that can be read: writing says so
        return
    if begin and begin != SUMMARY.strip().encode():
        raise SetupError(
            f"Expected {str(place)!r} to be free, or a transcript, which is written there, but it is another file. "
            "Nothing was written. Name the sound otherwise."
        )


def write_words(score: Score, path: Path) -> None:
    """Write what is heard in words beside a file: a transcript, with a summary on its first line, and captions."""
    lines = f"{score.summary}\n{score.transcript()}".rstrip("\n")
    write_atomically(path.with_suffix(".txt"), f"{lines}\n".encode())
    write_atomically(path.with_suffix(".vtt"), score.captions().encode())
