"""Standstill: training passes without an update."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Standstill:
    """Training passes were made, and no update followed.

    Attributes:
        step: The step that did not come about.
        passes: Forward passes in training since the last update.
        skipped: Updates that a gradient scaler left out since then.
    """

    step: int
    passes: int
    skipped: int

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Standstill":
        """From its event in the store; other keys are ignored."""
        return cls(*(int(plain[name]) for name in cls.__dataclass_fields__))
