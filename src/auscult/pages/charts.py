"""Charts: which curves of a run the page shows, in which order, with which guide lines.

Knows nothing of HTML. The guide lines are the catalogue's, priors and not verdicts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from auscult.core.audit import Audit
from auscult.core.catalogue import METRICS, unit_of
from auscult.core.errors import UnknownName
from auscult.core.finding import Evidence, Finding
from auscult.core.run import Run
from auscult.core.series import Series
from auscult.pages.curve import Curve, evenly
from auscult.pages.heatmap import Heatmap, heatmap
from auscult.pages.sweep import Sweep, sweep
from auscult.pages.wording import counted, figure, listed, shown

MAPPED = (
    "grad_norm",
    "update_ratio",
    "update_to_data",
    "param_norm",
    "update_norm",
    "activation_std",
    "activation_grad_std",
    "dead_fraction",
    "saturated_fraction",
)
"""Metrics with a heat map, in the order offered."""

SPREAD = ("update_ratio", "activation_std", "saturated_fraction", "dead_fraction")
"""Those of them of which a chart shows the lowest and the highest value at every step."""

MAX_CURVES = 6
GIBIBYTE = 2**30
MAX_LOGGED = 24
MAX_FURTHER = 12
MAX_LAYERS = 24


@dataclass(frozen=True, slots=True)
class Guide:
    """A line, or a band between two values, that a reader compares a curve with."""

    low: float
    high: float
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """Some curves over steps on one pair of axes.

    Attributes:
        name: Unique on the page; its anchor is `chart-<name>`.
        title: Its heading.
        note: What is drawn, in a sentence or two.
        unit: Unit of the vertical axis.
        log: Whether that axis is logarithmic at first; only where positive values allow it.
        curves: At least one.
        guides: Lines and bands.
        by_depth: Whether the curves are layers in forward order, to be coloured so.
    """

    name: str
    title: str
    note: str
    unit: str
    log: bool
    curves: tuple[Curve, ...]
    guides: tuple[Guide, ...] = ()
    by_depth: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "log": self.log and _has_positive(self.curves),
            "by_depth": self.by_depth,
            "curves": [each.to_dict() for each in self.curves],
            "guides": [{"low": each.low, "high": each.high, "text": each.text} for each in self.guides],
        }

    def shows(self, metric: str, path: str) -> bool:
        """Whether one of the curves is this metric of this path."""
        return any(each.series.metric == metric and each.series.path == path for each in self.curves)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Everything that is drawn on the page.

    Attributes:
        charts: The curves.
        heatmaps: The heat maps, in the order offered.
        sweeps: What the heat maps were coded from, by metric.
    """

    charts: tuple[Chart, ...]
    heatmaps: tuple[Heatmap, ...]
    sweeps: Mapping[str, Sweep]


def pictures(run: Run, findings: Sequence[Finding]) -> Pictures:
    """Choose and read what is drawn: every heat map that was observed, every chart that has a value."""
    found = {name: sweep(run, name, model_order(run, name), every_step=name in SPREAD) for name in MAPPED}
    sweeps = {name: swept for name, swept in found.items() if swept is not None}
    evidence = [each for finding in findings for each in finding.evidence]
    drawn = [chart for chart in _charts(run, sweeps, evidence) if chart.curves]
    mapped = {(name, path) for name, swept in sweeps.items() for path in swept.paths}
    drawn += _further(run, drawn, mapped, evidence)
    return Pictures(tuple(drawn), tuple(heatmap(each) for each in sweeps.values()), sweeps)


def model_order(run: Run, metric: str) -> tuple[str, ...]:
    """Paths of a metric in model order: every parameter (observed or not), or the modules that were observed."""
    recorded = run.paths(metric)
    if METRICS[metric].scope == "parameter":
        known = [each.path for each in run.parameters]
    else:
        known = [each.path for each in run.modules if each.path in set(recorded)]
    return tuple(dict.fromkeys((*known, *recorded))) if recorded else ()


def _charts(run: Run, sweeps: Mapping[str, Sweep], evidence: Sequence[Evidence]) -> list[Chart]:
    return [
        *_logged(run),
        *_categories(run, evidence),
        Chart("grad_norm", "Gradient norm, whole model", "Before clipping; logarithmic.", "1", True,
              _curves(run, "grad_norm", [""])),
        Chart("clip_ratio", "Clip ratio", "Total gradient norm / max_norm. Above 1, clipping acted.", "1", True,
              _curves(run, "clip_ratio", [""]), (Guide(1.0, 1.0, "clipping acts above 1"),)),
        Chart("update_ratio", "Update ratio", "Size of an update against the size of what it updates.", "1", True,
              (*_curves(run, "update_ratio", [""]), *_spread(run, "update_ratio", sweeps, evidence, "parameter")),
              (Guide(1e-4, 1e-3, "usual"), Guide(1e-3, 1e-3, "1e-3"))),
        Chart("lr", "Learning rate", "As the update uses it, per parameter group.", "1", False,
              _each_or_few(run, "lr", evidence)),
        _update_to_data(run, sweeps),
        Chart("activation_std", "Activation std", "Spread of the modules' outputs.", "1", True,
              _spread(run, "activation_std", sweeps, evidence, "module"), (Guide(1.0, 1.0, "near 1 at step 0"),)),
        Chart("saturated_fraction", "Saturated outputs", "Share of outputs with |x| > 0.97, bounded modules only.", "1",
              False, _spread(run, "saturated_fraction", sweeps, evidence, "module")),
        Chart("dead_fraction", "Dead units", "Share of units that are 0 for every sample of the batch.", "1", False,
              _spread(run, "dead_fraction", sweeps, evidence, "module")),
        Chart("time", "Step time and monitoring overhead", _overhead_note(run), "s", True,
              (*_curves(run, "step_time", [""]), *_curves(run, "overhead_time", [""]))),
        Chart("throughput", "Throughput", "Samples per second of step time.", "samples/s", False,
              _curves(run, "throughput", [""])),
        Chart("memory", "Memory", f"{_sentence(METRICS['memory'].formula)}.", "GiB", False,
              tuple(Curve(each.label, each.series / GIBIBYTE) for each in _curves(run, "memory", [""]))),
    ]  # fmt: skip


def _update_to_data(run: Run, sweeps: Mapping[str, Sweep]) -> Chart:
    """Every weight, or of very many some; of a model of vectors alone every parameter."""
    matrices = {each.path for each in run.parameters if len(each.shape) > 1}
    swept = sweeps.get("update_to_data")
    paths = [] if swept is None else [path for path, count in zip(swept.paths, swept.count) if count]
    paths = [path for path in paths if path in matrices] or paths
    chosen = [paths[index] for index in evenly(len(paths), MAX_LAYERS)]
    note = "std(update) / std(weight), early layers darkest. Healthy: near the line at 1e-3 (Karpathy, 2022)."
    if len(chosen) < len(paths):
        note += f" Shown are {len(chosen)} of {counted(len(paths), 'weight')}, evenly spread over depth."
    curves = _curves(run, "update_to_data", chosen)
    return Chart("update_to_data", "Update to data", note, "1", True, curves, (Guide(1e-3, 1e-3, "1e-3"),), True)


def _logged(run: Run) -> list[Chart]:
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
        title = _sentence(shown(key) or "unnamed")
        curves = tuple(Curve(shown(each.name), each) for each in seen[:MAX_CURVES])
        guides: tuple[Guide, ...] = ()
        if key == "loss":
            begun, guides = _first_loss(run.audit)
            note += begun
        charts.append(Chart(f"logged-{position}", title, note, "as logged", _is_wide(curves), curves, guides))
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


def _categories(run: Run, evidence: Sequence[Evidence]) -> list[Chart]:
    return [
        Chart(name, title, f"{_sentence(METRICS[name].formula)}.", "as logged", False, curves)
        for name, title in (("category_loss", "Loss by category"), ("category_loss_per_token", "Loss per token"))
        if (curves := _each_or_few(run, name, evidence))
    ]


def _further(
    run: Run, drawn: Sequence[Chart], mapped: set[tuple[str, str]], evidence: Sequence[Evidence]
) -> list[Chart]:
    """Charts for evidence that nothing else on the page shows."""
    found: dict[tuple[str, str], Chart] = {}
    for each in evidence:
        key = each.metric, each.path
        if key in mapped or key in found or any(chart.shows(*key) for chart in drawn) or len(found) == MAX_FURTHER:
            continue
        try:
            curves = _curves(run, each.metric, [each.path])
        except UnknownName:  # evidence may rest on a figure that is no series of the run
            continue
        if curves:
            title = f"{each.metric} of {each.path}" if each.path else each.metric
            note = METRICS[each.metric].formula if each.metric in METRICS else "As logged."
            found[key] = Chart(
                f"further-{len(found)}", shown(title), note, unit_of(each.metric), _is_wide(curves), curves
            )
    return list(found.values())


def _curves(run: Run, metric: str, paths: Sequence[str]) -> tuple[Curve, ...]:
    """Those of the paths that were observed, each with all of its values."""
    several = [run.series(metric, path) for path in paths] if metric in run.metrics else []
    whole = "whole model" if metric in METRICS and METRICS[metric].scope == "parameter" else shown(metric)
    return tuple(Curve(shown(each.path) or whole, each) for each in several if each.observed)


def _each_or_few(run: Run, metric: str, evidence: Sequence[Evidence]) -> tuple[Curve, ...]:
    """Every path where there are few; of many the ones that findings name, then the first."""
    paths = run.paths(metric)
    named = [each.path for each in evidence if each.metric == metric and each.path in paths]
    return _curves(run, metric, list(dict.fromkeys((*named, *paths)))[:MAX_CURVES])


def _spread(
    run: Run, metric: str, sweeps: Mapping[str, Sweep], evidence: Sequence[Evidence], noun: str
) -> tuple[Curve, ...]:
    """Every path where there are few; of many the lowest and highest value at each step and what findings name."""
    if metric not in sweeps:
        return ()
    paths = [path for path, count in zip(sweeps[metric].paths, sweeps[metric].count) if count]
    if len(paths) < MAX_CURVES:
        return _curves(run, metric, paths)
    named = dict.fromkeys(each.path for each in evidence if each.metric == metric and each.path in paths)
    swept = sweeps[metric]
    return (
        Curve(f"lowest {noun}", swept.lowest),
        Curve(f"highest {noun}", swept.highest),
        *_curves(run, metric, list(named)[: MAX_CURVES - 3]),
    )


def _overhead_note(run: Run) -> str:
    whole, part = run.series("step_time"), run.series("overhead_time")
    steps = np.intersect1d(whole.steps, part.steps)
    if not len(steps):
        return "Wall time of a step."
    took = part.values[np.searchsorted(part.steps, steps)]
    spent = whole.values[np.searchsorted(whole.steps, steps)]
    share = np.sum(took[spent > 0]) / np.sum(spent[spent > 0]) if (spent > 0).any() else np.nan
    return f"Wall time of a step, and the part of it spent inside auscult: {share:.2%} of the whole."


def _sentence(text: str) -> str:
    """With a capital in front; the rest keeps its own."""
    return text[:1].upper() + text[1:]


def _has_positive(curves: Sequence[Curve]) -> bool:
    return any((np.isfinite(each.series.values) & (each.series.values > 0)).any() for each in curves)


def _is_wide(curves: Sequence[Curve]) -> bool:
    """Whether all finite values are positive and span more than a factor of 100."""
    finite = [each.series.values[np.isfinite(each.series.values)] for each in curves]
    values = np.concatenate(finite) if finite else np.empty(0)
    return bool(len(values)) and float(values.min()) > 0 and float(values.max()) > 100 * float(values.min())
