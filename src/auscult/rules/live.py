"""LiveDiagnosis: the same digest and the same rules as `diagnose`, fed row by row.

Exact rules are asked again only when the set of non-finite or zero numbers changes, and for the rows after it that a
streak needs; all others when a block of 64 steps closes. At every step the findings equal `diagnose` of the run cut
there.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from auscult.core.digest import BLOCK_STEPS, Block, Digest, block_start, digest_rows, digest_run
from auscult.core.finding import Finding
from auscult.core.metric import Stream
from auscult.core.origin import Origin
from auscult.core.run import Audit, Run, Segment
from auscult.core.sink import Record, Values, empty_row
from auscult.rules.registry import judge
from auscult.rules.rule import ZERO_ROWS


class LiveDiagnosis:
    """Digest and findings of a run under way.

    Attributes:
        findings: The findings as they stand, worst first.

    Args:
        segments: Where the run began, with the facts about the model.
    """

    def __init__(self, segments: tuple[Segment, ...]) -> None:
        self.findings: list[Finding] = []
        self._closed = Digest(segments)
        self._rows: dict[Stream, list[Record]] = {}
        self._step = -1
        self._marks: dict[Stream, bytes] = {}
        self._settling = ZERO_ROWS

    @classmethod
    def resume(cls, past: Run, segment: Segment) -> "LiveDiagnosis":
        """Go on where a run stood before `segment.step`: its closed blocks as they are, its open block row by row."""
        stood = past.until(segment.step - 1)
        earlier = tuple(each for each in stood.segments if each.step < segment.step)
        live = cls((*earlier, segment))
        tip = block_start(stood.last_step + 1)
        if tip:
            live._closed = replace(digest_run(stood.until(tip - 1))[0], segments=live._closed.segments)
        live._closed = replace(live._closed, audit=stood.audit, origins=stood.origins)
        for stream in stood.streams:
            channels = stood.source.channels(stream)
            steps, rows = stood.source.rows(stream, tip, stood.last_step + 1)
            if len(steps):
                live._rows[stream] = [Record(stream, int(step), channels, row) for step, row in zip(steps, rows)]
        live._step = stood.last_step
        return live

    def replace_segment(self, segment: Segment) -> None:
        """More is known of the segment that goes on: the order in which its modules are called."""
        self._closed = replace(self._closed, segments=(*self._closed.segments[:-1], segment))
        self._settling = ZERO_ROWS

    def observe_loss(self, audit: Audit) -> None:
        """What the first loss call looked like."""
        self._closed = replace(self._closed, audit=audit)
        self._settling = ZERO_ROWS

    def observe_origin(self, origin: Origin) -> None:
        """Where the non-finite numbers of the step that comes next arose."""
        self._closed = replace(self._closed, origins=(*self._closed.origins, origin))

    def add(self, step: int, records: Sequence[Record]) -> tuple[list[Block], list[Finding]]:
        """Take the rows of one step.

        Args:
            step: The step, later than the one before.
            records: Its rows, at most one per stream.

        Returns:
            The blocks that closed, and the findings that are new or changed their severity or status.
        """
        blocks = self._close(block_start(step)) if block_start(step) > block_start(max(self._step, 0)) else []
        self._step = step
        for record in records:
            self._rows.setdefault(record.stream, []).append(record)
        ask = self._watch_marks(records)
        if step % BLOCK_STEPS == BLOCK_STEPS - 1:
            blocks += self._close(step + 1)
        if not blocks and not ask:
            return blocks, []
        return blocks, self._judge(self._closed.fold(*self._open_blocks()))

    def finish(self) -> list[Finding]:
        """The run has ended: its last block counts although it is short. Returns what changed by that."""
        blocks = self._open_blocks()
        if not blocks:
            return []
        complete = self._closed.fold(*blocks)
        return self._judge(complete, complete)

    def _watch_marks(self, records: Sequence[Record]) -> bool:
        """Whether exact rules may find something else than at the row before."""
        changed = False
        for record in records:
            marks = ((record.values == 0) | ~np.isfinite(record.values)).tobytes()
            changed |= marks != self._marks.get(record.stream)
            self._marks[record.stream] = marks
        if changed:
            self._settling = ZERO_ROWS
            return True
        settling = self._settling > 0 and any(record.stream == "norms" for record in records)
        self._settling -= settling
        return settling

    def _open_blocks(self) -> list[Block]:
        return [
            _digest(stream, records, min(self._step + 1, block_start(records[0].step) + BLOCK_STEPS))
            for stream, records in self._rows.items()
            if records
        ]

    def _close(self, stop: int) -> list[Block]:
        """Fold the open rows, all of which lie before `stop`, a multiple of 64."""
        blocks = [
            _digest(stream, records, block_start(records[0].step) + BLOCK_STEPS)
            for stream, records in self._rows.items()
            if records
        ]
        self._rows.clear()
        if blocks:
            self._closed = self._closed.fold(*blocks)
        return blocks

    def _judge(self, now: Digest, closed: Digest | None = None) -> list[Finding]:
        before = {finding.key: (finding.severity, finding.status) for finding in self.findings}
        self.findings = judge(closed or self._closed, now)
        return [each for each in self.findings if before.get(each.key) != (each.severity, each.status)]


def _digest(stream: Stream, records: list[Record], stop: int) -> Block:
    channels = records[-1].channels
    rows = np.stack([_widen(record, len(channels)) for record in records])
    return digest_rows(stream, channels, np.array([record.step for record in records], np.int64), rows, stop)


def _widen(record: Record, width: int) -> Values:
    """The row with the columns that came later, unobserved."""
    if len(record.values) == width:
        return record.values
    return np.concatenate([record.values, empty_row(record.stream, width - len(record.values))])
