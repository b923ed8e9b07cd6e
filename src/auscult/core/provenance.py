"""Provenance: where a run comes from that auscult did not record itself, and what became of its log on the way."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["finished", "failed", "running", "unknown"]
OWN = "auscult"
"""By this name auscult's sinks say in a tracker that a run of it is theirs, so that its log comes back as it was."""
NAMED = f"{OWN}.name."
"""And by this, with some digits that end a key, what the key is the name of, where the tracker took it only changed."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is known of an imported run besides its numbers.

    Attributes:
        tool: What logged it: `TensorBoard`, `W&B`, `MLflow`, `transformers`, `CSV`, `JSON Lines`.
        source: The file or directory it was read from.
        state: How it ended, as far as its log says.
        renamed: Names that became others, because these mean the same: old name to new one.
        left_out: What was met and is no number over steps, as `histogram`, and how often.
        notes: Sentences on what was replaced, withdrawn or damaged.
    """

    tool: str
    source: str
    state: State = "unknown"
    renamed: Mapping[str, str] = field(default_factory=dict[str, str])
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Provenance":
        """The inverse of `to_dict`; keys that are not its own are ignored."""
        names = ("tool", "source", "state", "renamed", "left_out")
        return cls(**{name: plain[name] for name in names}, notes=tuple(plain["notes"]))
