"""Guard: counts the time spent inside auscult, and keeps its failures out of the training loop."""

import time
from collections.abc import Callable
from threading import RLock
from types import TracebackType

from auscult.core.errors import SetupError, StopTraining


class Guard:
    """Makes context managers: `with guard("log"): ...`; may be nested, and entered by one thread at a time.

    Attributes:
        seconds: Time spent inside the outermost blocks since it was last set to 0.
        strict: Whether a `SetupError` still reaches the user, as it does before the first update.
        failed: Told the part and the error; everything but `StopTraining` ends there.
    """

    def __init__(self, failed: Callable[[str, Exception], None]) -> None:
        self.seconds = 0.0
        self.strict = True
        self.failed = failed
        self.lock = RLock()
        self.depth = 0
        self.begin = 0.0
        self._blocks: dict[str, GuardedBlock] = {}

    def __call__(self, part: str) -> "GuardedBlock":
        """A block that belongs to a part of the monitor."""
        block = self._blocks.get(part)
        if block is None:
            block = self._blocks[part] = GuardedBlock(self, part)
        return block


class GuardedBlock:
    """The `with` blocks of one part."""

    __slots__ = ("_guard", "_part")

    def __init__(self, guard: Guard, part: str) -> None:
        self._guard = guard
        self._part = part

    def __enter__(self) -> None:
        guard = self._guard
        guard.lock.acquire()
        if guard.depth == 0:
            guard.begin = time.perf_counter()
        guard.depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        guard = self._guard
        guard.depth -= 1
        if guard.depth == 0:
            guard.seconds += time.perf_counter() - guard.begin
        try:
            if not isinstance(error, Exception) or isinstance(error, StopTraining):
                return False
            if isinstance(error, SetupError) and guard.strict:
                return False
            guard.failed(self._part, error)
            return True
        finally:
            guard.lock.release()
