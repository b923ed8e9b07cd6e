"""History: what `events.jsonl` tells of a run: its segments, its events, and how many rows there must be.

Knows nothing of the rows themselves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auscult.core.metric import Stream
from auscult.core.run import Segment
from auscult.store.damage import Damage
from auscult.store.layout import EVENTS, segment_from_fields
from auscult.store.lines import read_lines


@dataclass(frozen=True, slots=True)
class Start:
    """Where a segment begins: the ordinal of its first row in one stream, and its first step."""

    ordinal: int
    step: int


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What happened, as far as it can be read.

    Attributes:
        path: Directory of the run.
        lines: The lines that are whole, in order.
        damage: A sentence for each that is not.
        lost_segments: Numbers of the segments whose lines are damaged.
    """

    path: Path
    lines: tuple[Mapping[str, Any], ...]
    damage: tuple[str, ...]
    lost_segments: frozenset[int]

    @property
    def finished(self) -> bool:
        """Whether the last segment has ended."""
        kinds = [line["kind"] for line in self.lines if line["kind"] in ("segment", "end")]
        return not self.lost_segments and kinds[-1:] == ["end"]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, each in forward order where its first pass was seen."""
        segments: list[Segment] = []
        for line in self.lines:
            if line["kind"] == "segment":
                segments.append(segment_from_fields(line))
            elif line["kind"] == "order" and segments:
                segments[-1] = segments[-1].in_forward_order(line["modules"])
        return tuple(segments)

    @property
    def events(self) -> tuple[Mapping[str, Any], ...]:
        """The lines that no later segment made obsolete; segments always stay."""
        kept: list[Mapping[str, Any]] = []
        limit = np.iinfo(np.int64).max
        for line in reversed(self.lines):
            if line["kind"] == "segment":
                kept.append(line)
                limit = min(limit, line["step"])
            elif line["step"] < limit:
                kept.append(line)
        return tuple(reversed(kept))

    def starts(self, stream: Stream) -> dict[int, Start]:
        """Where each segment begins in a stream, by its number."""
        begun = (line for line in self.lines if line["kind"] == "segment")
        return {line["segment"]: Start(line["ordinals"].get(stream, 0), line["step"]) for line in begun}

    def rows(self, stream: Stream) -> int:
        """How many rows a stream had when that was last written down."""
        return [0, *(rows for _, rows in self._counts(stream))][-1]

    def tell(self, damage: Damage) -> None:
        """Say which lines are damaged, and which rows could not be written in the first place.

        Raises:
            StoreError: where `damage` does.
        """
        for message in self.damage:
            damage.report(message)
        for line in self.events:
            if line["kind"] == "lost":
                damage.warn(
                    f"Expected {self.path / line['stream']} to hold every row, but rows between the steps "
                    f"{line['step']} and {line['last_step']} could not be written ({line['rows']} in all). "
                    "Was the disk full?"
                )

    def tell_rows(self, stream: Stream, found: int, damage: Damage) -> None:
        """Say which rows of a stream are missing at its end, or were when a segment began.

        Args:
            stream: The stream.
            found: How many rows it has.
            damage: Who is told.

        Raises:
            StoreError: where `damage` does.
        """
        directory = self.path / stream
        before = 0
        for kind, rows in self._counts(stream):
            if kind == "segment" and rows < before:
                damage.warn(
                    f"Expected {directory} to hold rows {rows} to {before - 1} when the run was resumed, but they were "
                    "missing, and stay so."
                )
            before = rows
        if found < before:
            damage.miss(
                f"Expected {directory} to hold {before} rows, as {EVENTS} says, but rows {found} to {before - 1} are "
                "missing."
            )

    def _counts(self, stream: Stream) -> Iterator[tuple[str, int]]:
        """The kind of each line that counts rows, and how many rows of a stream there were."""
        for line in self.lines:
            if line["kind"] in ("segment", "end") and "ordinals" in line:
                yield line["kind"], line["ordinals"].get(stream, 0)


def read_history(path: Path, segments: int) -> History:
    """Read the history of a run.

    Args:
        path: Its directory.
        segments: How many segments it must have.
    """
    found = read_lines(path / EVENTS)
    begun = {line["segment"] for line in found.objects if line["kind"] == "segment"}
    damage = list(found.damage)
    if len(begun) < segments:
        damage.append(f"Expected {path / EVENTS} to tell of {segments} segments, but got {len(begun)}.")
    return History(path, found.objects, tuple(damage), frozenset(range(segments)) - begun)
