"""Backlog: finished steps whose rows are not written yet, because writing many at once costs little more than one."""

from time import perf_counter

from auscult.core.sink import Record
from auscult.monitor.draft import Draft
from auscult.monitor.gauges import FINITE, Gauges
from auscult.monitor.journal import Journal
from auscult.monitor.tracer import Tracer

STEPS = 64
SECONDS = 0.05


class Backlog:
    """Finished steps, at most 64 of them or 50 ms; one in which a number was not finite is written at once.

    Args:
        gauges: What makes rows.
        tracer: Looks back from rows that are not finite.
        journal: Takes the rows.
    """

    def __init__(self, gauges: Gauges, tracer: Tracer, journal: Journal) -> None:
        self._gauges = gauges
        self._tracer = tracer
        self._journal = journal
        self._waiting: list[tuple[Draft, list[Record] | None]] = []
        self._since = 0.0

    def add(self, draft: Draft) -> None:
        """Take a finished step, before the instruments measure another; what was measured of it is brought here."""
        now = perf_counter()
        if not self._waiting:
            self._since = now
        measured = draft.norms_taken or draft.sampled
        records = self._gauges.records(draft) if measured else None
        self._waiting.append((draft, records))
        sound = draft.sound if records is None else is_finite(records)
        if not sound or draft.examination or len(self._waiting) >= STEPS or now - self._since > SECONDS:
            self.write()
        detail = self._gauges.detail(draft)
        if detail is not None:
            self._journal.keep(detail)

    def write(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        written = False
        try:
            self._journal.record(self._rows(waiting))
            written = True
        finally:
            if not written:  # an interrupt counts as well
                self._journal.lose_row()

    def _rows(self, waiting: list[tuple[Draft, list[Record] | None]]) -> list[tuple[int, list[Record]]]:
        rows: list[tuple[int, list[Record]]] = []
        for draft, records in waiting:
            made = self._gauges.records(draft) if records is None else records
            rows.append((draft.step, made))
            if is_finite(made):
                self._tracer.passed()
                continue
            origin = self._tracer.search(draft.step, made, self._gauges.ledger if draft.norms_taken else None)
            if origin is not None:
                self._journal.observe_origin(origin)
        return rows


def is_finite(records: list[Record]) -> bool:
    """Whether the rows of one step say that every number in them is finite."""
    steps = records[0]
    return bool(steps.values[steps.channels.index(FINITE)])
