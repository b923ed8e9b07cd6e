"""Backlog: finished steps whose rows are not written yet, because writing many at once costs little more than one."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from auscult.core.sink import Record, Rows
from auscult.monitor.draft import Draft, is_finite
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
        self._waiting: list[tuple[Draft, list[Record]]] = []
        self._since = 0.0

    def add(self, draft: Draft) -> None:
        """Take a finished step, before the instruments measure another; what was measured of it is brought here."""
        if self._gauges.on_gpu:
            draft.send()
        self.take(draft, self._gauges.measured(draft))

    def take(self, draft: Draft, measured: list[Record]) -> None:
        """Take a finished step and the rows of what was measured of it."""
        now = perf_counter()
        if not self._waiting:
            self._since = now
        self._waiting.append((draft, measured))
        sound = draft.sound and (not measured or all(map(is_finite, measured)))
        if not sound or draft.examination or len(self._waiting) >= STEPS or now - self._since > SECONDS:
            self.write()
        if draft.examination and (detail := self._gauges.detail(draft)) is not None:
            self._journal.keep(detail)

    def write(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        written = False
        try:
            rows = self._gauges.rows(waiting)
            self._look_back(waiting, rows)
            self._journal.record([draft.step for draft, _ in waiting], rows)
            written = True
        finally:
            if not written:  # an interrupt counts as well
                self._journal.lose_row()

    def _look_back(self, waiting: Sequence[tuple[Draft, list[Record]]], rows: Sequence[Rows]) -> None:
        """From steps that are not finite, look for the origin."""
        flawed = {step for each in rows if each.stream == "steps" for step in _flawed(each)}
        for draft, _ in waiting:
            if draft.step not in flawed:
                self._tracer.passed()
                continue
            records = [record for each in rows for record in each.records() if record.step == draft.step]
            ledger = self._gauges.ledger if draft.norms_taken else None
            origin = self._tracer.search(draft.step, records, ledger)
            if origin is not None:
                self._journal.observe_origin(origin)


def _flawed(rows: Rows) -> list[int]:
    """The steps in which a number was not finite."""
    finite = rows.values[:, rows.channels.index(FINITE)]
    return rows.steps[np.flatnonzero(finite == 0)].tolist()
