"""Voice and Score: what to hear, as numbers; one score, any renderer.

Knows neither runs nor samples. `to_dict` gives the JSON form.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import SetupError
from auscult.core.glance import glance, listing, sparkline

Timbre = Literal["sine", "warm", "hollow", "bright"]
MAX_SHOWN = 8
"""Voices and events that a notebook shows."""

EventKind = Literal["nan", "finding", "tick"]


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """One line of the score.

    Attributes:
        name: What it stands for, as `early layers` or a path.
        times: Seconds from the start, float64 `(N,)`, increasing. Between two times log frequency and amplitude are
            interpolated linearly (a `glide`) or held and gated (a `tones` voice).
        frequencies: Hz, float64 `(N,)`, finite and > 0.
        amplitudes: 0 to 1, float64 `(N,)`; 0 is silence.
        durations: For a voice of separate tones, seconds each lasts, float64 `(N,)`; None for a gliding voice.
        timbre: Harmonic content.
        pan: -1 (left) to 1 (right).
    """

    name: str
    times: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    amplitudes: NDArray[np.float64]
    durations: NDArray[np.float64] | None = None
    timbre: Timbre = "sine"
    pan: float = 0.0

    def __post_init__(self) -> None:
        lengths = {len(self.times), len(self.frequencies), len(self.amplitudes)}
        if len(lengths) != 1 or (self.durations is not None and len(self.durations) not in lengths):
            raise SetupError(
                f"Expected the arrays of voice {self.name!r} to be equally long, but got {sorted(lengths)}."
            )
        if not (np.isfinite(self.frequencies).all() and np.isfinite(self.amplitudes).all()):
            raise SetupError(
                f"Expected voice {self.name!r} to have finite frequencies and amplitudes, but some are not. "
                "Missing and non-finite data are events or silence, never numbers to play."
            )


@dataclass(frozen=True, slots=True)
class SoundEvent:
    """Something that happens at one moment: an earcon with its text twin.

    Attributes:
        time: Seconds from the start.
        kind: Which earcon.
        text: The same in words.
        step: The step it stands for.
        severity: Of the finding, where it is one.
    """

    time: float
    kind: EventKind
    text: str
    step: int
    severity: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """What to hear.

    Attributes:
        title: The run's name.
        mapping: Name of the mapping that made it.
        duration: Seconds.
        voices: The lines.
        events: Earcons, in time order.
        step_times: Seconds at which `steps` begin, float64 `(M,)`, increasing: the playhead's map.
        steps: int64 `(M,)`, increasing.
        channels: 1 or 2.
        references: Path to the reference value against which its pitch is measured; makes a resumed run sound the same.
        loudness: Target in LUFS of the rendered audio; None leaves amplitudes as they are.
    """

    title: str
    mapping: str
    duration: float
    voices: tuple[Voice, ...]
    events: tuple[SoundEvent, ...] = ()
    step_times: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    steps: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    channels: int = 2
    references: Mapping[str, float] = field(default_factory=dict[str, float])
    loudness: float | None = -23.0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "title": self.title,
            "mapping": self.mapping,
            "duration": self.duration,
            "channels": self.channels,
            "loudness": self.loudness,
            "references": dict(self.references),
            "steps": self.steps.tolist(),
            "step_times": self.step_times.tolist(),
            "voices": [
                {
                    "name": voice.name,
                    "timbre": voice.timbre,
                    "pan": voice.pan,
                    "times": voice.times.tolist(),
                    "frequencies": voice.frequencies.tolist(),
                    "amplitudes": voice.amplitudes.tolist(),
                    "durations": None if voice.durations is None else voice.durations.tolist(),
                }
                for voice in self.voices
            ],
            "events": [
                {
                    "time": event.time,
                    "kind": event.kind,
                    "text": event.text,
                    "step": event.step,
                    "severity": event.severity,
                }
                for event in self.events
            ],
        }

    def _repr_html_(self) -> str:
        facts = [("mapping", self.mapping), ("length", f"{self.duration:.1f} s"), ("channels", f"{self.channels}")]
        if len(self.steps):
            facts.append(("steps", f"{self.steps[0]:,} to {self.steps[-1]:,}"))
        drawn: list[str] = []
        for voice in self.voices[:MAX_SHOWN]:
            heard = np.where(voice.amplitudes > 0, voice.frequencies, np.nan)
            if np.isfinite(heard).any():
                facts.append((voice.name, f"{np.nanmin(heard):,.0f} to {np.nanmax(heard):,.0f} Hz"))
                drawn.append(f"<div>{sparkline(heard, f'{voice.name}: pitch over time')}</div>")
            else:
                facts.append((voice.name, "silent"))
        if len(self.voices) > MAX_SHOWN:
            facts.append(("further voices", f"{len(self.voices) - MAX_SHOWN:,}"))
        return glance(f"Score of {self.title}", facts, *drawn, listing(self.transcript().splitlines(), MAX_SHOWN))

    def transcript(self) -> str:
        """Every event in words, one line each, in order."""
        return "\n".join(f"{event.time:8.2f} s  step {event.step}: {event.text}" for event in self.events)
