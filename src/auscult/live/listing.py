"""Listing: the runs below a directory, each under an id that is looked up here and never becomes part of a path."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from auscult.store.reader import LIST_DEPTH, is_run

MAX_RUNS = 1000
ID_LENGTH = 16
_FILES_DEPTH = 2  # of directories in a run that hold files of its own


@dataclass(frozen=True, slots=True)
class Entry:
    """One run of the listing.

    Attributes:
        id: Hexadecimal digits made from `place`: stable, and free of anything that means something in a path or URL.
        path: Its directory, with all links resolved.
        place: The same relative to the directory that is listed; `.` for that directory itself.
    """

    id: str
    path: Path
    place: str


def list_entries(root: Path) -> dict[str, Entry]:
    """The runs in a directory or up to three levels below it by id, at most 1,000 of them, sorted by place.

    Args:
        root: The directory, resolved. What a link in it leads to counts only if it lies in it, too.
    """
    found: dict[str, Entry] = {}
    for path in _find_runs(root, root, LIST_DEPTH):
        place = path.relative_to(root).as_posix()
        digits = sha256(os.fsencode(place)).hexdigest()[:ID_LENGTH]
        found[digits] = Entry(digits, path, place)
        if len(found) == MAX_RUNS:
            break
    return dict(sorted(found.items(), key=lambda item: item[1].place))


def find_stranger(root: Path, run: Path) -> str | None:
    """Why a run may not be read: something in it leads out of `root` or is no plain file; None if it may.

    Args:
        root: The directory that is listed, resolved.
        run: The directory of a run in it.
    """
    if not run.exists():
        return "Expected the run to stay where it was found, but its directory is gone."
    if _inside(root, run) != run:
        return "Expected the run to stay where it was found, but something else was put in its place."
    return next(_strangers(root, run, _FILES_DEPTH), None)


def _find_runs(root: Path, directory: Path, depth: int) -> Iterator[Path]:
    """Resolved directories of runs inside `root`, each once on the way that is taken first."""
    if _is_plain(directory / "run.json") and is_run(directory):
        yield directory
    elif depth:
        for each in _scan(directory):
            below = _inside(root, Path(each.path)) if each.is_symlink() else Path(each.path)
            if below is not None and below.is_dir():
                yield from _find_runs(root, below, depth - 1)


def _strangers(root: Path, directory: Path, depth: int) -> Iterator[str]:
    for each in _scan(directory):
        target = _inside(root, Path(each.path)) if each.is_symlink() else Path(each.path)
        if target is None:
            yield f"Expected every file of a run to lie in the listed directory, but {each.name!r} leads out of it."
        elif each.is_dir():
            if depth:
                yield from _strangers(root, target, depth - 1)
        elif not _is_plain(target) and target.exists():  # a file that a writer has just renamed is no stranger
            yield f"Expected a run to hold plain files, but {each.name!r} is none."


def _scan(directory: Path) -> list[os.DirEntry[str]]:
    """Entries by name; none where it cannot be looked into."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda each: each.name)
    except OSError:
        return []


def _inside(root: Path, link: Path) -> Path | None:
    """What a link leads to, if that lies in `root`."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # leads nowhere, or round in a circle
        return None
    return target if target.is_relative_to(root) else None


def _is_plain(path: Path) -> bool:
    """Whether this is a plain file and no link, pipe, socket or device, opening which could wait for ever."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
