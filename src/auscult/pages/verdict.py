"""The verdict: one sentence on a run and its findings.

Judges nothing itself: what is wrong was decided by the rules, here it is only said.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from auscult.core.catalogue import METRICS
from auscult.core.finding import Finding, consequences, in_groups
from auscult.core.metric import Stream
from auscult.core.naming import mentions_loss, names_evaluation, training_losses
from auscult.core.run import Run
from auscult.core.series import Series
from auscult.core.sink import Channel, observed
from auscult.pages.wording import SEVERITY_WORDS, counted, figure, listed, place, shown, shown_lines

STATE_WORDS = {
    "finished": "is finished",
    "failed": "has failed",
    "running": "was going on when it was imported",
    "unknown": "has no end in its log",
    "unfinished": "is unfinished",
}

VITAL: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a loss", ("loss",)),
    ("the learning rate", ("lr",)),
    ("gradients", ("grad_norm", "grad_std")),
    ("parameters", ("param_norm", "param_std")),
    ("updates", ("update_norm", "intended_update_norm", "update_std")),
    ("activations", ("activation_std",)),
    ("the loss call", ("observed_loss",)),
)
"""What a diagnosis rests on, in words, and the metrics of which one is enough."""

NON_FINITE = "L001"
"""The rule that tells of losses, gradients and parameters; what else is not finite beside these follows from them."""

MOST_PARTS = 3

LOGGED: tuple[Stream, ...] = ("user", "evaluation")


class Flaw(NamedTuple):
    """A number that was not finite: how often of how many times, first at which step, and what it is."""

    logged: bool
    step: int
    times: int
    seen: int
    channel: Channel

    def __str__(self) -> str:
        name = shown(self.channel.metric) + (f" of {shown(self.channel.path)}" if self.channel.path else "")
        often = f"{self.times:,} of {counted(self.seen, 'time')}, first at step {self.step:,}"
        return f"{'the logged ' if self.logged else ''}{name} was not finite {often}"


def verdict(run: Run, findings: Sequence[Finding]) -> str:
    """One sentence: healthy with figures, or the cause of the worst finding with its place and onset.

    Args:
        run: The run.
        findings: What the rules found in it, in any order.
    """
    steps = run.steps
    if not len(steps):
        return f"Nothing was recorded: the run {state_words(run)} and has no steps."
    span = f"{counted(len(steps), 'step')} recorded, last step {steps[-1]:,}"
    missing = _missing(run)
    if not findings:
        logged = "" if run.provenance is None else f" in what {shown(run.provenance.tool)} logged"
        return f"No problem found{logged}{_but(run)}: the run {state_words(run)} ({span}){_vital_signs(run)}{missing}."
    worst, severity = in_groups(findings)[0], min(findings, key=lambda each: each.rank).severity
    explained = len(consequences(worst, findings))
    others = len(findings) - 1 - explained
    more = f", which explains {counted(explained, 'other finding')}" if explained else ""
    more += f", and {counted(others, 'further finding')}" if others else ""
    if worst.status == "recovered" or worst.severity == "info":
        but = "" if any(each.code == NON_FINITE for each in findings) else _but(run)
        return (
            f"No active problem{but}: the run {state_words(run)} ({span}){_vital_signs(run)}; {_aside(worst)} "
            f"{_named(worst)}{more}{missing}."
        )
    return f"{SEVERITY_WORDS[severity]}: {_named(worst)}{more}; the run {state_words(run)} ({span}){missing}."


def is_sick(findings: Sequence[Finding]) -> bool:
    """Whether at least one finding is active and more than a note."""
    return any(each.status == "active" and each.severity != "info" for each in findings)


def losses(run: Run) -> list[Series]:
    """Every loss the user logged: that of the training first, then others that end in `/loss`, as evaluations do.

    Where there is none, those that have the word in their name and are no evaluation, as `g_loss` and `d_loss`.
    """
    return _plain_losses(run) or _parts(run)


def _plain_losses(run: Run) -> list[Series]:
    known = _logged(run)
    found = [Channel(name, "") for name in training_losses(each.metric for each in known if not each.path)]
    found += [each for each in known if each.metric.rsplit("/", 1)[-1] == "loss" and each not in found]
    return [run.series(each.metric, each.path) for each in found]


def _parts(run: Run) -> list[Series]:
    """What may be a part of a loss, or the loss of one network of several."""
    some = (each for each in _logged(run) if not each.path and each.metric.removeprefix("user/") not in METRICS)
    found = (each.metric for each in some if mentions_loss(each.metric) and not names_evaluation(each.metric))
    return [run.series(each) for each in found]


def _logged(run: Run) -> list[Channel]:
    return [channel for stream in LOGGED if stream in run.streams for channel in run.source.channels(stream)]


def state_words(run: Run) -> str:
    """How a run ended, behind "the run"; of an imported one as far as its log says."""
    state = "finished" if run.provenance is None else run.provenance.state
    return STATE_WORDS[state if run.finished else "unfinished"]


def not_observed(run: Run) -> list[str]:
    """What of a training a run has no figures of, in words; empty where all of it was seen."""
    missing = [
        words
        for words, metrics in VITAL
        if not any(run.paths(metric) for metric in metrics) and not (metrics == ("loss",) and losses(run))
    ]
    if "gradients" not in missing and run.paths("grad_norm") == ("",):
        missing.append("the gradients of single layers")
    return missing


def _missing(run: Run) -> str:
    """What an import lacks; of a run that was watched, that no loss is known by which it could be judged."""
    if run.provenance is not None:
        return f"; not observed: {listed(not_observed(run), 8)}"
    if _plain_losses(run) or run.series("observed_loss").observed:
        return ""
    parts = _parts(run)
    beside = f" beside {listed([each.metric for each in parts])}" if parts else ""
    return f"; no number named loss was logged{beside}, so no rule judged by one"


def _named(finding: Finding) -> str:
    return f"{shown_lines(finding.name)} ({shown(finding.code)}) in {place(finding.path)} since step {finding.step:,}"


def _aside(finding: Finding) -> str:
    return "recovered from" if finding.status == "recovered" else "worth a look:"


def _but(run: Run) -> str:
    """Behind "no problem": what was not finite, and may be meant so, as a number that is not defined at every step."""
    if not (run.series("finite").values == 0).any():
        return ""
    streams: tuple[Stream, ...] = (*LOGGED, "sampled")
    found = [flaw for stream in streams if stream in run.streams for flaw in _flaws(run, stream)]
    if not found:
        return ""
    first = min(found, key=lambda each: (not each.logged, each.step))
    others = f" ({counted(len(found) - 1, 'other number')} likewise)" if len(found) > 1 else ""
    return f", but {first}{others}"


def _flaws(run: Run, stream: Stream) -> Iterator[Flaw]:
    """What of a stream was not finite at some step, in the order in which it was first recorded."""
    channels = run.source.channels(stream)
    seen, times, first = np.zeros((3, len(channels)), np.int64)
    for steps, columns in run.source.columns(stream, list(range(len(channels))), run.stop):
        known = observed(np.ascontiguousarray(columns))
        bad = known & ~np.isfinite(columns)
        new = np.flatnonzero((times == 0) & bad.any(1))
        first[new] = steps[bad[new].argmax(1)]
        seen += known.sum(1)
        times += bad.sum(1)
    for number in np.flatnonzero(times).tolist():
        counts = int(first[number]), int(times[number]), int(seen[number])
        yield Flaw(stream in LOGGED, *counts, channels[number])


def _vital_signs(run: Run) -> str:
    """Last loss, median update ratio and share of finite steps, as far as they were observed."""
    signs: list[str] = []
    observed = [each for each in _plain_losses(run) if each.observed]
    if observed:
        signs.append(f"last loss {figure(observed[0].values[-1])}")
    else:
        parts = [each for each in _parts(run) if each.observed][:MOST_PARTS]
        signs += [f"last {shown(each.metric)} {figure(each.values[-1])}" for each in parts]
    ratios = run.series("update_ratio")
    positive = ratios.values[np.isfinite(ratios.values)]
    if len(positive):
        signs.append(f"median update ratio {figure(float(np.median(positive)), 2)}")
    finite = run.series("finite")
    if finite.observed:
        signs.append(f"{_share(float(np.mean(finite.values)))} of steps finite")
    return f", {', '.join(signs)}" if signs else ""


def _share(fraction: float) -> str:
    """A percentage that says 100 % only when all are meant."""
    return f"{fraction:.0%}".replace("%", " %") if fraction in (0.0, 1.0) else f"{min(100 * fraction, 99.9):.3g} %"
