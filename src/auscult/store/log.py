"""AppendLog: a file that only grows, in which every append is there in full or not at all.

Knows nothing of what is appended.
"""

import errno
import os
from pathlib import Path

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


class AppendLog:
    """A file that only grows.

    Args:
        path: The file; it is created if it does not exist.
        new: Whether it must not exist yet.

    Attributes:
        path: The file.
        size: Its length in bytes.
    """

    def __init__(self, path: Path, *, new: bool = False) -> None:
        self.path = path
        self._descriptor = os.open(path, _FLAGS | (os.O_EXCL if new else 0), 0o666)
        self.size = os.fstat(self._descriptor).st_size
        self._torn = False

    def append(self, data: bytes) -> None:
        """Write at the end, unbuffered: what was appended survives the death of the process.

        Raises:
            OSError: if not everything could be written (disk full); the file is then as it was before.
        """
        if self._torn:
            self.cut(self.size)
        self._torn = True
        try:
            written = os.write(self._descriptor, data)
        except OSError:
            self.cut(self.size)
            raise
        if written < len(data):
            self.cut(self.size)
            raise OSError(errno.ENOSPC, f"{written} of {len(data)} bytes could be written", str(self.path))
        self._torn = False
        self.size += written

    def cut(self, size: int) -> None:
        """Shorten the file to what is known to be whole."""
        os.ftruncate(self._descriptor, size)
        self._torn = False
        self.size = size

    def sync(self) -> None:
        """Wait until what was appended would also survive a power failure."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """No more appends will come."""
        os.close(self._descriptor)
