"""ForeignRun: a run as another tool wrote it, before it is read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from auscult.core.sink import Channel
from auscult.imports.account import Account


class Point(NamedTuple):
    """One number of a foreign run under the name its tool gave it; a Channel where auscult's own export gives both."""

    name: str | Channel
    step: int
    value: float


class Purge(NamedTuple):
    """The training went back: everything told so far of this step and of later ones is withdrawn."""

    step: int


@dataclass(frozen=True, slots=True)
class ForeignRun:
    """A run that can be read.

    Attributes:
        name: What to call it.
        tool: What wrote it, in words: `TensorBoard`.
        size: How much there is to read, in the unit that the reader reports.
        read: Reads it: yields its numbers in the order in which they were written and fills the account.
    """

    name: str
    tool: str
    size: int
    read: Callable[[Account], Iterator[Point | Purge]]
