"""Draft: what is known of one step before its rows are written.

A step stays open after its update, because what users log then still belongs to it; its rows are made when the next
forward pass begins.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby

import numpy as np
from torch import Tensor

from auscult.core.catalogue import METRICS
from auscult.core.metric import Stream
from auscult.core.sink import Channel, Record, Rows, empty_rows, observed
from auscult.metrics.activations import Taken
from auscult.metrics.examination import Examination
from auscult.metrics.transfer import Transfer

OVERHEAD, STEP_TIME, THROUGHPUT = (Channel(name, "") for name in ("overhead_time", "step_time", "throughput"))

# Names that auscult records or derives for the whole run; a user's number under one of them would hide ours.
_TAKEN = {
    each.name for each in METRICS.values() if each.stream in ("steps", "norms", "sampled") and each.scope != "group"
}


@dataclass(slots=True)
class Draft:
    """One step in progress.

    Attributes:
        step: Its number.
        steps: Values of the stream `steps` by channel.
        logged: What the user logged, by channel: all values of the step, numbers or tensors still on their device.
        evaluated: What the user logged of evaluations, likewise.
        sums: Numerator and denominator by category channel.
        samples: Samples that went into the model.
        norms_taken: Whether the ledger holds norms of this step.
        sampled: Whether it is a step of the sampling schedule.
        activations: What the activation hooks saw, where they were armed.
        witnessed: Brings what was seen of the loss call, the batch and the mode to the host, by name of the metric.
        examination: Collects everything about the step, where that is wanted.
        transfer: Brings what was logged to the host.
        due: Whether norms and samples were due by the schedule alone, which is the same on all ranks.
        passes: Training passes of the model.
        backward_at: When the first backward pass began, by `time.perf_counter`, without the time spent in auscult since
            the update before; on one of several ranks.
        forward_time: How long that was after the update before; 0 where it is not known.
        batch: Shape and fingerprint of what the model was called with, on a sampled step.
        prints: Sums of the bits of the parameters after the update, by kind of sharding, on one of several ranks.
        clip_bound: What the norm was clipped to, where only all ranks together can tell the norm.
    """

    step: int
    steps: dict[Channel, float | Tensor] = field(default_factory=dict[Channel, "float | Tensor"])
    logged: dict[Channel, "list[float | Tensor]"] = field(default_factory=dict[Channel, "list[float | Tensor]"])
    evaluated: dict[Channel, "list[float | Tensor]"] = field(default_factory=dict[Channel, "list[float | Tensor]"])
    sums: dict[Channel, tuple[float, float]] = field(default_factory=dict[Channel, tuple[float, float]])
    samples: int = 0
    norms_taken: bool = False
    sampled: bool = False
    activations: Taken | None = None
    witnessed: Callable[[], Mapping[str, float]] | None = None
    examination: Examination | None = None
    transfer: Transfer = field(default_factory=Transfer)
    due: tuple[bool, bool] = (False, False)
    passes: int = 0
    backward_at: float = 0.0
    batch: tuple[tuple[int, ...], Tensor] | None = None
    forward_time: float = 0.0
    prints: "list[list[int | Tensor]]" = field(default_factory=list["list[int | Tensor]"])
    clip_bound: float | None = None

    def send(self) -> None:
        """Nothing is added any more: what lies on a GPU sets out for the host."""
        for values in (*self.logged.values(), *self.evaluated.values()):
            values[:] = self._sent(values)
        self.steps.update(zip(self.steps, self._sent(list(self.steps.values())), strict=True))

    def _sent(self, values: "list[float | Tensor]") -> "list[float | Tensor]":
        there = [each for each in values if isinstance(each, Tensor)]
        host = iter(self.transfer.send(there))
        return [next(host) if isinstance(each, Tensor) else each for each in values]

    def add_times(self, inside: float, whole: float | None) -> None:
        """Take what the step took: seconds inside auscult, and from the update before; None for the first."""
        self.steps[OVERHEAD] = inside
        if whole is not None:
            self.steps[STEP_TIME] = whole
            if self.samples:
                self.steps[THROUGHPUT] = self.samples / whole

    @property
    def sound(self) -> bool:
        """Whether every logged number that is known to the host is finite."""
        for values in self.logged.values():
            for value in values:
                if not isinstance(value, Tensor) and value - value != 0:
                    return False
        return True

    @property
    def told(self) -> bool:
        """Whether the user logged anything."""
        return bool(self.logged or self.evaluated or self.sums)

    def add_logged(self, values: Mapping[str, float | Tensor]) -> None:
        """Take what the user logged; repeats of a name are averaged when the row is made."""
        for name, value in values.items():
            self.logged.setdefault(user_channel(name), []).append(value)

    def add_evaluated(self, name: str, values: Mapping[str, float | Tensor]) -> None:
        """Take one evaluation, under `name/metric`."""
        for metric, value in values.items():
            self.evaluated.setdefault(Channel(f"{name}/{metric}", ""), []).append(value)

    def add_sums(self, sums: Mapping[tuple[str, str], tuple[float, float]]) -> None:
        """Take losses by category; sums add up over the calls of a step."""
        for (metric, category), (above, below) in sums.items():
            numerator, denominator = self.sums.get(Channel(metric, category), (0.0, 0.0))
            self.sums[Channel(metric, category)] = (numerator + above, denominator + below)

    def user_values(self) -> dict[Channel, float]:
        """Everything the user logged in this step, averaged and on the host."""
        values = {channel: _mean(many) for channel, many in self.logged.items()}
        for channel, (above, below) in self.sums.items():
            values[channel] = above / below if below else above
        return values

    def evaluation_values(self) -> dict[Channel, float]:
        """Everything the user logged of evaluations, averaged and on the host."""
        return {channel: _mean(many) for channel, many in self.evaluated.items()}


class Columns:
    """The columns of one stream, only ever appended to."""

    def __init__(self, stream: Stream, channels: tuple[Channel, ...] = ()) -> None:
        self.stream: Stream = stream
        self.channels = channels
        self._index = {channel: position for position, channel in enumerate(channels)}
        self._latest: tuple[Channel, ...] = ()  # of the last rows, and where they are
        self._places: list[int] = []

    def __contains__(self, channel: Channel) -> bool:
        return channel in self._index

    def rows(self, told: Sequence[tuple[int, Mapping[Channel, float]]]) -> Iterator[Rows]:
        """Rows with these values by step; channels not seen before become columns."""
        for latest, group in groupby(told, key=lambda each: tuple(each[1])):
            if latest != self._latest:
                self._latest, self._places = latest, self.positions(latest)
            steps, values = zip(*group, strict=True)
            table = empty_rows(self.stream, len(steps), len(self.channels))
            table[:, self._places] = [list(each.values()) for each in values]
            yield Rows(self.stream, np.array(steps, np.int64), self.channels, table)

    def positions(self, channels: Sequence[Channel]) -> list[int]:
        """Positions of channels, which become columns where they are new."""
        new = tuple(channel for channel in channels if channel not in self._index)
        for channel in new:
            self._index[channel] = len(self._index)
        if new:
            self.channels = (*self.channels, *new)
        return [self._index[channel] for channel in channels]


@cache
def user_channel(name: str) -> Channel:
    """Where a user's number is kept: under its own name, or `user/name` where auscult records that name itself."""
    return Channel(f"user/{name}" if name in _TAKEN else name, "")


def is_finite(record: Record) -> bool:
    """Whether every observed number of a row is finite."""
    return bool(np.isfinite(record.values[observed(record.values)]).all())


def _mean(values: "list[float | Tensor]") -> float:
    return float(values[0]) if len(values) == 1 else sum(map(float, values)) / len(values)
