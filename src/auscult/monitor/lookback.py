"""LookBack: after something was found, the last measured step in full detail, although it is over."""

from dataclasses import replace
from time import perf_counter

from auscult.core.finding import Finding
from auscult.metrics.replay import CannotReplay
from auscult.metrics.schedule import Schedule
from auscult.monitor.gauges import Gauges
from auscult.monitor.journal import Journal
from auscult.monitor.tracer import Tracer


class LookBack:
    """Looks back by a single step: making a step again takes the parameters it began with, and one copy is kept.

    Args:
        tracer: Keeps what the last measured step began with.
        gauges: What has measured it.
        journal: Takes the detail.
        schedule: Knows whether there is room for it.
    """

    def __init__(self, tracer: Tracer, gauges: Gauges, journal: Journal, schedule: Schedule) -> None:
        self._tracer = tracer
        self._gauges = gauges
        self._journal = journal
        self._schedule = schedule
        self._seen = -1  # the last step that was looked back at

    def after(self, finding: Finding, step: int) -> None:
        """A finding is new or has changed while a step was in progress; notes and recovered ones are passed by.

        The schedule looks closer from now on. Nothing is made again where the last measured step was examined already,
        another forward pass has begun since its update, or the schedule has no room. Costs about a step and its
        examination, and the memory of both.
        """
        if finding.status != "active" or finding.severity == "info":
            return
        self._schedule.look_closer(step, finding.key)
        at = self._tracer.step
        if not self._tracer.made(step) or at == self._seen or at in self._gauges.examined:
            return
        if not self._schedule.looks_back(finding.key):
            return
        self._seen = at
        begin = perf_counter()
        reason = ""
        try:
            gauges = self._gauges
            examination, doubts = self._tracer.examine(gauges.table, gauges.ledger, gauges.activations_wanted)
            self._journal.keep(replace(examination.detail(), doubts=tuple(doubts)))
        except CannotReplay as error:
            reason = str(error)
        finally:
            self._schedule.looked_back(perf_counter() - begin)
        self._journal.event("look_back", at, finding=list(finding.key), reason=reason)
