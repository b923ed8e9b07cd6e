"""The verdict: one sentence on a run and its findings.

Judges nothing itself: what is wrong was decided by the rules, here it is only said.
"""

from collections.abc import Sequence

import numpy as np

from auscult.core.finding import Finding, consequences, in_groups
from auscult.core.run import Run
from auscult.core.series import Series
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
        return f"No problem found{logged}: the run {state_words(run)} ({span}){_vital_signs(run)}{missing}."
    worst, severity = in_groups(findings)[0], min(findings, key=lambda each: each.rank).severity
    explained = len(consequences(worst, findings))
    others = len(findings) - 1 - explained
    more = f", which explains {counted(explained, 'other finding')}" if explained else ""
    more += f", and {counted(others, 'further finding')}" if others else ""
    if worst.status == "recovered" or worst.severity == "info":
        return (
            f"No active problem: the run {state_words(run)} ({span}){_vital_signs(run)}; {_aside(worst)} "
            f"{_named(worst)}{more}{missing}."
        )
    return f"{SEVERITY_WORDS[severity]}: {_named(worst)}{more}; the run {state_words(run)} ({span}){missing}."


def is_sick(findings: Sequence[Finding]) -> bool:
    """Whether at least one finding is active and more than a note."""
    return any(each.status == "active" and each.severity != "info" for each in findings)


def losses(run: Run) -> list[Series]:
    """Every loss the user logged, training first: names that are `loss` or end in `/loss`."""
    found: list[Series] = []
    for stream in ("user", "evaluation"):
        if stream in run.streams:
            found += [
                run.series(channel.metric, channel.path)
                for channel in run.source.channels(stream)
                if channel.metric.rsplit("/", 1)[-1] == "loss"
            ]
    return found


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
    known = losses(run) or run.series("observed_loss").observed
    return "" if known else "; no number named loss was logged, so no rule judged by one"


def _named(finding: Finding) -> str:
    return f"{shown_lines(finding.name)} ({shown(finding.code)}) in {place(finding.path)} since step {finding.step:,}"


def _aside(finding: Finding) -> str:
    return "recovered from" if finding.status == "recovered" else "worth a look:"


def _vital_signs(run: Run) -> str:
    """Last loss, median update ratio and share of finite steps, as far as they were observed."""
    signs: list[str] = []
    observed = [each for each in losses(run) if each.observed]
    if observed:
        signs.append(f"last loss {figure(observed[0].values[-1])}")
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
