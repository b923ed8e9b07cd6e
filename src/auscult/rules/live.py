"""LiveDiagnosis: the same digest and the same rules as `diagnose`, fed row by row.

Exact rules are asked again only when the set of non-finite, zero or unobserved numbers changes, and for the rows after
it that a streak needs; where norms only become zero or cease to be, when a streak is long enough or broken, and never
for a zero among samples. All others are asked when a block of 64 steps closes, or later where they are put off. Where
none is, the findings equal `diagnose` of the run cut there at every step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from auscult.core.anatomy import Anatomy
from auscult.core.audit import Audit
from auscult.core.digest import BLOCK_STEPS, Block, Digest, block_start, digest_rows, digest_run
from auscult.core.finding import Finding
from auscult.core.metric import Stream
from auscult.core.naming import names_loss
from auscult.core.origin import Origin
from auscult.core.run import Run, Segment
from auscult.core.sink import Channel, Record, Rows, Values, empty_rows, observed
from auscult.core.standstill import Standstill
from auscult.rules.registry import RULES, judgement
from auscult.rules.rule import EXACT_METRICS, ZERO_ROWS
from auscult.rules.streaks import Streaks

FEW = 8  # columns that are faster looked at one by one
MOST_UNFOLDED = 64  # blocks that wait, of all streams
_EXACT = [(number, rule) for number, rule in enumerate(RULES) if rule.exact]
_OTHERS = [(number, rule) for number, rule in enumerate(RULES) if not rule.exact]


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
        self._unfolded: list[Block] = []  # closed blocks that are still to be folded, which is cheaper for many at once
        self._rows: dict[Stream, list[Rows]] = {}
        self._step = -1
        self._watched: dict[Stream, Watched] = {}
        self._marks: dict[Stream, bytes] = {}
        self._settling = ZERO_ROWS  # rows of norms that exact rules are still asked about
        self._counting = 0  # rows of norms in which a streak of zeros may still begin to count
        self._new_facts = False  # since exact rules were asked
        self._found: list[list[Finding]] = [[] for _ in RULES]
        self._judged: Digest | None = None  # what all rules but the exact ones were asked about

    @property
    def waiting(self) -> bool:
        """Whether rules have not been asked yet about something that they look at."""
        return len(self._unfolded) > 0 or self._judged is not self._closed

    @classmethod
    def resume(cls, past: Run, segment: Segment) -> "LiveDiagnosis":
        """Go on where a run stood before `segment.step`: its closed blocks as they are, its open block row by row."""
        stood = past.until(segment.step - 1)
        earlier = tuple(each for each in stood.segments if each.step < segment.step)
        live = cls((*earlier, segment))
        tip = block_start(stood.last_step + 1)
        if tip:
            live._closed = replace(digest_run(stood.until(tip - 1))[0], segments=live._closed.segments)
        live._closed = replace(
            live._closed, audit=stood.audit, origins=stood.origins, anatomy=stood.anatomy, standstill=stood.standstill
        )
        for stream in stood.streams:
            channels = stood.source.channels(stream)
            steps, rows = stood.source.rows(stream, tip, stood.last_step + 1)
            if len(steps):
                live._rows[stream] = [Rows(stream, steps, channels, rows)]
        live._step = stood.last_step
        return live

    def replace_segment(self, segment: Segment) -> None:
        """More is known of the segment that goes on: the order in which its modules are called."""
        self._closed = replace(self._closed, segments=(*self._closed.segments[:-1], segment))
        self._settling, self._new_facts = ZERO_ROWS, True

    def observe_loss(self, audit: Audit) -> None:
        """What the first loss call looked like."""
        self._closed = replace(self._closed, audit=audit)
        self._settling, self._new_facts = ZERO_ROWS, True

    def observe_anatomy(self, anatomy: Anatomy) -> None:
        """What the first training pass showed of the model."""
        self._closed = replace(self._closed, anatomy=anatomy)
        self._settling, self._new_facts = ZERO_ROWS, True

    def observe_standstill(self, standstill: Standstill) -> list[Finding]:
        """No update is made although training goes on. Returns what changed by that."""
        self._closed = replace(self._closed, standstill=standstill)
        return self._judge(True)

    def observe_origin(self, origin: Origin) -> None:
        """Where the non-finite numbers of the step that comes next arose."""
        self._closed = replace(self._closed, origins=(*self._closed.origins, origin))
        self._settling, self._new_facts = ZERO_ROWS, True

    def extend(
        self, steps: Sequence[int], rows: Sequence[Rows], put_off: bool = False
    ) -> Iterator[tuple[int, list[Block], list[Finding]]]:
        """Take the rows of several steps; where exact rules will find nothing new in them, a block at a time.

        Args:
            steps: The steps, later than those before, in order.
            rows: Their rows; those of one stream in order, at most one a step.
            put_off: Whether all rules but the exact ones wait until `settle`, or until an exact one finds something.

        Yields:
            Where something came of it: the step, the blocks that closed there, and the findings that are new or changed
            their severity or status.
        """
        ends = list(steps)
        if self._is_steady(rows):
            ends = [*(step for step in range(_block_end(steps[0]), steps[-1], BLOCK_STEPS)), steps[-1]]
        begin = steps[0]
        for step in ends:
            some = [part for each in rows if (part := _between(each, begin, step + 1)) is not None]
            blocks, found = self._add(step, some, len(ends) < len(steps), put_off)
            if blocks or found:
                yield step, blocks, found
            begin = step + 1

    def add(self, step: int, records: Sequence[Record]) -> tuple[list[Block], list[Finding]]:
        """Take the rows of one step.

        Args:
            step: The step, later than the one before.
            records: Its rows, at most one per stream.

        Returns:
            The blocks that closed, and the findings that are new or changed their severity or status.
        """
        return self._add(step, [Rows.of(record) for record in records], False, False)

    def settle(self) -> list[Finding]:
        """Ask the rules that were put off. Returns the findings that are new or changed their severity or status."""
        return self._judge(False) if self.waiting and self._step >= 0 else []

    def _add(self, step: int, rows: Sequence[Rows], steady: bool, put_off: bool) -> tuple[list[Block], list[Finding]]:
        """Take rows of one block, the last of which may be of a step; steady ones bring nothing new to exact rules."""
        blocks = self._close(block_start(step)) if block_start(step) > block_start(max(self._step, 0)) else []
        self._step = step
        for each in rows:
            self._rows.setdefault(each.stream, []).append(each)
        ask = not steady and self._watch_marks(rows)
        if step % BLOCK_STEPS == BLOCK_STEPS - 1:
            blocks += self._close(step + 1)
        if not blocks and not ask:
            return blocks, []
        settling = self._settling > 0 and (not steady or self._new_facts)
        return blocks, self._judge(ask or settling, put_off)

    def _is_steady(self, rows: Sequence[Rows]) -> bool:
        """Whether exact rules will find nothing new in these rows."""
        settled = self._settling == self._counting == 0 or all(each.stream != "norms" for each in rows)
        return settled and all(
            self._watch(each.stream, each.channels).are_alike(each.values, self._marks.get(each.stream))
            for each in rows
        )

    def finish(self) -> list[Finding]:
        """The run has ended: its last block counts although it is short. Returns what changed by that."""
        self._close(self._step + 1)
        self._fold()
        self._closed = replace(self._closed, finished=True)
        return self._judge(True) if self._step >= 0 else []

    def _watch_marks(self, rows: Sequence[Rows]) -> bool:
        """Whether exact rules may find something else in the rows of a step than in those before."""
        ask = changed = False
        for each in rows:
            watched = self._watch(each.stream, each.channels)
            marks = watched.marks(each.values[-1])
            other = marks != self._marks.get(each.stream)
            self._marks[each.stream] = marks
            if each.stream == "norms":
                self._counting = ZERO_ROWS if other else max(0, self._counting - 1)
                ask, other = watched.count(each.values[-1])
            elif each.stream == "sampled":  # in which a zero is a number like any other
                _, other = watched.count(each.values[-1])
            changed = changed or other
        if changed:
            self._settling = ZERO_ROWS
            return True
        settling = self._settling > 0 and any(each.stream == "norms" for each in rows)
        self._settling -= settling
        return settling or ask

    def _watch(self, stream: Stream, channels: tuple[Channel, ...]) -> "Watched":
        watched = self._watched.get(stream)
        if watched is None or watched.channels is not channels:
            watched = self._watched[stream] = Watched(channels)
        return watched

    def _open_blocks(self) -> list[Block]:
        return [
            _digest(rows, min(self._step + 1, _block_end(int(rows[0].steps[0])) + 1)) for rows in self._rows.values()
        ]

    def _close(self, stop: int) -> list[Block]:
        """Fold the open rows, all of which lie before `stop`."""
        if not self._rows:
            return []
        blocks = [_digest(rows, min(stop, _block_end(int(rows[0].steps[0])) + 1)) for rows in self._rows.values()]
        self._rows.clear()
        self._unfolded += blocks
        if len(self._unfolded) > MOST_UNFOLDED:
            self._fold()
        return blocks

    def _fold(self) -> None:
        if self._unfolded:
            self._closed, self._unfolded = self._closed.fold_all(self._unfolded), []

    def _judge(self, exact: bool, put_off: bool = False) -> list[Finding]:
        """Ask again the rules whose answer may have changed.

        Args:
            exact: Whether exact ones are asked; those that found something are in any case.
            put_off: Whether the others wait; not where an exact one finds something new, which they may explain.

        Returns:
            The findings that are new or changed their severity or status.
        """
        now: Digest | None = None
        news = False
        self._new_facts = self._new_facts and not exact
        before = {finding.key: (finding.severity, finding.status) for finding in self.findings}
        for number, rule in _EXACT:
            if exact or self._found[number]:
                known = {finding.key for finding in self._found[number]}
                self._fold()
                now = now or self._closed.fold(*self._open_blocks())
                self._found[number] = list(rule.check(now))
                news = news or any(finding.key not in known for finding in self._found[number])
        others = self.waiting and (news or not put_off)
        if others:
            self._fold()
        if others and self._closed.told:
            for number, rule in _OTHERS:
                self._found[number] = list(rule.check(self._closed))
            self._judged = self._closed
        elif now is None:
            return []
        found = (finding for some in self._found for finding in some)
        self.findings = judgement(found, self._closed.segments[-1].ignore)[0] if self._closed.segments else []
        return [each for each in self.findings if before.get(each.key) != (each.severity, each.status)]


class Watched:
    """Those columns of a stream that exact rules look at.

    Args:
        channels: The columns `(C,)`.

    Attributes:
        channels: These.
    """

    __slots__ = ("_few", "_positions", "_streaks", "channels")

    def __init__(self, channels: tuple[Channel, ...]) -> None:
        self.channels = channels
        few = [
            position
            for position, channel in enumerate(channels)
            if channel.metric in EXACT_METRICS or names_loss(channel.metric)
        ]
        self._few = few if len(few) <= FEW else None
        self._positions: NDArray[np.intp] | slice = np.array(few, np.intp) if len(few) < len(channels) else slice(None)
        self._streaks = Streaks(len(few))

    def are_alike(self, values: Values, marks: bytes | None) -> bool:
        """Whether rows `(R, C)` are finite throughout, and 0 where the row with these marks was, which was finite."""
        seen = values[:, self._positions]
        width = seen.shape[1]
        if not marks or not width:
            return marks is not None
        if b"\0" in marks[:width] or not np.isfinite(seen).all():
            return False
        return bool(((seen != 0) == np.frombuffer(marks[-width:], np.bool_)).all())

    def count(self, values: Values) -> tuple[bool, bool]:
        """What one row `(C,)` changes of their streaks; see `Streaks.add`."""
        return self._streaks.add(np.ascontiguousarray(values[self._positions]))

    def marks(self, values: Values) -> bytes:
        """Which of them are non-finite, zero or unobserved; equal bytes mean that this is as it was.

        Args:
            values: One row `(C,)`.
        """
        if self._few is not None:
            some = [values.item(position) for position in self._few]
            if all(value - value == 0 != value for value in some):
                return b"\1" * len(some)
        seen = np.ascontiguousarray(values[self._positions])
        finite = np.isfinite(seen).tobytes()
        marks = finite + (seen != 0).tobytes()
        return marks + observed(seen).tobytes() if b"\0" in finite else marks


def _block_end(step: int) -> int:
    """Last step of the block that a step lies in."""
    return block_start(step) + BLOCK_STEPS - 1


def _between(rows: Rows, begin: int, end: int) -> Rows | None:
    """Those of the rows with steps from `begin` to before `end`; None if there is none."""
    first, stop = np.searchsorted(rows.steps, (begin, end)).tolist()
    if first == stop:
        return None
    if stop - first == len(rows.steps):
        return rows
    return Rows(rows.stream, rows.steps[first:stop], rows.channels, rows.values[first:stop])


def _digest(rows: Sequence[Rows], stop: int) -> Block:
    """The block of rows of one stream."""
    stream, channels = rows[-1].stream, rows[-1].channels
    values = np.concatenate([_widened(each, len(channels)) for each in rows])
    return digest_rows(stream, channels, np.concatenate([each.steps for each in rows]), values, stop)


def _widened(rows: Rows, width: int) -> Values:
    """The rows with the columns that came later, unobserved."""
    missing = width - rows.values.shape[1]
    return np.hstack([rows.values, empty_rows(rows.stream, len(rows.steps), missing)]) if missing else rows.values
