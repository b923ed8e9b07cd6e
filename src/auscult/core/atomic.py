"""Files that are there in full or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from auscult.core.errors import SetupError


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file beside its place, then move it there; folders are made, and a failure leaves what was there before.

    Raises:
        SetupError: if the file cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        beside.replace(path)
    except (OSError, ValueError) as error:
        with suppress(OSError, ValueError):  # what could not be written cannot be removed either
            beside.unlink(missing_ok=True)
        raise SetupError(
            f"Expected `path` to be a file that can be written, but got {str(path)!r} ({error}). Name another one."
        ) from None
