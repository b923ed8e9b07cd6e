"""Reserve: on a rank that writes nothing, the last steps that all ranks have added up, until they are on disk.

Should the rank that writes be gone, they are put beside what it has written (`auscult.store.rescued`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from auscult.core.sink import Record
from auscult.monitor.draft import Draft
from auscult.monitor.gauges import Gauges
from auscult.store.rescued import write_rescued


class Added(NamedTuple):
    """Steps that were added up together, and what makes the rows of the last of them."""

    drafts: Sequence[Draft]
    records: Callable[[], list[Record]]


class Reserve:
    """The steps of the last sums; no more of them than the writer's backlog holds.

    Args:
        gauges: What makes rows.
        path: Directory of the run.
    """

    def __init__(self, gauges: Gauges, path: Path) -> None:
        self._gauges = gauges
        self._path = path
        self._added: list[Added] = []
        self._kept = 0, 0

    def keep(self, added: Added, kept: tuple[int, int]) -> None:
        """Steps were added up.

        Args:
            added: These steps.
            kept: How many steps the writer has on disk, and the number of the segment.
        """
        self._kept = kept
        self._added = [each for each in self._added if each.drafts[-1].step >= kept[0]]
        if added.drafts:
            self._added.append(added)

    def write(self) -> None:
        """Write what the writer may not have written."""
        added, self._added = self._added, []
        finished = [
            (draft, each.records() if draft is each.drafts[-1] else [])
            for each in added
            for draft in each.drafts
            if draft.step >= self._kept[0]
        ]
        if finished:
            write_rescued(self._path, self._kept[1], self._gauges.rows(finished))
