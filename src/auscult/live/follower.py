"""Follower: reads one run while it goes on, once for however many viewers. Called from threads; knows no HTTP."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from auscult.core.errors import AuscultError
from auscult.core.finding import Finding
from auscult.core.run import Run, RunInfo
from auscult.live.condition import Condition, Facts
from auscult.live.increment import chart_points, map_cells
from auscult.live.lengths import require_names_of_usual_length
from auscult.live.listing import Entry, find_stranger
from auscult.live.mark import Mark
from auscult.live.processes import is_held
from auscult.live.pulse import Pulse, PulseTaker
from auscult.live.rendering import Rendering, render
from auscult.pages.charts import Pictures
from auscult.pages.wording import shown_lines
from auscult.reading import examine
from auscult.store.reader import load

logger = logging.getLogger("auscult")
Made = TypeVar("Made")
MOST_TEXT = 2000
PROCESSES_S = 10.0


class Unreadable(AuscultError):  # noqa: N818  (says what the run is)
    """A run that cannot be shown; the message does not say where on this machine the listed directory is."""


class Follower:
    """One run, read again whenever its files have grown.

    Attributes:
        entry: Its place in the listing.
        condition: What it is doing.
        info: Its identity; None if it cannot be read.
        facts: What its store says of its condition; None likewise.
        mark: How far it has been read; None likewise.
        findings: The findings, worst first: as the rules last found them, with what the monitor has told since.
        findings_told: How often it told one.
        is_judged: Whether the rules were asked, or are being asked, about all that was read. The monitor does not tell
            of findings that hold no more, and nobody of those in a run that was imported.
        rendering: Its page as it was last made; None before.

    Args:
        root: The directory that is listed, resolved.
        entry: The run.
    """

    def __init__(self, root: Path, entry: Entry) -> None:
        self.entry = entry
        self.condition = Condition("unreadable", "not read yet")
        self.info: RunInfo | None = None
        self.facts: Facts | None = None
        self.mark: Mark | None = None
        self.findings: list[Finding] = []
        self.findings_told = 0
        self.is_judged = True
        self.rendering: Rendering | None = None
        self._root = root
        self._taker = PulseTaker(entry.path)
        self._pulse: Pulse | None = None
        self._looked = self._grown = -inf  # when it was last taken, and last grew, by a clock that nobody sets
        self._run: Run | None = None
        self._error = "not read yet"
        self._verdict: tuple[Mark, tuple[Finding, ...]] | None = None  # how far the run was, and what was found in it
        self._skip_damage = False
        self._process: tuple[float, bool | None] = -inf, False  # when it was last looked for, and whether it was there
        self._reading = threading.RLock()
        self._drawing = threading.Lock()

    @property
    def last_step(self) -> int:
        """The last recorded step; -1 if there is none."""
        return -1 if self.facts is None else self.facts.last_step

    @property
    def written(self) -> float:
        """When its files last grew, seconds since the epoch; 0 before the first look."""
        return 0.0 if self._pulse is None else self._pulse.written

    def look(self) -> bool:
        """Read what was written since the last look. Returns whether anything was, or whether its condition changed."""
        with self._reading:
            before = self.condition.word
            pulse, now = self._taker.take(), time.monotonic()
            grown = self._pulse is None or pulse.shape != self._pulse.shape
            if grown:
                longest = now - self._looked if self._pulse is not None and pulse.sizes != self._pulse.sizes else inf
                self._grown = now - min(max(0.0, time.time() - pulse.written), longest)  # clocks differ, and are set
                self._pulse = pulse
                self._read()
            self._looked = now
            self.condition = self._judged(pulse.written)
            return grown or self.condition.word != before

    def points(self, drawn: Pictures, first: int, last: int) -> list[dict[str, Any]]:
        """The points of what is drawn from one step to another.

        Raises:
            Unreadable: if the run cannot be read.
        """
        return self._of_what_is_whole(lambda run: chart_points(run, drawn, first, last))

    def cells(self, drawn: Pictures, metric: str, first: int, last: int) -> dict[str, Any] | None:
        """The cells of a heat map of the page from one step to another; None where they would tell no more.

        Raises:
            Unreadable: if the run cannot be read.
        """
        return self._of_what_is_whole(lambda run: map_cells(run, drawn, metric, first, last))

    def render(self) -> Rendering:
        """Make the page of what was last read.

        Raises:
            Unreadable: if the run cannot be read.
        """
        with self._drawing:
            run, made = self._of_what_is_whole(
                lambda run: (run, render(run, Mark.of(run, Facts.of(run).last_step))), to_judge=True
            )
            self.rendering = made
            self._take(run, made.mark, made.findings)
            return made

    def judge(self) -> None:
        """Ask the rules about what was last read; of a run that cannot be read it stays as it is."""
        try:
            run, found = self._of_what_is_whole(lambda run: (run, examine(run)[0]), to_judge=True)
        except Unreadable:
            self.is_judged = True
            return
        self._take(run, Mark.of(run, Facts.of(run).last_step), found)

    def release(self) -> None:
        """Keep no more than the listing shows: nobody looks at the run itself."""
        self._run = self.rendering = None

    def _of_what_is_whole(self, make: Callable[[Run], Made], to_judge: bool = False) -> Made:
        """What is made of the run; where it turns out to be damaged, of what is left of it."""
        try:
            return make(self._loaded(to_judge))
        except Unreadable:
            raise
        except Exception as error:  # whatever a store holds, the server stays up
            if self._skip_damage or not isinstance(error, OSError):
                logger.warning("%s cannot be shown", self.entry.place, exc_info=error)
                raise Unreadable(self._told(error)) from error
        with self._reading:
            self._skip_damage = True
            self._read()
        return self._of_what_is_whole(make, to_judge)

    def _loaded(self, to_judge: bool) -> Run:
        with self._reading:
            run = self._run  # which may be released at any moment
            if run is None and self.facts is not None:
                run = self._read()
            if run is None:
                raise Unreadable(self._error)
            self.is_judged = self.is_judged or to_judge  # until more is read, which may be meanwhile
            return run

    def _read(self) -> Run | None:
        """Read the run; what was known of it stays until that is done, because the listing looks at it meanwhile."""
        stranger = find_stranger(self._root, self.entry.path)
        if stranger is not None:
            self._lose(stranger)
            return None
        try:
            run = load(self.entry.path, skip_damage=self._skip_damage)
            require_names_of_usual_length(run)
            run = replace(run, damage=tuple(self._without_place(each) for each in run.damage))
            facts = Facts.of(run)
        except Exception as error:
            if self._skip_damage or not isinstance(error, OSError):
                self._lose(self._told(error))
                return None
            self._skip_damage = True
            return self._read()
        self.findings_told = len(run.findings)
        self._run, self.info, self.facts, self.mark = run, run.info, facts, Mark.of(run, facts.last_step)
        self.findings, self.is_judged = self._known(run), False
        return run

    def _take(self, run: Run, mark: Mark, found: Sequence[Finding]) -> None:
        """What the rules found in a run; more of it may have been read meanwhile."""
        with self._reading:
            self._verdict = mark, tuple(found)
            self.findings = self._known(self._run or run)

    def _known(self, run: Run) -> list[Finding]:
        """What the rules last found in the run, and what its monitor has told since."""
        if self._verdict is not None and self.mark is not None and self._verdict[0].way_to(self.mark) == "anew":
            self._verdict = None
        mark, found = self._verdict or (None, ())
        told = [finding for step, finding in run.findings if mark is None or step > mark.step]
        return sorted({each.key: each for each in (*found, *told)}.values(), key=lambda each: each.rank)

    def _lose(self, error: str) -> None:
        self._run = self.info = self.facts = self.mark = None
        self._error = error

    def _judged(self, written: float) -> Condition:
        facts, now = self.facts, written + time.monotonic() - self._grown
        if facts is None:
            return Condition("unreadable", self._error)
        alive = self._is_alive(facts) if facts.is_quiet(written, now) else None
        return facts.condition(written, now, alive)

    def _is_alive(self, facts: Facts) -> bool | None:
        """Whether a process has the run's files open. Once it is gone it is not looked for again until they grow."""
        (looked, alive), now = self._process, time.monotonic()
        if looked <= self._grown or (alive is not False and now - looked > PROCESSES_S):
            alive = is_held(self.entry.path, facts.host)
            self._process = now, alive
        return alive

    def _told(self, error: Exception) -> str:
        kind = "" if isinstance(error, AuscultError | OSError) else f"{type(error).__name__}: "
        return shown_lines(self._without_place(f"{kind}{error}")[:MOST_TEXT])

    def _without_place(self, text: str) -> str:
        """A message about a file, without the place of the listed directory on this machine."""
        return text.replace(f"{self._root}{os.sep}", "").replace(str(self._root), ".")
