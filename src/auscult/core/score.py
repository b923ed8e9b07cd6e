"""Voice and Score: what to hear, as numbers; one score, any renderer.

Knows neither runs nor samples. A renderer plays voices and multiplies their sum by the gain, no more: earcons are
voices too; tremolo, fades and equal loudness are in the amplitudes. `to_dict` gives the JSON form.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import SetupError
from auscult.core.glance import glance, listing, sparkline
from auscult.core.visible import shown_lines

MAX_SHOWN = 8
"""Voices and events that a notebook shows."""

Timbre = Literal["sine", "warm", "hollow", "bright", "dull", "brilliant", "pair", "reed", "alarm"]
Part = Literal["layers", "context", "alerts"]
EventKind = Literal["nan", "zero", "missing", "stalled", "excursion", "finding", "legend"]

CAPTION_SECONDS = 3.0
MAX_NAMED = 3
"""Voices that the summary names; of more it says how many."""

SUMMARY = "auscult: "
"""How a summary begins, so that a transcript is known by its first line."""

TIMBRES: Mapping[Timbre, tuple[float, tuple[float, ...]]] = MappingProxyType(
    {
        "sine": (1.0, (1.0,)),
        "warm": (0.5, (0.5, 1.0, 0.0, 0.3)),
        "hollow": (1.0, (1.0, 0.0, 0.4, 0.0, 0.25)),
        "bright": (1.0, (1.0, 0.85, 0.3, 0.5, 0.15, 0.3)),
        "dull": (1.0, (1.0, 0.1)),
        "brilliant": (1.0, (0.0, 0.0, 1.0, 0.0, 0.8, 0.0, 0.6)),
        "pair": (1.0, (1.0, 1 / sqrt(2))),
        "reed": (1.0, tuple(1 / sqrt(k) for k in range(1, 5))),
        "alarm": (1.0, tuple(1 / sqrt(k) for k in range(1, 7))),
    }
)
"""Timbre to (lowest partial relative to the pitch, weights of its multiples 1, 2, 3, ...)."""


def timbre_weights(timbre: Timbre) -> tuple[float, NDArray[np.float64]]:
    """Lowest partial relative to the pitch, and the weights `(P,)` of its multiples, scaled to the power of a sine."""
    foot, weights = TIMBRES[timbre]
    return foot, np.array(weights) / np.linalg.norm(weights)


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
        ramp: Seconds in which a glide begins and ends (linear) and each tone does (raised cosine); 0 for none.
        part: `layers` for what drives the pitch, `context` for loss, lr, clipping and epochs, `alerts` for earcons.
    """

    name: str
    times: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    amplitudes: NDArray[np.float64]
    durations: NDArray[np.float64] | None = None
    timbre: Timbre = "sine"
    pan: float = 0.0
    ramp: float = 0.005
    part: Part = "layers"

    def __post_init__(self) -> None:
        lengths = {len(self.times), len(self.frequencies), len(self.amplitudes)}
        if len(lengths) != 1 or (self.durations is not None and len(self.durations) not in lengths):
            raise SetupError(
                f"Expected the arrays of voice {self.name!r} to be equally long, but got {sorted(lengths)}."
            )
        gaps = np.diff(self.times)
        if not ((gaps > 0) if self.durations is None else (gaps >= 0)).all():
            raise SetupError(f"Expected the times of voice {self.name!r} to increase, but they do not.")
        if not (np.isfinite(self.frequencies).all() and np.isfinite(self.amplitudes).all()):
            raise SetupError(
                f"Expected voice {self.name!r} to have finite frequencies and amplitudes, but some are not. "
                "Missing and non-finite data are events or silence, never numbers to play."
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types; `partials` are pairs of (frequency / pitch, amplitude / the voice's amplitude)."""
        foot, weights = timbre_weights(self.timbre)
        return {
            "name": self.name,
            "part": self.part,
            "timbre": self.timbre,
            "partials": [[foot * k, weight] for k, weight in enumerate(weights.tolist(), 1) if weight],
            "pan": self.pan,
            "ramp": self.ramp,
            "times": self.times.tolist(),
            "frequencies": self.frequencies.tolist(),
            "amplitudes": self.amplitudes.tolist(),
            "durations": None if self.durations is None else self.durations.tolist(),
        }


@dataclass(frozen=True, slots=True)
class SoundEvent:
    """Something that is heard at one moment, in words.

    Attributes:
        time: Seconds from the start.
        kind: What happens. `nan`, `stalled`, `excursion` and `finding` have an earcon among the voices; of `zero` and
            `missing` the voices themselves tell; `legend` says what is heard in a legend.
        text: The same in words.
        step: The step it stands for.
        severity: Of the finding, where it is one.
    """

    time: float
    kind: EventKind
    text: str
    step: int
    severity: str | None = None

    @property
    def line(self) -> str:
        """The text on one line, with nothing hidden in it."""
        return shown_lines(self.text)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "time": self.time,
            "kind": self.kind,
            "text": self.text,
            "step": self.step,
            "severity": self.severity,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """What to hear.

    Attributes:
        title: The run's name.
        mapping: Name of the mapping that made it.
        duration: Seconds.
        voices: The lines; those of the layers come first.
        events: What happens, in time order.
        step_times: Seconds at which `steps` begin, float64 `(M,)`, increasing: the playhead's map.
        steps: int64 `(M,)`, increasing.
        channels: 1 or 2.
        references: Voice to the value against which its pitch is measured; makes a resumed run sound the same.
        gain: By what the sum of the voices is multiplied; it was measured, so that the sound has -23 LUFS and at most
            -1 dBTP.
        mode: Name of the mode that made it.
        metric: What drives the pitch.
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
    gain: float = 1.0
    mode: str = "mix"
    metric: str = "grad_norm"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "title": self.title,
            "mapping": self.mapping,
            "mode": self.mode,
            "metric": self.metric,
            "duration": self.duration,
            "channels": self.channels,
            "gain": self.gain,
            "references": dict(self.references),
            "steps": self.steps.tolist(),
            "step_times": self.step_times.tolist(),
            "voices": [voice.to_dict() for voice in self.voices],
            "events": [event.to_dict() for event in self.events],
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

    @property
    def summary(self) -> str:
        """How long the sound is, what is heard, and how much of it is told in events, on one line."""
        layers = [each for each in self.voices if each.part == "layers" and each.amplitudes.any()]
        heard = list(dict.fromkeys(each.name.removesuffix(", zero") for each in layers))
        names = shown_lines(", ".join(heard)) if 0 < len(heard) <= MAX_NAMED else f"{len(heard) or 'no'} layers"
        steps = f"steps {self.steps[0]:,} to {self.steps[-1]:,}" if len(self.steps) else "no step was recorded"
        told = {0: "nothing was found", 1: "1 event"}.get(len(self.events), f"{len(self.events)} events")
        about = f"{shown_lines(self.title)}, {self.duration:.1f} s of sound, {steps}"
        return f"{SUMMARY}{about}; {names} by {self.metric} ({self.mapping}, {self.mode}); {told}."

    def transcript(self) -> str:
        """Every event in words, one line each, in order."""
        return "\n".join(f"{event.time:8.2f} s  step {event.step}: {event.line}" for event in self.events)

    def captions(self) -> str:
        """Every event as a caption of three seconds, in WebVTT; without any the summary is one, from the beginning."""
        cues = [f"WEBVTT - {_escaped(shown_lines(self.title))}"]
        for number, event in enumerate(self.events, 1):
            span = f"{_clock(event.time)} --> {_clock(event.time + CAPTION_SECONDS)}"
            cues.append(f"{number}\n{span}\nstep {event.step}: {_escaped(event.line)}")
        if not self.events:
            cues.append(f"1\n{_clock(0.0)} --> {_clock(CAPTION_SECONDS)}\n{_escaped(self.summary)}")
        return "\n\n".join(cues) + "\n"


def _clock(seconds: float) -> str:
    """Seconds as WebVTT writes them, `00:01:02.345`."""
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
