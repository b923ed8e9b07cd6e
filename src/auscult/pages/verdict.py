"""The verdict: one sentence on a run and its findings.

Judges nothing itself: what is wrong was decided by the rules, here it is only said.
"""

from collections.abc import Sequence

import numpy as np

from auscult.core.finding import Finding, consequences, in_groups
from auscult.core.run import Run
from auscult.core.series import Series
from auscult.pages.wording import SEVERITY_WORDS, counted, figure, place, shown, shown_lines


def verdict(run: Run, findings: Sequence[Finding]) -> str:
    """One sentence: healthy with figures, or the cause of the worst finding with its place and onset.

    Args:
        run: The run.
        findings: What the rules found in it, in any order.
    """
    steps = run.steps
    if not len(steps):
        return f"Nothing was recorded: the run {_state(run)} and has no steps."
    span = f"{counted(len(steps), 'step')} recorded, last step {steps[-1]:,}"
    if not findings:
        return f"No problem found: the run {_state(run)} ({span}){_vital_signs(run)}."
    worst, severity = in_groups(findings)[0], min(findings, key=lambda each: each.rank).severity
    explained = len(consequences(worst, findings))
    others = len(findings) - 1 - explained
    more = f", which explains {counted(explained, 'other finding')}" if explained else ""
    more += f", and {counted(others, 'further finding')}" if others else ""
    if worst.status == "recovered" or worst.severity == "info":
        return (
            f"No active problem: the run {_state(run)} ({span}){_vital_signs(run)}; {_aside(worst)} "
            f"{_named(worst)}{more}."
        )
    return f"{SEVERITY_WORDS[severity]}: {_named(worst)}{more}; the run {_state(run)} ({span})."


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


def _state(run: Run) -> str:
    return "is finished" if run.finished else "is unfinished"


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
