"""Guard: counts the time spent inside auscult, and keeps its failures out of the training loop."""

import time
from collections.abc import Callable
from types import TracebackType

from auscult.core.errors import SetupError, StopTraining


class Guard:
    """A context manager: `with guard("log"): ...`; may be nested.

    Attributes:
        seconds: Time spent inside the outermost blocks since it was last set to 0.
        strict: Whether a `SetupError` still reaches the user, as it does before the first update.

    Args:
        failed: Told the part and the error; everything but `StopTraining` ends there.
    """

    def __init__(self, failed: Callable[[str, Exception], None]) -> None:
        self.seconds = 0.0
        self.strict = True
        self._failed = failed
        self._parts: list[str] = []
        self._begin = 0.0

    def __call__(self, part: str) -> "Guard":
        """Name the part that the block belongs to."""
        self._parts.append(part)
        return self

    def __enter__(self) -> None:
        if len(self._parts) == 1:
            self._begin = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        part = self._parts.pop()
        if not self._parts:
            self.seconds += time.perf_counter() - self._begin
        if not isinstance(error, Exception) or isinstance(error, StopTraining):
            return False
        if isinstance(error, SetupError) and self.strict:
            return False
        self._failed(part, error)
        return True
