"""Processes: whether one of this machine holds files of a run open, so that a dead run is told from a slow one."""

import os
from pathlib import Path
from platform import node


def is_held(directory: Path, host: str) -> bool | None:
    """Whether a process has a file in a directory open; None where that cannot be told.

    It can be on Linux, on the machine that writes the files, by their owner and by the superuser.

    Args:
        directory: Of the run.
        host: The machine that writes it.
    """
    try:
        owner = directory.stat().st_uid
    except OSError:  # it was removed
        return None
    if host != node() or not Path("/proc/self/fd").is_dir() or os.getuid() not in (0, owner):
        return None
    inside = f"{directory.resolve()}{os.sep}"
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and process.stat().st_uid == owner:
                with os.scandir(process / "fd") as descriptors:
                    if any(_opened(each.path).startswith(inside) for each in descriptors):
                        return True
        except OSError:  # gone meanwhile
            continue
    return False


def _opened(descriptor: str) -> str:
    """The file behind a descriptor; "" if it was closed meanwhile, which says nothing of the others."""
    try:
        return os.readlink(descriptor)  # noqa: PTH115  (there are thousands, and pathlib is slow)
    except OSError:
        return ""
