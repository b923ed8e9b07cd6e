"""Marks: up to which step a tracker has been sent each stream, kept with the run so that a resume doubles nothing."""

import json
from pathlib import Path

from auscult.core.metric import Stream

ROOM = 256
"""Bytes of the file, so that it is written over in place: one write of one page survives the death of the process."""


class Marks:
    """A small text file in the run's directory, `trackers/<tracker>.json`.

    Attributes:
        sent: By stream, the step of the last row that was handed to the tracker.

    Raises:
        OSError: if the file cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self.sent: dict[Stream, int] = {}
        file.parent.mkdir(exist_ok=True)
        file.touch()
        self._file = file.open("r+b", buffering=0)
        text = self._file.read().strip()
        if text:
            self.sent.update(json.loads(text))

    def note(self, stream: Stream, step: int) -> None:
        """A row is about to be handed over."""
        self.sent[stream] = step

    def write(self) -> None:
        """Keep what was noted."""
        self._file.seek(0)
        self._file.write(json.dumps(self.sent).encode().ljust(ROOM - 1) + b"\n")

    def close(self) -> None:
        """No more rows will come."""
        self._file.close()
