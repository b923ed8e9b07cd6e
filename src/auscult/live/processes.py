"""Processes: which files those of this machine hold open, so that a dead run is told from a slow one."""

import os
from pathlib import Path


def list_open_files(owner: int) -> frozenset[str] | None:
    """Paths of the files that the processes of a user hold open; None where it cannot be told (not on Linux).

    Args:
        owner: Number of the user. Only the superuser sees the files of others.
    """
    if not Path("/proc/self/fd").is_dir() or os.getuid() not in (0, owner):
        return None
    found: set[str] = set()
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and process.stat().st_uid == owner:
                with os.scandir(process / "fd") as descriptors:
                    found.update(os.readlink(each.path) for each in descriptors)  # noqa: PTH115  (10,000 of them)
        except OSError:  # gone meanwhile
            continue
    return frozenset(found)


def is_open(directory: Path, open_files: frozenset[str]) -> bool:
    """Whether one of the files lies in a directory."""
    inside = f"{directory}{os.sep}"
    return any(each.startswith(inside) for each in open_files)
