"""Picture: one figure of a whole run: loss, gradient norms by depth, update:data, and what the findings rest on."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from scripts.gallery.columns import Steps, edges_of, line, split
from scripts.gallery.palette import BROKEN, COLOURS, LINE, MAP, UNSEEN, ZERO, encode

from auscult.core.finding import Evidence, Finding
from auscult.core.run import Run
from auscult.pages.charts import model_order
from auscult.pages.wording import figure as number

WIDTH = 8.0  # inches; shown at 800 pixels, an inch is 100 of them
LEFT, RIGHT, BELOW, ABOVE, GAP = 0.62, 1.42, 0.5, 0.82, 0.32  # inches around the panels and between them
LETTER = 0.062  # inches that a letter of a row's name takes
LOSS, UPDATES, PROOF, ROW = 1.7, 1.5, 1.15, 0.15  # inches: heights of the panels, of a row of the heat map
MOST_ROWS = 28  # a larger model is shown by its weights and by what findings name
MOST_LABELS = 8  # curves that a legend still names
TRIMMED = 0.5  # per cent of the cells at either end that do not stretch the colours
LOWEST = 2.5  # decades below the median that the colours still tell apart: a bias under BatchNorm has 1e-9
FEW = 12  # points of a curve that are marked one by one
NEAR = 0.07  # of the width: onsets closer than this share a label
SHALLOWEST = 1e-8  # update:data; what is smaller leaves the panel
LARGE_SHARE = 0.25  # of outputs saturated or units dead at step 0: worth a panel
EARLY, BEGINNING = 0.1, 40  # a run that broke in its first tenth is shown until 4 times that, 40 steps at least
WIDE = 8.0  # largest loss / smallest from which on its axis is logarithmic
PROOFS = {
    "activation_std": ("standard deviation of the outputs of each module; about 1 is meant at step 0", "std"),
    "saturated_fraction": ("saturated outputs: beyond 0.97 in size", "share"),
    "dead_fraction": ("dead units: 0 for every sample of the batch", "share"),
    "clip_ratio": ("gradient norm of the whole model / max_norm; above 1, clipping acts", "ratio"),
}
"""Title and vertical axis of the panels below update:data, where they are telling."""
GUIDES = {"update_to_data": 1e-3, "activation_std": 1.0, "clip_ratio": 1.0}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}

TITLED: dict[str, Any] = {"loc": "left", "color": "0.25", "pad": 4}


def draw(run: Run, findings: Sequence[Finding], subtitle: str) -> bytes:
    """A PNG of the run, 1,280 pixels wide, on white.

    Args:
        run: The run, with at least one step.
        findings: What `diagnose` found; their onsets are marked.
        subtitle: Stands under the run's name.
    """
    whole, run = run, _until_broken(run, findings)
    rows = _rows(run, findings)
    proofs = [name for name in PROOFS if _is_telling(run, name, findings)]
    heights = [LOSS, max(len(rows) * ROW, 0.7), UPDATES, *[PROOF] * len(proofs)]
    height = sum(heights) + GAP * (len(heights) - 1) + ABOVE + BELOW
    left = max(LEFT, LETTER * max(len(each) for each in rows) + 0.12)
    edges = edges_of(run.steps)
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, height))
        panels: list[Axes] = []
        top = height - ABOVE
        for each in heights:
            place = (left / WIDTH, (top - each) / height, (WIDTH - left - RIGHT) / WIDTH, each / height)
            panels.append(figure.add_axes(place, sharex=panels[0] if panels else None))
            panels[-1].tick_params(labelbottom=len(panels) == len(heights))
            top -= each + GAP
        _draw_loss(panels[0], run)
        _draw_depth(panels[1], run, rows, edges)
        _draw_updates(panels[2], run, edges)
        for panel, name in zip(panels[3:], proofs):
            _draw_proof(panel, run, name, edges)
        part = "" if len(run.steps) == len(whole.steps) else f"; the first {len(run.steps)} of {len(whole.steps):,}"
        panels[-1].set_xlabel(f"step (one optimizer update){part}")
        panels[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
        panels[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        margin = 0.012 * (edges[-1] - edges[0])  # so that an onset at step 0 can be seen
        panels[0].set_xlim(edges[0] - margin, edges[-1] + margin / 2)
        _mark_onsets(panels, findings)
        figure.text(0.1 / WIDTH, 1 - 0.08 / height, run.info.name, size=13, weight="bold", va="top")
        figure.text(0.1 / WIDTH, 1 - 0.34 / height, subtitle, size=9, color="0.3", va="top")
        return encode(figure)


def _until_broken(run: Run, findings: Sequence[Finding]) -> Run:
    """The beginning of a run that broke early, else all of it: what happened would be too narrow to be seen."""
    last = max((each.step for each in findings if each.severity == "critical"), default=0)
    if last == 0 or last > EARLY * len(run.steps):
        return run
    return run.until(int(run.steps[0]) + max(4 * last, BEGINNING) - 1)


def _rows(run: Run, findings: Sequence[Finding]) -> tuple[str, ...]:
    """The parameters of the heat map, in the order of the forward pass."""
    paths = model_order(run, "grad_norm")
    if len(paths) <= MOST_ROWS:
        return paths
    wide = {each.path for each in run.parameters if len(each.shape) > 1}
    named = {each.path for each in findings} | {each.path for each in _evidence(findings)}
    return tuple(path for path in paths if path in wide | named)


def _is_telling(run: Run, metric: str, findings: Sequence[Finding]) -> bool:
    """Whether a metric gets a panel: always the scale of the outputs, others where a finding or the run says so."""
    paths = run.paths(metric)
    if metric == "activation_std" or any(each.metric == metric for each in _evidence(findings)):
        return bool(paths)
    begun = [float(run.series(metric, path).values[:1].max(initial=0.0)) for path in paths]
    return metric.endswith("fraction") and max(begun, default=0.0) > LARGE_SHARE


def _evidence(findings: Sequence[Finding]) -> list[Evidence]:
    return [each for finding in findings for each in finding.evidence]


def _draw_loss(axes: Axes, run: Run) -> None:
    loss = run.series("loss")
    finite = np.isfinite(loss.values)
    steps, values = loss.steps[finite], loss.values[finite]
    axes.plot(steps, values, color="0.75", linewidth=0.7, label="at each step")
    parts = min(len(values) // 5, 40)
    if parts > 1:
        medians = [np.median(part) for part in np.array_split(values, parts)]
        middles = [np.mean(part) for part in np.array_split(steps, parts)]
        axes.plot(middles, medians, color=LINE, linewidth=1.4, label=f"median of {len(values) // parts:,} steps")
    if run.audit is not None and run.audit.expected is not None:
        axes.axhline(run.audit.expected, color="0.1", linewidth=0.9, linestyle="--",
                     label=f"model that knows\nnothing: {number(run.audit.expected)}")  # fmt: skip
    if not finite.all():
        axes.plot(loss.steps[~finite], np.full((~finite).sum(), 0.97), "|", color=BROKEN, label="not finite",
                  transform=axes.get_xaxis_transform())  # fmt: skip
    if values.min() > 0 and values.max() > WIDE * values.min():
        _scale_by_powers(axes, values.max() / values.min())
    axes.set_ylabel("loss (as logged)")
    _name_curves(axes)


def _scale_by_powers(axes: Axes, ratio: float) -> None:
    """A logarithmic axis with ticks that can be read, however narrow it is."""
    axes.set_yscale("log")
    if ratio < 1e3:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _name_curves(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.04), frameon=False, handlelength=1.3, labelspacing=0.6)


def _draw_depth(axes: Axes, run: Run, rows: Sequence[str], edges: Steps) -> None:
    """log10 of the gradient norm, parameters in the order of the forward pass, by column of steps."""
    shape = len(rows), len(edges) - 1
    levels, zero, broken = np.full(shape, np.nan), np.zeros(shape, bool), np.zeros(shape, bool)
    for row, path in enumerate(rows):
        for column, values in enumerate(split(run.series("grad_norm", path), edges)):
            usable = values[np.isfinite(values) & (values > 0)]
            broken[row, column] = not np.isfinite(values).all()
            zero[row, column] = len(values) > 0 and not values.any()
            if len(usable):
                levels[row, column] = np.log10(np.median(usable))
    known = levels[~np.isnan(levels)]
    middle, low, high = np.percentile(known, [50, TRIMMED, 100 - TRIMMED]) if len(known) else (0.0, -1.0, 1.0)
    low = max(low, middle - LOWEST)
    scale = ScalarMappable(Normalize(low, max(high, low + 0.1)), MAP)
    cells = scale.to_rgba(np.nan_to_num(levels))[..., :3]
    cells[np.isnan(levels)] = UNSEEN
    cells[zero], cells[broken] = ZERO, BROKEN
    axes.pcolormesh(edges - 0.5, np.arange(len(rows) + 1) - 0.5, cells)
    axes.invert_yaxis()
    axes.set_yticks(range(len(rows)), rows, size=7)
    axes.tick_params(axis="y", length=0)
    kinds = (("exactly 0", ZERO, zero), ("not finite", BROKEN, broken))
    marks = [Patch(facecolor=colour, edgecolor="0.4", label=name) for name, colour, mask in kinds if mask.any()]
    bar = axes.figure.colorbar(scale, cax=axes.inset_axes((1.02, 0.0, 0.02, 1.0)), extend="both", extendfrac=0.03)
    bar.locator = MaxNLocator(4, integer=high - low > 3)
    bar.set_label("log10 of the norm", size=8)
    if marks:
        axes.legend(handles=marks, loc="upper left", bbox_to_anchor=(1.1, 1.04), frameon=False, handlelength=1.0)
    axes.set_title("gradient norm of each parameter, before clipping; first layers on top", **TITLED)


def _draw_updates(axes: Axes, run: Run, edges: Steps) -> None:
    """update:data of the weights; of every parameter where no weight was ever updated."""
    weights = [each.path for each in run.parameters if len(each.shape) > 1]
    moved = [path for path in weights if run.series("update_to_data", path).values.any()]
    paths = moved or [path for path in run.paths("update_to_data") if run.series("update_to_data", path).values.any()]
    _draw_curves(axes, run, "update_to_data", paths, edges)
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(bottom=max(axes.get_ylim()[0], SHALLOWEST))
    axes.set_ylabel("std(update) / std")
    still = len(weights) - len(moved)
    title = f"update:data of each {'weight' if moved else 'parameter that moves'}; 1e-3 is usual"
    axes.set_title(title + (f"; {still} of {len(weights)} weights never move" if still else ""), **TITLED)


def _draw_proof(axes: Axes, run: Run, metric: str, edges: Steps) -> None:
    """A metric that a finding rests on."""
    paths = [path for path in model_order(run, metric) if len(run.series(metric, path))] or [""]
    _draw_curves(axes, run, metric, paths, edges)
    title, label = PROOFS[metric]
    axes.set_title(title, **TITLED)
    axes.set_ylabel(label)
    if metric in GUIDES:
        shown = np.concatenate([line.get_ydata() for line in axes.get_lines()])
        _scale_by_powers(axes, float(shown.max() / shown.min()))
    else:
        axes.set_ylim(-0.03, 1.03)


def _draw_curves(axes: Axes, run: Run, metric: str, paths: Sequence[str], edges: Steps) -> None:
    shades = MAP(np.linspace(0.0, 0.88, max(len(paths), 2)))
    for path, shade in zip(paths, shades):
        at, values = line(run.series(metric, path), edges, zeros=metric not in GUIDES)
        marker = "o" if len(at) <= FEW else ""
        axes.plot(at, values, color=shade, linewidth=1.0, marker=marker, markersize=3, label=path or "whole model")
    if metric in GUIDES:
        axes.axhline(GUIDES[metric], color="0.1", linewidth=0.9, linestyle="--")
    if len(paths) <= MOST_LABELS:
        _name_curves(axes)
        return
    depth = ScalarMappable(Normalize(0, 1), MAP)
    bar = axes.figure.colorbar(depth, cax=axes.inset_axes((1.02, 0.0, 0.02, 1.0)), ticks=[0, 1])
    bar.ax.set_yticklabels(["first layer", "last layer"], size=7.5)
    bar.ax.invert_yaxis()


def _mark_onsets(panels: Sequence[Axes], findings: Sequence[Finding]) -> None:
    """A line through all panels where a finding began, its code above; codes that are close together share a label."""
    low, high = panels[0].get_xlim()
    groups: list[list[Finding]] = []
    for each in sorted(findings, key=lambda each: each.rank, reverse=True):  # the worst on top
        for panel in panels:
            panel.axvline(each.step, color=COLOURS[each.severity], linewidth=1.0, linestyle=(0, (4, 2)), alpha=0.9)
    for each in sorted((each for each in findings if each.step <= high), key=lambda each: each.step):
        if groups and each.step - groups[-1][0].step < NEAR * (high - low):
            groups[-1].append(each)
        else:
            groups.append([each])
    for group in groups:
        worst = min(group, key=lambda each: each.rank)
        late = (group[0].step - low) / (high - low) > 0.7
        panels[0].annotate(
            ", ".join(dict.fromkeys(each.code for each in group)),
            (group[-1 if late else 0].step, 1.0),
            xycoords=panels[0].get_xaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right" if late else "left",
            size=8,
            weight="bold",
            color=COLOURS[worst.severity],
        )
