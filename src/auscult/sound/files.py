"""Files: a score as a file of any kind, by the ending of its name."""

import json
from os import PathLike
from pathlib import Path

from auscult.core.atomic import write_atomically
from auscult.core.audio import require_room, write_words
from auscult.core.compressed import FORMATS
from auscult.core.errors import SetupError
from auscult.core.score import Score
from auscult.sound.midi import write_midi
from auscult.sound.synth import render

SAMPLE_RATES = {".opus": 48_000}
SAMPLE_RATE = 44_100


def write_score(score: Score, path: str | PathLike[str], bits: int = 32) -> Path:
    """Write a score: as sound (`.wav`, `.flac`, `.ogg`, `.opus`, `.mp3`), as notes (`.mid`), or itself (`.json`).

    Beside it goes what is heard in words: a transcript (`.txt`) and captions (`.vtt`).

    Args:
        score: The score.
        path: Its ending decides.
        bits: Of sound, as in `Audio.write`.

    Raises:
        SetupError: if the ending is none of these, the file cannot be written, or another file is where the transcript
            goes.
        MissingExtra: if the format needs a package that is not installed.
    """
    target = Path(path)
    ending = target.suffix.lower()
    if ending in (".mid", ".json"):
        require_room(target)
        if ending == ".mid":
            write_midi(score, target)
        else:
            write_atomically(target, (json.dumps(score.to_dict(), allow_nan=False) + "\n").encode())
        write_words(score, target)
        return target
    if ending not in (".wav", *FORMATS):
        raise SetupError(
            f"Expected `path` to end in .wav, {', '.join(FORMATS)}, .mid or .json, but got {str(target)!r}."
        )
    return render(score, SAMPLE_RATES.get(ending, SAMPLE_RATE)).write(target, bits)


def read_references(path: str | PathLike[str], metric: str | None = None) -> tuple[str, dict[str, float]]:
    """What drives the pitch of a score that was written as JSON, and its references.

    Args:
        path: The file.
        metric: What the score has to be of; None for whatever it is.

    Raises:
        SetupError: if the file is none, or is of another metric, or has no references.
    """
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
        kind = str(plain["metric"])
        found = {str(name): float(value) for name, value in plain["references"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetupError(
            f"Expected {str(path)!r} to be a score, but it is none ({error}). "
            "Make one: auscult sonify RUN -o score.json."
        ) from None
    if not found:
        raise SetupError(f"Expected {str(path)!r} to have references, but it has none. Nothing in it has a pitch.")
    if metric not in (None, kind):
        raise SetupError(
            f"Expected `metric` to be the one that {str(path)!r} is of, {kind}, but got {metric!r}. "
            "References of one say nothing of another."
        )
    return kind, found
