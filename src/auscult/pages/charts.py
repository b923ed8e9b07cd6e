"""Charts: which curves of a run the page shows, in which order, with which guide lines.

Knows nothing of HTML. The guide lines are the catalogue's, priors and not verdicts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auscult.core.catalogue import METRICS, unit_of
from auscult.core.errors import UnknownName
from auscult.core.finding import Evidence, Finding
from auscult.core.run import Run
from auscult.pages.chart import MAX_CURVES, Chart, Guide, curves_of, each_or_few, is_wide, sentence
from auscult.pages.curve import Curve, evenly
from auscult.pages.heatmap import Heatmap, heatmap
from auscult.pages.logged import category_charts, logged_charts
from auscult.pages.spreads import Spread, spreads
from auscult.pages.sweep import Sweep, sweep
from auscult.pages.wording import counted, shown

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

GIBIBYTE = 2**30
MAX_FURTHER = 12
MAX_LAYERS = 24
MAX_ROWS = 24


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Everything that is drawn on the page.

    Attributes:
        charts: The curves.
        heatmaps: The heat maps, in the order offered.
        sweeps: What the heat maps were coded from, by metric.
        rows: Of the rows of the heat maps those that findings name, in full, by metric and path.
        spreads: How tensors were distributed over time.
    """

    charts: tuple[Chart, ...]
    heatmaps: tuple[Heatmap, ...]
    sweeps: Mapping[str, Sweep]
    rows: Mapping[str, Mapping[str, Curve]]
    spreads: tuple[Spread, ...]


def pictures(run: Run, findings: Sequence[Finding], edges: NDArray[np.int64] | None = None) -> Pictures:
    """Choose and read what is drawn: every heat map that was observed, every chart that has a value.

    Args:
        run: The run.
        findings: What the rules found in it.
        edges: First steps of the columns of the heat maps; the run's own without.
    """
    found = {name: sweep(run, name, model_order(run, name), every_step=name in SPREAD, edges=edges) for name in MAPPED}
    sweeps = {name: swept for name, swept in found.items() if swept is not None}
    evidence = [each for finding in findings for each in finding.evidence]
    drawn = [chart for chart in _charts(run, sweeps, evidence) if chart.curves]
    mapped = {(name, path) for name, swept in sweeps.items() for path in swept.paths}
    drawn += _further(run, drawn, mapped, evidence)
    maps = tuple(heatmap(each) for each in sweeps.values())
    return Pictures(tuple(drawn), maps, sweeps, _rows(run, mapped, evidence), tuple(spreads(run)))


def model_order(run: Run, metric: str) -> tuple[str, ...]:
    """Paths of a metric in model order: every parameter (observed or not), or the modules that were observed."""
    recorded = dict.fromkeys(run.paths(metric))
    if METRICS[metric].scope == "parameter":
        known = [each.path for each in run.parameters]
    else:
        known = [each.path for each in run.modules if each.path in recorded]
    return tuple(dict.fromkeys((*known, *recorded))) if recorded else ()


def _rows(run: Run, mapped: set[tuple[str, str]], evidence: Sequence[Evidence]) -> dict[str, dict[str, Curve]]:
    """What findings name, in full; every other row is drawn from the cells of its heat map."""
    named = list(dict.fromkeys((each.metric, each.path) for each in evidence if (each.metric, each.path) in mapped))
    rows: dict[str, dict[str, Curve]] = {}
    for metric, path in named[:MAX_ROWS]:
        rows.setdefault(metric, {}).update({shown(path): curve for curve in curves_of(run, metric, [path])})
    return rows


def _charts(run: Run, sweeps: Mapping[str, Sweep], evidence: Sequence[Evidence]) -> list[Chart]:
    return [
        *logged_charts(run),
        *category_charts(run, evidence),
        Chart("grad_norm", "Gradient norm, whole model", "Before clipping; logarithmic.", "1", True,
              curves_of(run, "grad_norm", [""])),
        Chart("clip_ratio", "Clip ratio", "Total gradient norm / max_norm. Above 1, clipping acted.", "1", True,
              curves_of(run, "clip_ratio", [""]), (Guide(1.0, 1.0, "clipping acts above 1"),)),
        Chart("update_ratio", "Update ratio", "Size of an update against the size of what it updates.", "1", True,
              (*curves_of(run, "update_ratio", [""]), *_spread(run, "update_ratio", sweeps, evidence, "parameter")),
              (Guide(1e-4, 1e-3, "usual"), Guide(1e-3, 1e-3, "1e-3"))),
        Chart("lr", "Learning rate", "As the update uses it, per parameter group.", "1", False,
              each_or_few(run, "lr", evidence)),
        _update_to_data(run, sweeps),
        Chart("activation_std", "Activation std", "Spread of the modules' outputs.", "1", True,
              _spread(run, "activation_std", sweeps, evidence, "module"), (Guide(1.0, 1.0, "near 1 at step 0"),)),
        Chart("saturated_fraction", "Saturated outputs", "Share of outputs with |x| > 0.97, bounded modules only.", "1",
              False, _spread(run, "saturated_fraction", sweeps, evidence, "module")),
        Chart("dead_fraction", "Dead units", "Share of units that are 0 for every sample of the batch.", "1", False,
              _spread(run, "dead_fraction", sweeps, evidence, "module")),
        Chart("time", "Step time and monitoring overhead", _overhead_note(run), "s", True,
              (*curves_of(run, "step_time", [""]), *curves_of(run, "overhead_time", [""]))),
        Chart("throughput", "Throughput", "Samples per second of step time.", "samples/s", False,
              curves_of(run, "throughput", [""])),
        Chart("memory", "Memory", f"{sentence(METRICS['memory'].formula)}.", "GiB", False,
              tuple(Curve(each.label, each.series / GIBIBYTE) for each in curves_of(run, "memory", [""]))),
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
    curves = curves_of(run, "update_to_data", chosen)
    return Chart("update_to_data", "Update to data", note, "1", True, curves, (Guide(1e-3, 1e-3, "1e-3"),), True)


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
            curves = curves_of(run, each.metric, [each.path])
        except UnknownName:  # evidence may rest on a figure that is no series of the run
            continue
        if curves:
            title = f"{each.metric} of {each.path}" if each.path else each.metric
            note = METRICS[each.metric].formula if each.metric in METRICS else "As logged."
            found[key] = Chart(
                f"further-{len(found)}", shown(title), note, unit_of(each.metric), is_wide(curves), curves
            )
    return list(found.values())


def _spread(
    run: Run, metric: str, sweeps: Mapping[str, Sweep], evidence: Sequence[Evidence], noun: str
) -> tuple[Curve, ...]:
    """Every path where there are few; of many the lowest and highest value at each step and what findings name."""
    if metric not in sweeps:
        return ()
    paths = [path for path, count in zip(sweeps[metric].paths, sweeps[metric].count) if count]
    if len(paths) < MAX_CURVES:
        return curves_of(run, metric, paths)
    named = dict.fromkeys(each.path for each in evidence if each.metric == metric and each.path in paths)
    swept = sweeps[metric]
    return (
        Curve(f"lowest {noun}", swept.lowest),
        Curve(f"highest {noun}", swept.highest),
        *curves_of(run, metric, list(named)[: MAX_CURVES - 3]),
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
