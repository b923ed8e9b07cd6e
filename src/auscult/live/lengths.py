"""Lengths: a run with names too long to be meant as names is refused, before a page repeats them a hundred times."""

from collections.abc import Iterator, Mapping
from typing import Any

from auscult.core.errors import StoreError
from auscult.core.run import Run

MAX_NAME = 10_000
MAX_CONFIG = 1_000_000


def require_names_of_usual_length(run: Run) -> None:
    """Make sure that a page of the run has a size that a browser can show.

    Raises:
        StoreError: if a name has more than 10,000 characters, or the configuration more than a million.
    """
    longest = max((len(each) for each in _names(run)), default=0)
    if longest > MAX_NAME:
        raise StoreError(
            f"Expected names of at most {MAX_NAME:,} characters, but got one of {longest:,}. "
            "`auscult.load(path)` still reads the run."
        )
    length = _length(run.info.config)
    if length > MAX_CONFIG:
        raise StoreError(f"Expected a configuration of at most {MAX_CONFIG:,} characters, but got {length:,}.")


def _names(run: Run) -> Iterator[str]:
    yield from (run.info.name, run.info.id, run.info.host, *run.info.command, *run.info.devices)
    for segment in run.segments:
        for parameter in segment.parameters:
            yield from (parameter.path, parameter.group or "", *parameter.aliases)
        for module in segment.modules:
            yield from (module.path, module.type)
    for stream in run.streams:
        for channel in run.source.channels(stream):
            yield from channel
    for event in run.events:
        if event["kind"] != "segment":
            yield from _texts(event)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value of plain JSON types."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield key
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _length(config: Mapping[str, Any]) -> int:
    return sum(map(len, _texts(config)))
