"""Files: a score as a file of any kind, by the ending of its name."""

import json
from os import PathLike
from pathlib import Path

from auscult.core.atomic import write_atomically
from auscult.core.compressed import FORMATS
from auscult.core.errors import SetupError
from auscult.core.score import Score
from auscult.sound.midi import write_midi
from auscult.sound.synth import render

SAMPLE_RATES = {".opus": 48_000}
SAMPLE_RATE = 44_100


def write_score(score: Score, path: str | PathLike[str], bits: int = 32) -> Path:
    """Write a score: as sound (`.wav`, `.flac`, `.ogg`, `.opus`, `.mp3`), as notes (`.mid`), or itself (`.json`).

    Args:
        score: The score.
        path: Its ending decides.
        bits: Of sound, as in `Audio.write`.

    Raises:
        SetupError: if the ending is none of these, or the file cannot be written.
        MissingExtra: if the format needs a package that is not installed.
    """
    target = Path(path)
    ending = target.suffix.lower()
    if ending == ".mid":
        return write_midi(score, target)
    if ending == ".json":
        write_atomically(target, (json.dumps(score.to_dict(), allow_nan=False) + "\n").encode())
        return target
    if ending not in (".wav", *FORMATS):
        raise SetupError(
            f"Expected `path` to end in .wav, {', '.join(FORMATS)}, .mid or .json, but got {str(target)!r}."
        )
    return render(score, SAMPLE_RATES.get(ending, SAMPLE_RATE)).write(target, bits)


def read_references(path: str | PathLike[str]) -> dict[str, float]:
    """The references of a score that was written as JSON.

    Raises:
        SetupError: if the file is none.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))["references"]
        return {str(name): float(value) for name, value in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetupError(
            f"Expected {str(path)!r} to be a score, but it is none ({error}). "
            "Make one: auscult sonify RUN -o score.json."
        ) from None
