"""Exchange: finished steps on their way through the sum over all ranks, before their rows are written.

One sum for each step whose norms are due by the schedule, and none for others; it is begun when the step is over and
read when the next one is, so that nobody waits for it. What users log of the steps between two sums travels with the
second. Everything that decides about later sums is read from earlier ones, so all ranks decide alike.
"""

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from auscult.core.errors import StopTraining
from auscult.core.metric import Stream
from auscult.core.naming import names_loss
from auscult.core.sink import Channel, Record, observed, unobserved
from auscult.metrics.reduction import FACTS, Sheet, SlotTable
from auscult.metrics.schedule import Cadence, Schedule
from auscult.metrics.shards import fingerprint
from auscult.metrics.transfer import Transfer
from auscult.monitor.backlog import Backlog
from auscult.monitor.draft import OVERHEAD, STEP_TIME, THROUGHPUT, Draft
from auscult.monitor.gauges import Gauges, Measured
from auscult.monitor.journal import Journal
from auscult.monitor.ranks import Ranks

SAMPLES: tuple[Stream, Channel] = ("steps", Channel("samples", ""))
LABELLED = 64
"""Ranks up to which every one has its own series; of more, those that stand out."""

PATIENCE = timedelta(seconds=60)
"""How long a step waits for the sum of the one before, once: ranks that are further apart are on their own from then
on. The collectives of the training itself have been waited for before, so it is there already where there are any."""

FAREWELL = timedelta(seconds=20)
"""How long a run that is closed waits for what its last steps were on the other ranks."""

_FACT = {name: position for position, name in enumerate(FACTS)}
Named = tuple[Stream, Channel]


class Flight(NamedTuple):
    """A sum under way: the steps it is about, the last of which is the one that was measured."""

    work: Any
    vector: NDArray[np.float64]
    drafts: Sequence[Draft]
    measured: "Measured | None"
    sampled: bool
    news: bool
    closing: bool


class Exchange:
    """Stands between a monitor and its backlog where there are several ranks.

    Args:
        ranks: All ranks.
        gauges: What has measured the steps.
        backlog: Where they go.
        journal: Takes events.
        schedule: Is told what all ranks agree on.
    """

    def __init__(self, ranks: Ranks, gauges: Gauges, backlog: Backlog, journal: Journal, schedule: Schedule) -> None:
        self._ranks = ranks
        self._gauges = gauges
        self._backlog = backlog
        self._journal = journal
        self._schedule = schedule
        schedule.alone = False
        gauges.ledger.groups = ranks.lines
        self._named: list[Named] = [SAMPLES]
        self._held: list[Draft] = []
        self._flight: Flight | None = None
        self._stop: StopTraining | None = None
        self._transfer = Transfer()
        self._process = os.getpid()
        self._updated_at: float | None = None
        observing = not ranks.reason
        self._table = SlotTable.of(
            ranks.rank,
            ranks.layout.kinds if observing else (),
            ranks.coordinates if observing else [[()]] * ranks.world,
            gauges.local_sizes() if observing else (),
            [each.size for each in gauges.table] if observing else (),
            gauges.across() if observing else (),
        )
        if ranks.reason:
            journal.event("not_observed", 0, what="parameters and activations", reason=ranks.reason)

    def add(self, draft: Draft) -> None:
        """Take a finished step, before the instruments measure another.

        Raises:
            StopTraining: on every rank at the same step, if a finding of rank 0 is as severe as `stop_on`.
        """
        try:
            self._land()
        finally:  # a run that stops here loses no step
            draft.send()
            measured = self._gauges.taken(draft)
            if self._ranks.lost:
                self._pass_on([draft], self._alone(measured, draft))
            else:
                self._held.append(draft)
                if draft.due[0]:
                    self._launch(draft, measured, draft.due[1], closing=False)

    def update_made(self, draft: Draft) -> None:
        """The update of a step has been made: the parameters are what every replica of them should be."""
        now, before = perf_counter(), self._updated_at
        self._updated_at = now
        if before is not None and draft.backward_at:
            draft.forward_time = draft.backward_at - before
        if draft.due[0] and not self._ranks.lost and not self._ranks.reason:
            by_kind: list[list[int | Tensor]] = [[] for _ in self._table.replicas]
            for position, kind in enumerate(self._ranks.layout.kinds):
                by_kind[kind].append(self._gauges.ledger.sums_of_bits(position))
            draft.prints = [self._sent(each) for each in by_kind]

    def _sent(self, sums: "list[int | Tensor]") -> "list[int | Tensor]":
        sent = iter(self._transfer.send([each for each in sums if isinstance(each, Tensor)]))
        return [next(sent) if isinstance(each, Tensor) else each for each in sums]

    def finish(self, step: int) -> None:
        """The run is closed: the last steps are still added up, as far as the other ranks do so too.

        Args:
            step: The step that would have come next.
        """
        if self._process != os.getpid():  # a forked copy, which the other ranks know nothing of
            return
        with suppress(StopTraining):  # it is over anyway
            self._land(FAREWELL)
        if self._ranks.lost:
            return
        due = step
        while not self._schedule.norms(due):
            due += 1
        waits = self._held
        ghosts = [Draft(each) for each in range(step, due + 1)]
        self._held = [*waits, *ghosts]
        self._launch(ghosts[-1], None, self._schedule.samples(due), closing=True)
        self._land(FAREWELL)
        if not self._ranks.lost:
            self._ranks.leave("the run was closed")

    # -- what this rank says ------------------------------------------------------------------------------------------

    def _launch(self, draft: Draft, measured: "Measured | None", sampled: bool, closing: bool) -> None:
        held, self._held = self._held, []
        for each in held:
            each.transfer.wait()
        told = [_told(each) for each in held]
        news = any(name not in self._named for each in told for name in each)
        user = np.array([[each.get(name, (0.0, 0.0)) for name in self._named] for each in told])
        sheet = self._sheet(draft, measured, sampled, user, self._facts(draft, held, measured, news, closing))
        try:
            vector = self._table.encode(sheet)
            self._flight = Flight(self._ranks.begin_sum(vector), vector, held, measured, sampled, news, closing)
        except Exception as error:
            self._lose(draft.step, error)
            self._pass_on(held, self._alone(measured, draft))

    def _sheet(
        self, draft: Draft, measured: "Measured | None", sampled: bool, user: NDArray[np.float64], facts: Any
    ) -> Sheet:
        parameters, others = len(self._table.owned), len(self._table.means)
        norms = unobserved(3, parameters)
        moments = unobserved(3, 2, parameters) if sampled else None
        rest = unobserved(others) if sampled else None
        if measured is not None and parameters:
            norms = measured.norms
            if sampled and measured.sampled is not None:
                moments = measured.sampled[: 6 * parameters].reshape(3, 2, -1)
                rest = measured.sampled[6 * parameters :]
        prints = np.zeros(len(self._table.replicas), np.uint64)
        if draft.prints:
            self._transfer.wait()
            prints[:] = [fingerprint(each) for each in draft.prints]
        return Sheet(norms, moments, rest, user, facts, prints)

    def _facts(
        self, draft: Draft, held: Sequence[Draft], measured: "Measured | None", news: bool, closing: bool
    ) -> NDArray[np.float64]:
        losses = [values[0] for (_, channel), values in _told(draft).items() if names_loss(channel.metric)]
        finite = all(value - value == 0 for value in losses) and (measured is None or measured.finite)
        proposal = self._schedule.proposal
        facts: dict[str, float] = {
            "present": 1.0,
            "step": float(draft.step),
            "step_time": float(draft.steps.get(STEP_TIME, 0.0)),
            "forward_time": draft.forward_time,
            "overhead_time": float(draft.steps.get(OVERHEAD, 0.0)),
            "memory": 0.0 if measured is None else self._gauges.memory(measured),
            "passes": float(sum(each.passes for each in held)),
            "samples": float(sum(each.samples for each in held)),
            "loss": losses[0] if losses else 0.0,
            "loss_known": float(bool(losses)),
            "finite": float(finite),
            "batch": _one_number(draft),
            "batch_known": float(draft.batch is not None),
            "norms_every": math.log2(proposal.norms),
            "samples_every": math.log2(proposal.samples),
            "news": float(news),
            "stop": float(self._stop is not None),
            "left": float(closing),
        }
        return np.array([facts[name] for name in FACTS])

    # -- what all of them say -----------------------------------------------------------------------------------------

    def _land(self, patience: timedelta = PATIENCE) -> None:
        """Read the sum that is under way, if any."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        last = flight.drafts[-1]
        try:
            flight.work.wait(patience)
            named = len(self._named)
            sheet = self._table.decode(flight.vector, flight.sampled, len(flight.drafts), named)
            user = sheet.user
            if self._said(sheet, "news").any():
                user = np.concatenate([user, self._hear_news(flight.drafts)], axis=1)
        except Exception as error:
            self._lose(last.step, error)
            self._pass_on(_real(flight), self._alone(flight.measured, last))
            return
        for draft, values in zip(flight.drafts, user, strict=True):
            self._put_back(draft, values)
        records = self._complete(flight, sheet)
        drafts = _real(flight)
        if self._said(sheet, "left").any():
            self._part(last.step, self._said(sheet, "left"))
        self._agree(last.step, sheet)
        self._pass_on(drafts, records)
        if self._said(sheet, "stop").any() and not flight.closing:
            raise self._stop or StopTraining(f"Stopped at step {last.step} as rank 0 has decided.")

    def _said(self, sheet: Sheet, fact: str) -> NDArray[np.float64]:
        return sheet.facts[:, _FACT[fact]]

    def _hear_news(self, drafts: Sequence[Draft]) -> NDArray[np.float64]:
        """Some rank has logged something under a name that not all knew: agree on it, and add up its values."""
        told = [_told(each) for each in drafts]
        mine = {name for each in told for name in each}
        new = sorted(set().union(*self._ranks.gather(mine)) - set(self._named))
        self._named += new
        values = np.array([[each.get(name, (0.0, 0.0)) for name in new] for each in told], np.float64)
        self._ranks.begin_sum(values).wait()
        return values

    def _put_back(self, draft: Draft, values: NDArray[np.float64]) -> None:
        """The values of users, of all ranks together, in place of this rank's own."""
        draft.logged, draft.evaluated = {}, {}
        draft.sums = {}
        for (stream, channel), (above, below) in zip(self._named, values.tolist(), strict=True):
            if below == above == 0:
                continue
            if (stream, channel) == SAMPLES:
                self._put_throughput(draft, above)
            elif not below and not self._ranks.layout.parallel:
                continue  # a count, in which several ranks have counted the same samples
            elif stream == "evaluation":
                draft.evaluated[channel] = [above / below]
            else:
                draft.logged[channel] = [above / below if below else above]

    def _put_throughput(self, draft: Draft, samples: float) -> None:
        whole = draft.steps.get(STEP_TIME)
        draft.steps.pop(THROUGHPUT, None)
        if whole and self._ranks.layout.parallel:
            draft.steps[THROUGHPUT] = samples / whole

    def _complete(self, flight: Flight, sheet: Sheet) -> list[Record]:
        """The rows of the logged step, of all ranks together."""
        draft, measured = flight.drafts[-1], flight.measured
        if flight.closing:
            return []
        for channel, fact in ((STEP_TIME, "step_time"), (OVERHEAD, "overhead_time")):
            largest = float(self._said(sheet, fact).max())
            if channel in draft.steps and largest:
                draft.steps[channel] = largest
        if draft.clip_bound is not None:
            self._put_clipping(draft, sheet.norms[0])
        if not self._ranks.writes or measured is None:
            return []
        figures = _labelled(self._table if len(self._table.owned) else None, sheet, self._ranks.layout.parallel)
        whole = replace(
            measured,
            norms=sheet.norms if len(self._table.owned) else unobserved(*measured.norms.shape),
            sampled=self._sampled(sheet, measured),
            directions=measured.directions if self._ranks.whole else None,
            figures=measured.figures if self._ranks.layout.parallel and self._ranks.whole else {},
            labelled=figures,
        )
        return self._gauges.placed(draft, whole)

    def _sampled(self, sheet: Sheet, measured: "Measured") -> NDArray[np.float64] | None:
        if measured.sampled is None or sheet.moments is None or sheet.others is None:
            return None
        if not len(self._table.owned):
            return unobserved(len(measured.sampled))
        row = np.concatenate([sheet.moments.reshape(-1), sheet.others])
        return self._gauges.with_memory(row, float(self._said(sheet, "memory").max()))

    def _put_clipping(self, draft: Draft, norms: NDArray[np.float64]) -> None:
        """What clipping by a norm over several meshes did, told from the sum."""
        known = observed(np.ascontiguousarray(norms))
        total, bound = math.sqrt(float((norms[known] ** 2).sum())), draft.clip_bound or 0.0
        draft.steps[Channel("clip_ratio", "")] = total / bound if bound else math.inf
        draft.steps[Channel("clip_coefficient", "")] = min(1.0, bound / (total + 1e-6))

    def _agree(self, step: int, sheet: Sheet) -> None:
        """The cadence that the slowest rank asks for is everybody's."""
        wanted = Cadence(*(2 ** int(self._said(sheet, each).max()) for each in ("norms_every", "samples_every")))
        if self._schedule.adopt(wanted):
            self._journal.event("schedule", step + 1, norms=wanted.norms, samples=wanted.samples)

    def _part(self, step: int, left: NDArray[np.float64]) -> None:
        """Some ranks have closed their run; where others go on, these are on their own."""
        some = np.flatnonzero(left).tolist()
        if len(some) < self._ranks.world:
            self._journal.event("ranks_left", step, ranks=some, of=self._ranks.world)
        self._ranks.leave(f"the run was closed on rank {', '.join(map(str, some))}")

    def _lose(self, step: int, error: Exception) -> None:
        """The sum has failed: from here on each rank is on its own."""
        self._ranks.leave(f"{type(error).__name__}: {error}")
        self._journal.event("ranks_lost", step, reason=self._ranks.lost)

    def _alone(self, measured: "Measured | None", draft: Draft) -> list[Record]:
        """The rows of a step that could not be added up: only what this rank knows for certain."""
        if measured is None or not self._ranks.writes or not self._ranks.whole:
            return []
        return self._gauges.placed(draft, replace(measured, figures={}))

    def _pass_on(self, drafts: Sequence[Draft], records: list[Record]) -> None:
        """Hand steps to the backlog, the last with its rows; only on the rank that writes."""
        if not self._ranks.writes:
            return
        for draft in drafts:
            try:
                self._backlog.take(draft, records if draft is drafts[-1] else [])
            except StopTraining as stop:  # all ranks stop together, or this one alone
                if self._ranks.lost:
                    raise
                self._stop = stop


def _one_number(draft: Draft) -> float:
    """What tells the batch of a step from another one."""
    if draft.batch is None:
        return 0.0
    shape, sums = draft.batch
    return float(np.dot(sums.tolist(), [1.0, math.pi, math.e])) + float(math.prod(shape))


def _real(flight: Flight) -> list[Draft]:
    """The steps that were made; those behind them only stand for what a closed run will not make."""
    return [each for each in flight.drafts if not flight.closing or each.steps]


def _told(draft: Draft) -> dict[Named, tuple[float, float]]:
    """What users logged in a step, and the samples of it, as numerator and denominator."""
    told: dict[Named, tuple[float, float]] = {}
    if draft.samples:
        told[SAMPLES] = float(draft.samples), 0.0
    streams: tuple[tuple[Stream, Mapping[Channel, Sequence[Any]]], ...] = (
        ("user", draft.logged),
        ("evaluation", draft.evaluated),
    )
    for stream, values in streams:
        told.update({(stream, name): (sum(map(float, many)) / len(many), 1.0) for name, many in values.items()})
    told.update({("user", name): sums for name, sums in draft.sums.items()})
    return told


def _labelled(table: SlotTable | None, sheet: Sheet, parallel: bool) -> dict[Channel, float]:
    """What single ranks said of themselves."""
    facts = {name: sheet.facts[:, position] for name, position in _FACT.items()}
    world = len(sheet.facts)
    here = (facts["present"] > 0) & (facts["left"] == 0)
    differs = unobserved(world) if table is None or not here.all() else table.minority(sheet.prints)
    known = (facts["batch_known"] > 0) & parallel
    equal = (facts["batch"][:, None] == facts["batch"]) & known & known[:, None]
    alike = equal.sum(axis=1) > 1
    columns: dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]] = {
        "rank_loss": (facts["loss"], facts["loss_known"] > 0),
        "rank_forward_time": (facts["forward_time"], facts["forward_time"] > 0),
        "rank_finite": (facts["finite"], here),
        "rank_passes": (facts["passes"], here),
        "rank_differs": (differs, observed(differs)),
        "rank_left": (facts["left"], facts["present"] > 0),
        "rank_same_batch": (alike.astype(np.float64), known),
    }
    shown = range(world) if world <= LABELLED else _outstanding(columns)
    return {
        Channel(metric, str(rank)): float(values[rank])
        for metric, (values, seen) in columns.items()
        for rank in shown
        if seen[rank]
    }


def _outstanding(columns: Mapping[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]) -> list[int]:
    """The ranks that are the slowest, have the largest loss, or are flagged."""
    found = {0, int(columns["rank_forward_time"][0].argmax()), int(columns["rank_loss"][0].argmax())}
    for metric, usual in (("rank_differs", 0.0), ("rank_finite", 1.0), ("rank_left", 0.0), ("rank_same_batch", 0.0)):
        values, seen = columns[metric]
        found.update(np.flatnonzero(seen & (values != usual))[:1].tolist())
    return sorted(found)
