"""Excerpt: what a selection takes out of the rows of a run, step by step."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from auscult.core.detail import Detail, TensorDetail, TensorKind
from auscult.core.metric import Stream
from auscult.core.sink import Channel, Record, Values, observed
from auscult.integrations.selection import Selection, Sieve, key_of
from auscult.integrations.values import Table, carried, table_of, with_derived
from auscult.pages.wording import counted, listed

logger = logging.getLogger("auscult")
COEFFICIENT = Channel("clip_coefficient", "")


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A row that is wanted.

    Attributes:
        record: The row.
        latest: Its values with what was not observed as it last was, `(C,)`.
        whole: Whether numbers of the whole run are due.
        single: Whether numbers of single parameters and modules are due.
    """

    record: Record
    latest: Values | None
    whole: bool
    single: bool


@dataclass(slots=True, eq=False)
class Group:
    """The rows of one step that are wanted, and by what its gradients were clipped, where that is known."""

    step: int
    rows: list[Row] = field(default_factory=list[Row])
    coefficient: float | None = None

    @property
    def size(self) -> int:
        """Numbers in all rows."""
        return sum(len(each.record.values) for each in self.rows)


class Excerpt:
    """Gathers the rows of each step, and makes keys and values of them; the latter may happen on another thread.

    Args:
        selection: What is wanted.
        name: For whom, in messages.
    """

    def __init__(self, selection: Selection | None, name: str) -> None:
        self._name = name
        self._sieve = Sieve(selection or Selection())
        self._sent: Mapping[Stream, int] = {}
        self._group: Group | None = None
        self._latest: Values | None = None
        self._coefficient: tuple[int, float] = (-1, 1.0)
        self._channels: tuple[Channel, ...] = ()
        self._place = -1  # of the coefficient in these
        self._refused = 0

    def begin(self, sent: Mapping[Stream, int]) -> None:
        """Rows up to these steps were taken before, and are not wanted again."""
        self._sent = dict(sent)
        self._sieve.begin(sent)

    def add(self, record: Record) -> Group | None:
        """Take a row.

        Returns:
            The step before, to which nothing can be added any more, if anything of it is wanted.
        """
        stream, step = record.stream, record.step
        if stream == "norms":
            self._latest = carried(record, self._latest)
        elif stream == "steps":
            self._note_clipping(record)
        if step <= self._sent.get(stream, -1):
            return None
        whole, single = self._sieve.due(stream, step)
        if not (whole or single) or (stream == "user" and not self._sieve.news(step, observed(record.values))):
            return None
        done = self.rest() if self._group is not None and self._group.step != step else None
        if self._group is None:
            self._group = Group(step)
        kept = Record(stream, step, record.channels, record.values.copy())  # the row is part of a larger table
        latest = self._latest.copy() if stream == "norms" and self._latest is not None else None
        self._group.rows.append(Row(kept, latest, whole, single))
        if self._coefficient[0] == step:
            self._group.coefficient = self._coefficient[1]
        return done

    def rest(self) -> Group | None:
        """The step that came last, to which nothing will be added."""
        group, self._group = self._group, None
        return group

    def wants(self, detail: Detail) -> bool:
        """Whether the distributions of a step were not taken before."""
        return detail.step > self._sent.get("sampled", -1)

    def values(self, group: Group) -> dict[str, float]:
        """The numbers of a step by key."""
        values: dict[str, float] = {}
        for row in group.rows:
            told = row.record.stream in ("steps", "user", "evaluation")
            values.update(self._told(row.record) if told else self._measured(row, group.coefficient))
        self._say_what_is_refused()
        return values

    def histograms(self, detail: Detail) -> dict[str, TensorDetail]:
        """The distributions of a step by key, of tensors in which anything is finite."""
        chosen: dict[str, TensorDetail] = {}
        for kind in get_args(TensorKind):
            tensors = {each.path: each for each in detail.of(kind) if each.histogram.total}
            metric = f"{kind}_histogram"
            admitted = self._sieve.single(metric, tensors)
            chosen.update({key_of(metric, path): tensors[path] for path in tensors if path in admitted})
        self._say_what_is_refused()
        return chosen

    def _note_clipping(self, record: Record) -> None:
        if record.channels is not self._channels:
            self._channels = record.channels
            self._place = record.channels.index(COEFFICIENT) if COEFFICIENT in record.channels else -1
        if self._place >= 0 and observed(record.values[self._place : self._place + 1])[0]:
            self._coefficient = record.step, float(record.values[self._place])

    def _told(self, record: Record) -> dict[str, float]:
        chosen: dict[str, float] = {}
        for channel, value in record.items():
            key = key_of(*channel)
            if self._sieve.whole(key) and (record.stream != "user" or self._sieve.user(record.step, channel)):
                chosen[key] = value
        return chosen

    def _measured(self, row: Row, coefficient: float | None) -> dict[str, float]:
        latest: Table = {} if row.latest is None else table_of(row.record, row.latest)
        chosen: dict[str, float] = {}
        for metric, values in with_derived(table_of(row.record), latest, coefficient).items():
            if row.whole and "" in values and self._sieve.whole(metric):
                chosen[metric] = values[""]
            if row.single:
                admitted = self._sieve.single(metric, values)
                chosen.update({key_of(metric, path): values[path] for path in values if path in admitted})
        return chosen

    def _say_what_is_refused(self) -> None:
        refused = self._sieve.refused
        if len(refused) > self._refused:
            self._refused = len(refused)
            logger.warning(
                "%s is not sent %s of %s: they go beyond the limit of a sink. Choose with "
                "Selection(include=['%s/*'], limit=...).",
                self._name,
                counted(sum(refused.values()), "series", "series"),
                listed(list(refused)),
                next(iter(refused)),
            )
