"""Journal: where finished steps go: the store, the live rules, the sinks, the log.

Whatever fails in here is kept in `failures`, warned of once per part, written into the run where that is possible, and
never reaches the training loop.
"""

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from auscult.core.anatomy import Anatomy
from auscult.core.audit import Audit
from auscult.core.detail import Detail
from auscult.core.errors import SinkError, StopTraining
from auscult.core.finding import SEVERITIES, Finding, Severity
from auscult.core.origin import Origin
from auscult.core.run import Run, Segment
from auscult.core.sink import Record, Rows, RunSink, Sink
from auscult.core.standstill import Standstill
from auscult.monitor.allowance import Allowance
from auscult.pages.wording import finding_line
from auscult.rules.live import LiveDiagnosis
from auscult.store.sealer import SealingError
from auscult.store.writer import StoreWriter

logger = logging.getLogger("auscult")
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.CRITICAL}


class Journal:
    """Takes the rows of finished steps.

    Attributes:
        saved_step: The last step up to which every row is on disk; -1 before the first.
        failures: What failed first in each part, as (part, message), in order.

    Args:
        writer: The store; None on a rank that writes nothing.
        sinks: Where else rows and findings go.
        on_finding: Called with every finding that is new or changed.
        stop_on: Severity from which on a finding raises `StopTraining`.
        at_once: Whether every closed block is judged as soon as it closes; otherwise when there is time for it, and
            when findings are asked for. Exact rules never wait.
    """

    def __init__(
        self,
        writer: StoreWriter | None,
        sinks: Sequence[Sink],
        on_finding: Callable[[Finding], object] | None,
        stop_on: Severity | None,
        at_once: bool,
    ) -> None:
        self.saved_step = -1
        self.failures: list[tuple[str, str]] = []  # the first of each part
        self._writer = writer
        self._live = LiveDiagnosis(())
        self._at_once = at_once
        self._allowance = Allowance(0)
        self._sinks = list(sinks) if writer is not None else []
        self._sinks_began = False
        self._on_finding = on_finding
        self._stop_at = len(SEVERITIES) if stop_on is None else SEVERITIES.index(stop_on)
        self._warned: set[str] = set()
        self._segment: Segment | None = None  # begun, but not written yet
        self._complete = True  # no row has been lost so far
        self._step = -1  # of the last rows
        self._judging = True
        self._closed = False
        self._process = os.getpid() if writer is not None else None

    @property
    def findings(self) -> list[Finding]:
        """The findings as they stand, worst first."""
        return self._live.findings

    @property
    def kept(self) -> tuple[int, int]:
        """How many steps are on disk, and the number of the segment that the next rows belong to."""
        if self._writer is None:
            return 0, 0
        return self.saved_step + 1, self._writer.segment + (self._segment is not None)

    def begin_segment(self, segment: Segment, past: Run | None) -> None:
        """Training begins or resumes at `segment.step`; unlike all that follows, this raises where it cannot write.

        Args:
            segment: The model and the environment.
            past: The run so far, where there is one.
        """
        self._live = LiveDiagnosis.resume(past, segment) if past is not None else LiveDiagnosis((segment,))
        self.saved_step = self._step = segment.step - 1
        self._allowance = Allowance(segment.step)
        self._segment = segment
        if past is None:
            self._write_segment()

    def _write_segment(self) -> None:
        """A resumed run takes the place of older rows only when its own first row comes."""
        if self._segment is not None and self._writer is not None:
            segment, self._segment = self._segment, None
            self._writer.begin_segment(segment)

    def order_modules(self, step: int, segment: Segment, order: Sequence[str]) -> None:
        """The order of the forward pass is known now."""
        self._live.replace_segment(segment)
        self.event("order", step, modules=list(order))

    def observe_loss(self, audit: Audit) -> None:
        """The first loss call was seen."""
        self._live.observe_loss(audit)
        self.event("audit", audit.step, **{name: fact for name, fact in audit.to_dict().items() if name != "step"})

    def observe_anatomy(self, anatomy: Anatomy) -> None:
        """The first training pass was seen."""
        self._live.observe_anatomy(anatomy)
        self.event("anatomy", anatomy.step, anatomy=anatomy.to_dict())

    def observe_standstill(self, standstill: Standstill | None) -> None:
        """No update is made although training goes on; None where nothing is to be told."""
        if standstill is None:
            return
        self.event("standstill", standstill.step, passes=standstill.passes, skipped=standstill.skipped)
        found: list[Finding] = []
        if self._judging:
            self._judging = self._try("rules", lambda: found.extend(self._live.observe_standstill(standstill)))
        self._tell([(standstill.step, found)])

    def observe_origin(self, origin: Origin) -> None:
        """The origin of non-finite numbers was searched for; their rows are still to come."""
        self._live.observe_origin(origin)
        self.event("origin", origin.step, origin=origin.to_dict())

    def record(self, steps: Sequence[int], rows: Sequence[Rows]) -> None:
        """Take the rows of finished steps.

        Args:
            steps: The steps, in order.
            rows: Their rows, those of one stream in order.

        Raises:
            StopTraining: if a new finding is as severe as `stop_on`.
        """
        if self._foreign():
            return
        with np.errstate(all="ignore"):  # NaN and infinities are what this is about
            self._record(steps, rows)

    def _record(self, steps: Sequence[int], rows: Sequence[Rows]) -> None:
        self._try("store", self._write_segment)
        for each in rows:
            self._write("store", StoreWriter.write_rows, each)
        if self._complete:
            self.saved_step = steps[-1]
        self._hand_on(steps[0], rows)
        self._step = steps[-1]
        found: list[tuple[int, list[Finding]]] = []
        if self._judging:
            self._judging = self._try("rules", self._judge, steps, rows, found)
        if self._allowance.permits(self._step):
            found += self._settled(self._step)
        self._tell(found)

    def _hand_on(self, step: int, rows: Sequence[Rows]) -> None:
        """To the sinks; one that raises gets nothing more."""
        if not self._sinks or self._writer is None:
            return
        every = sorted((record for each in rows for record in each.records()), key=_step)
        for sink in tuple(self._sinks):
            part, ready = f"sink {type(sink).__name__}", True
            if not self._sinks_began and isinstance(sink, RunSink):
                ready = self._try(part, sink.begin, self._writer.path, step)
            if not ready or not all(self._try(part, sink.write, record) for record in every):
                self._sinks.remove(sink)
        self._sinks_began = True
        self._ask_sinks()

    def _ask_sinks(self) -> None:
        """Tell the user what sinks could not do; such a sink goes on by itself."""
        for sink in self._sinks:
            if isinstance(sink, RunSink) and (trouble := sink.trouble()) is not None:
                self.fail(f"sink {type(sink).__name__}", trouble)

    def settle(self) -> None:
        """Judge what was put off.

        Raises:
            StopTraining: if a new finding is as severe as `stop_on`.
        """
        if not self._foreign():
            with np.errstate(all="ignore"):
                self._tell(self._settled(self._step))

    def keep(self, detail: Detail) -> None:
        """Take everything about a finished step."""
        if not self._foreign():
            with np.errstate(all="ignore"):
                self._write("details", StoreWriter.write_detail, detail)
                for sink in self._sinks:
                    if isinstance(sink, RunSink):
                        self._try(f"sink {type(sink).__name__}", sink.write_detail, detail)

    def lose_row(self) -> None:
        """A row could not even be made: `saved_step` moves no further."""
        self._complete = False

    def event(self, kind: str, step: int, **facts: Any) -> None:
        """Write down something that happened."""
        if not self._foreign():
            self._try("store", self._write_segment)
            self._event(kind, step, **facts)

    def fail(self, part: str, error: BaseException) -> None:
        """Keep a failure of our own: a warning once per part, an event in the run."""
        message = f"{type(error).__name__}: {error}"
        if part in self._warned:
            return
        self.failures.append((part, message))
        self._warned.add(part)
        if part not in ("store", "sealing"):
            self._event("failure", self.saved_step, part=part, message=message)
        if isinstance(error, SinkError):
            text = f"auscult: {part}: {error} Training is not affected."
        else:
            text = (
                f"auscult could not go on with {part} ({message}). Training is not affected; what this part would "
                "have recorded is missing from here on."
            )
        logger.error(text)
        with suppress(RuntimeWarning):  # where warnings are errors, the log has to do
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def never_stop(self) -> None:
        """From now on no finding raises: training is over."""
        self._stop_at = len(SEVERITIES)

    def close(self, step: int, reason: str) -> None:
        """The run ends; idempotent."""
        if self._closed or self._foreign():
            return
        self._closed = True
        found: list[Finding] = []
        if self._judging:
            self._try("rules", lambda: found.extend(self._live.finish()))
        self._announce(step, found)
        of_the_store = {part: message for part, message in reversed(self.failures) if part in ("store", "sealing")}
        for part, message in of_the_store.items():
            self.event("failure", step, part=part, message=message)
        if self._segment is None:  # otherwise nothing happened
            self.event("end", step, reason=reason)
        self._write("store", StoreWriter.close)
        self._writer = None  # what sinks still have to tell is no event of the run any more
        for sink in self._sinks:
            self._try(f"sink {type(sink).__name__}", sink.close)
        self._ask_sinks()

    def _judge(self, steps: Sequence[int], rows: Sequence[Rows], found: list[tuple[int, list[Finding]]]) -> None:
        for step, blocks, findings in self._live.extend(steps, rows, not self._at_once):
            found.append((step, findings))
            for block in blocks:
                self._write("store", StoreWriter.write_block, block)

    def _settled(self, step: int) -> list[tuple[int, list[Finding]]]:
        """What comes of judging what was put off."""
        found: list[Finding] = []
        if self._judging and self._live.waiting and not (self._at_once or self._closed):
            begin = perf_counter()
            self._judging = self._try("rules", lambda: found.extend(self._live.settle()))
            self._allowance.spend(step, perf_counter() - begin)
        return [(step, found)] if found else []

    def _tell(self, found: Sequence[tuple[int, Sequence[Finding]]]) -> None:
        for step, findings in found:
            self._announce(step, findings)
        self._stop_at_worst(found)

    def _announce(self, step: int, found: Sequence[Finding]) -> None:
        for finding in found:
            self._write("store", StoreWriter.write_finding, step, finding)
            logger.log(_LEVELS[finding.severity], "step %d: %s", step, finding_line(finding))
            for sink in self._sinks:
                self._try(f"sink {type(sink).__name__}", sink.write_finding, step, finding)
            if self._on_finding is not None:
                self._try("on_finding", self._on_finding, finding)

    def _stop_at_worst(self, found: Sequence[tuple[int, Sequence[Finding]]]) -> None:
        for step, findings in found:
            for finding in findings:
                if SEVERITIES.index(finding.severity) >= self._stop_at and finding.status == "active":
                    raise StopTraining(f"Stopped at step {step} as `stop_on` asked. {finding}")

    def _event(self, kind: str, step: int, **facts: Any) -> None:
        self._write("store", partial(StoreWriter.write_event, kind=kind, step=step, **facts))

    def _write(self, part: str, call: Callable[..., object], *arguments: object) -> None:
        """Have something done by the store, where this process has one."""
        if self._writer is not None:
            self._try(part, call, self._writer, *arguments)

    def _try(self, part: str, call: Callable[..., object], *arguments: object) -> bool:
        try:
            call(*arguments)
        except SealingError as error:  # every row is on disk all the same
            self.fail("sealing", error)
            return False
        except Exception as error:
            if part == "store":
                self._complete = False
            self.fail(part, error)
            return False
        return True

    def _foreign(self) -> bool:
        """Whether the run is written elsewhere: on rank 0, or by the process this one is a forked copy of."""
        return os.getpid() != self._process


def _step(record: Record) -> int:
    return record.step
