"""Hold: that a run has a writer. It ends with the process, however that ends; readers never look at it."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet, finalize

from auscult.core.errors import SetupError

if sys.platform != "win32":
    import fcntl

_BUSY = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)
_held: "WeakSet[Hold]" = WeakSet()


class Hold:
    """An advisory lock on a file of a run, so that two writers cannot take turns in it.

    Where there are no locks (some network filesystems, Windows) nothing is held and nobody is refused. No copy of the
    process that `fork` makes, such as a worker of a DataLoader, holds it on: a copy closes the file as soon as it runs,
    and the process itself ends the lock for those, too, that have not run yet.

    Args:
        file: The file; it is created if it does not exist, and not changed.

    Attributes:
        certain: Whether nobody else can hold it meanwhile.

    Raises:
        SetupError: if another writer holds it, in this process or in another.
        OSError: if it cannot be opened.
    """

    def __init__(self, file: Path) -> None:
        self.certain = False
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        self._close = finalize(self, _let_go, descriptor, os.getpid())
        try:
            if sys.platform != "win32":
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.certain = True
        except OSError as error:
            if error.errno in _BUSY:
                self.end()
                raise SetupError(_busy(file.parent)) from None
        _held.add(self)

    def end(self) -> None:
        """Let another writer have it; later calls do nothing."""
        self._close()


def _let_go(descriptor: int, owner: int) -> None:
    if sys.platform != "win32" and os.getpid() == owner:
        with suppress(OSError):  # there are no locks
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _end_in_copy() -> None:
    for each in tuple(_held):
        each.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_in_copy)


def _busy(path: Path) -> str:
    return (
        f"Expected the run in {path} to have no other writer, but one is at work, in this process or in another. "
        "End it first (`monitor.close()`), or write beside it with `if_exists='new'`."
    )
