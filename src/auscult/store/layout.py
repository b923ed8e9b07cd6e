"""Layout: what the files at the top of a run's directory are called and say.

`docs/file-format.md` describes all files. Knows nothing of rows and blocks.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from auscult.core.errors import StoreError
from auscult.core.run import Module, Parameter, RunInfo, Segment
from auscult.store.lines import decode_object, encode_object

FORMAT = "auscult"
FORMAT_VERSION = 1
RUN = "run.json"
DRAFT = f"{RUN}.tmp"
CHANNELS = "channels.jsonl"
EVENTS = "events.jsonl"


def write_info(path: Path, info: RunInfo, segments: int) -> None:
    """Write `run.json`: it is there in full, or as it was before.

    Args:
        path: Directory of the run.
        info: What it says.
        segments: How many segments the run has, so that the loss of one in `events.jsonl` is seen.
    """
    draft = path / DRAFT
    stored = {"format": FORMAT, **asdict(info), "format_version": FORMAT_VERSION, "segments": segments}
    draft.write_bytes(encode_object(stored, indent=2) + b"\n")
    draft.replace(path / RUN)


def read_info(path: Path) -> tuple[RunInfo, int]:
    """Read `run.json`.

    Returns:
        What it says, and how many segments the run has.

    Raises:
        StoreError: if there is no run, if it is damaged, or if a later auscult wrote it.
    """
    file = path / RUN
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(_no_run(path)) from None
    stored = decode_object(text[:-1]) if text.endswith(b"\n") else None
    if stored is None:
        raise StoreError(
            f"Expected {file} to fit its checksum, but it does not. It is damaged, or not one of auscult's; "
            "without it the run cannot be read."
        )
    version = stored.get("format_version")
    if stored.get("format") != FORMAT or not isinstance(version, int):
        raise StoreError(f"Expected {file} to describe an auscult run, but got format {stored.get('format')!r}.")
    if version > FORMAT_VERSION:
        writer = stored.get("versions", {}).get("auscult")
        needed = f"'auscult>={writer}'" if writer else "--upgrade auscult"
        raise StoreError(
            f"Expected {file} to have format_version {FORMAT_VERSION} or less, but got {version}. A later auscult "
            f"wrote it: pip install {needed}."
        )
    kept = _known(RunInfo, stored)
    kept.update(command=tuple(stored["command"]), devices=tuple(stored["devices"]))
    return RunInfo(**kept), stored["segments"]


def require_same_run(path: Path, run_id: str) -> None:
    """Make sure that the directory still is the run that is being written.

    Raises:
        FileNotFoundError: if it was removed or now holds another run.
    """
    try:
        info, _ = read_info(path)
    except StoreError:
        info = None
    if info is None or info.id != run_id:
        raise FileNotFoundError(
            f"Expected {path} to hold the run that is being written, but it was removed or replaced."
        )


def segment_to_fields(segment: Segment) -> dict[str, Any]:
    """A segment as facts of an event."""
    return {**asdict(segment), "versions": dict(segment.versions)}


def segment_from_fields(stored: Mapping[str, Any]) -> Segment:
    """The inverse of `segment_to_fields`; keys that are not its own are ignored."""
    parameters = tuple(_parameter(each) for each in stored["parameters"])
    modules = tuple(Module(**_known(Module, each)) for each in stored["modules"])
    ignore = tuple(stored.get("ignore", ()))
    return Segment(int(stored["step"]), float(stored["time"]), parameters, modules, dict(stored["versions"]), ignore)


def _parameter(stored: Mapping[str, Any]) -> Parameter:
    kept = _known(Parameter, stored)
    kept.update(shape=tuple(stored["shape"]), aliases=tuple(stored["aliases"]))
    return Parameter(**kept)


def _known(kind: type[RunInfo] | type[Parameter] | type[Module], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a class has; keys that a later version added are ignored."""
    return {each.name: stored[each.name] for each in fields(kind) if each.name in stored}


def _no_run(path: Path) -> str:
    if not path.exists():
        found = "there is no such directory"
    elif not path.is_dir():
        found = "it is a file"
    elif not any(path.iterdir()):
        found = "the directory is empty"
    else:
        found = "the directory holds other files only"
    runs = sorted(path.glob(f"*/{RUN}"))
    hint = f"Did you mean {runs[0].parent}?" if runs else "Was `watch(...)` given another path?"
    return f"Expected {path} to hold a run ({RUN}), but {found}. {hint}"
