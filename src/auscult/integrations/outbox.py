"""Outbox: what waits for a tracker, delivered in order by a thread of its own.

The training only ever puts something in. What a tracker does (raise, block, be down for an hour) happens on the thread.
"""

import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import NamedTuple

from auscult.core.errors import SinkError

ROOM = 1_000_000
"""Numbers that may wait, 8 MB of them; beyond that the oldest are dropped."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds without an attempt after one failure, doubled with every further one in a row."""

Delivery = Callable[[], object]


class Letter(NamedTuple):
    """Something to deliver.

    Attributes:
        deliver: Delivers it; may raise.
        size: Numbers in it; 0 for what is never dropped.
    """

    deliver: Delivery
    size: int


class Outbox:
    """Delivers what it is given, in order, each at most once.

    A letter whose delivery raises is lost, and a pause follows. If more than `ROOM` numbers wait, the oldest are
    dropped; findings and files, which have no size, never are.

    Attributes:
        lost: Letters with a size that were not delivered so far.
        delivered: Those that were.

    Args:
        name: What the recipient is called in messages.
        open_recipient: Prepares the recipient, first of all and on the thread; if it raises, all is lost.
    """

    def __init__(self, name: str, open_recipient: Delivery) -> None:
        self.lost = self.delivered = 0
        self._name = name
        self._open_recipient = open_recipient
        self._waiting: deque[Letter] = deque()
        self._size = 0
        self._changed = Condition()
        self._closing = self._shut = False
        self._trouble: list[SinkError] = []
        self._thread = Thread(target=self._run, name=f"auscult to {name}", daemon=True)
        self._thread.start()

    def put(self, deliver: Delivery, size: int = 0) -> None:
        """Have something delivered; never waits for the recipient."""
        with self._changed:
            if self._shut:
                self.lost += size > 0
                return
            self._waiting.append(Letter(deliver, size))
            self._size += size
            if self._size > ROOM:
                self._make_room()
            self._changed.notify()

    def trouble(self) -> SinkError | None:
        """What went wrong since this was last asked."""
        with self._changed:
            return self._trouble.pop(0) if self._trouble else None

    def close(self, seconds: float) -> None:
        """Deliver what waits, for so many seconds at most; what then still waits is lost."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            self._shut = True
            left = sum(letter.size > 0 for letter in self._waiting)
            if self._thread.is_alive():
                self.lost += left
                self._waiting.clear()
                busy = f"to take the rest within {seconds:g} s, but it is still busy"
                self._tell(busy, f"What waited ({left} steps) is not there.")

    def _make_room(self) -> None:
        """Drop the oldest letters that may be dropped, until what waits has half the room."""
        kept: list[Letter] = []
        for letter in self._waiting:
            if self._size > ROOM // 2 and letter.size:
                self._size -= letter.size
                self.lost += 1
            else:
                kept.append(letter)
        self._waiting = deque(kept)
        self._tell(f"to keep up, but more than {ROOM:,} numbers wait", "The oldest are dropped.")

    def _tell(self, what: str, consequence: str) -> None:
        kept = "The run's own files hold everything."
        self._trouble.append(SinkError(f"Expected {self._name} {what}. {consequence} {kept}"))

    def _run(self) -> None:
        try:
            self._open_recipient()
        except Exception as error:
            with self._changed:
                self._shut = True
                self.lost += sum(letter.size > 0 for letter in self._waiting)
                self._waiting.clear()
                cause = str(error) if isinstance(error, SinkError) else f"{type(error).__name__}: {error}"
                self._tell(f"to begin a run, but got {cause}", "Nothing is sent there.")
            return
        self._deliver_all()

    def _deliver_all(self) -> None:
        pause = FIRST_PAUSE
        while (letter := self._next()) is not None:
            try:
                letter.deliver()
                done = True
            except Exception as error:
                done = False
                with self._changed:
                    self._tell(
                        f"to take what it is sent, but got {type(error).__name__}: {error}",
                        "What it does not take is not sent again.",
                    )
            with self._changed:
                self.delivered += done and letter.size > 0
                self.lost += not done and letter.size > 0
                if not done:
                    self._rest(pause)
            pause = FIRST_PAUSE if done else min(2 * pause, LONGEST_PAUSE)

    def _next(self) -> Letter | None:
        """The oldest letter, as soon as there is one; None at the end."""
        with self._changed:
            while not self._waiting:
                if self._closing or self._shut:
                    return None
                self._changed.wait()
            letter = self._waiting.popleft()
            self._size -= letter.size
            return letter

    def _rest(self, seconds: float) -> None:
        """Wait, but not beyond the end of the run."""
        end = time.monotonic() + seconds
        while not self._closing and (left := end - time.monotonic()) > 0:
            self._changed.wait(left)
