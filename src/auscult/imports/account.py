"""Account: what a reader tells of a foreign run besides its numbers.

A reader fills it while it reads, because many formats say only at their end what the run was called or how it ended.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from auscult.core.errors import StoreError
from auscult.core.provenance import State

SKIP = "Get the whole file, or leave out what is lost: --skip-damage (`import_runs(..., skip_damage=True)`)."


@dataclass(slots=True)
class Account:
    """What is known of one foreign run.

    Attributes:
        name: What the tool calls it.
        skip_damage: Whether damage is listed instead of raised.
        id: The tool's own name for it, `""` if it has none.
        created: When it began, seconds since the epoch; 0 where that is not known.
        state: How it ended, as far as the tool says.
        config: Its hyperparameters.
        versions: Versions of what wrote it, by name.
        command: The command that ran it.
        host: Where it ran.
        git_commit: The commit of its code.
        trainer: The library whose trainer logged the numbers, where the log says so; some names mean more then.
        own: Whether a sink of auscult logged what comes next, under keys that tell metric and path.
        left_out: What was met and is no number over steps, as `histogram`, and how often.
        damage: What could not be read, where that is skipped.
        on_bytes: Called with how much was read since the last call, in the unit of `ForeignRun.size`.
    """

    name: str
    skip_damage: bool = False
    id: str = ""
    created: float = 0.0
    state: State = "unknown"
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    versions: dict[str, str] = field(default_factory=dict[str, str])
    command: tuple[str, ...] = ()
    host: str = ""
    git_commit: str | None = None
    trainer: str = ""
    own: bool = False
    left_out: Counter[str] = field(default_factory=Counter[str])
    damage: list[str] = field(default_factory=list[str])
    on_bytes: Callable[[int], object] = lambda _: None

    def report_damage(self, message: str) -> None:
        """Something of the log cannot be read.

        Raises:
            StoreError: unless damage is skipped.
        """
        if not self.skip_damage:
            raise StoreError(f"{message} {SKIP}")
        self.damage.append(message)

    def began(self, time: float) -> None:
        """Something of the run is this old, in seconds since the epoch."""
        if 0 < time < inf and (self.created == 0 or time < self.created):
            self.created = time
