"""Logged: charts of what users logged: losses first, evaluations beside training, losses by category."""

from collections.abc import Sequence

from auscult.core.audit import Audit
from auscult.core.catalogue import METRICS
from auscult.core.finding import Evidence
from auscult.core.run import Run
from auscult.core.series import Series
from auscult.pages.chart import MAX_CURVES, Chart, Guide, each_or_few, is_wide, sentence
from auscult.pages.curve import Curve
from auscult.pages.wording import counted, figure, listed, shown

MAX_LOGGED = 24
MAX_CATEGORIES = 12


def logged_charts(run: Run) -> list[Chart]:
    """What users logged, one chart per last part of the name (`train/loss` and `val/loss` together), losses first."""
    groups: dict[str, list[Series]] = {}
    for stream in ("user", "evaluation"):
        for channel in run.source.channels(stream) if stream in run.streams else ():
            if channel.metric == "loss" or channel.metric not in METRICS:
                key = channel.metric.rsplit("/", 1)[-1]
                groups.setdefault(key, []).append(run.series(channel.metric, channel.path))
    names = sorted(groups, key=lambda key: (key != "loss", "loss" not in key))
    charts: list[Chart] = []
    for position, key in enumerate(names[:MAX_LOGGED]):
        seen = [each for each in groups[key] if each.observed]
        note = f"As logged: {listed([each.name for each in seen], MAX_CURVES)}."
        if position == MAX_LOGGED - 1 and len(names) > MAX_LOGGED:
            note += (
                f" {counted(len(names) - MAX_LOGGED, 'more logged name')} not drawn: {listed(names[MAX_LOGGED:], 12)}."
            )
        title = sentence(shown(key) or "unnamed")
        curves = tuple(Curve(shown(each.name), each) for each in seen[:MAX_CURVES])
        guides: tuple[Guide, ...] = ()
        if key == "loss":
            begun, guides = _first_loss(run.audit)
            note += begun
        charts.append(Chart(f"logged-{position}", title, note, "as logged", is_wide(curves), curves, guides))
    return charts


def _first_loss(audit: Audit | None) -> tuple[str, tuple[Guide, ...]]:
    """What the first loss call gave beside what an uninformed model would, as a sentence and as a line."""
    if audit is None:
        return " The first loss call was not observed.", ()
    said = f" The first loss call ({shown(audit.loss)}, step {audit.step:,}) gave {figure(audit.value)}"
    if audit.expected is None:
        return f"{said}; what an uninformed model would give is not known.", ()
    classes = "" if audit.classes is None else f" = log({audit.classes:,})"
    said += f"; an uninformed model would give {figure(audit.expected)}{classes}. Healthy: close to it."
    return said, (Guide(audit.expected, audit.expected, "uninformed"),)


def category_charts(run: Run, evidence: Sequence[Evidence]) -> list[Chart]:
    """The losses by category, with every sample and with every token weighing the same."""
    charts: list[Chart] = []
    for name, title in (("category_loss", "Loss by category"), ("category_loss_per_token", "Loss per token")):
        curves = each_or_few(run, name, evidence, MAX_CATEGORIES)
        note, number = f"{sentence(METRICS[name].formula)}.", len(run.paths(name))
        if len(curves) < number:
            note += f" Shown are {len(curves)} of {counted(number, 'category', 'categories')}."
        if curves:
            charts.append(Chart(name, title, note, "as logged", False, curves))
    return charts
