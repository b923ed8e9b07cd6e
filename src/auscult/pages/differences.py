"""Differences: what two or more runs were given and found differently, as HTML; and their heat maps divided."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.pages.facts import MAX_SETTINGS, flat, value_text
from auscult.pages.heatmap import FARTHEST, FRACTIONS, LOG_SCALE, NON_FINITE, NOT_OBSERVED, ZERO, Heatmap, reach_of
from auscult.pages.sweep import Sweep
from auscult.pages.tables import folded, table
from auscult.pages.wording import SEVERITY_WORDS, counted, cut, dimensions, figure, place, shown, shown_lines

Floats = NDArray[np.float64]

MISSING = "–"


def setting_table(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Settings and environment that are not the same in all runs; the others are counted."""
    several = [_settings(run) for run in runs]
    keys = list(dict.fromkeys(key for settings in several for key in settings))
    unequal = [key for key in keys if len({settings.get(key, MISSING) for settings in several}) > 1]
    equal = len(keys) - len(unequal)
    if not unequal:
        return f"<p>All {counted(equal, 'setting')} and facts of the environment are the same.</p>"
    rows = [(cut(key), *(cut(settings.get(key, MISSING)) for settings in several)) for key in unequal[:MAX_SETTINGS]]
    left_out = len(unequal) - len(rows)
    more = f"<p>{counted(left_out, 'further setting')} differ, too.</p>" if left_out else ""
    same = f'<p class="quiet">{counted(equal, "other setting")} and facts are the same.</p>' if equal else ""
    return table("Set differently", ("name", *map(shown, names)), rows) + more + same


def parameter_table(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Parameters that not all runs have, or not in the same shape; empty where there are none."""
    several = [{each.path: dimensions(each.shape) for each in run.parameters} for run in runs]
    paths = dict.fromkeys(path for shapes in several for path in shapes)
    unequal = [path for path in paths if len({shapes.get(path, MISSING) for shapes in several}) > 1]
    if not unequal:
        return ""
    rows = [(shown(path), *(shapes.get(path, MISSING) for shapes in several)) for path in unequal]
    caption = f"{counted(len(unequal), 'parameter')} of other shapes"
    return folded(caption, table(caption, ("parameter", *map(shown, names)), rows))


def finding_table(found: Sequence[Sequence[Finding]], names: Sequence[str]) -> str:
    """Every finding, and in which of the runs it is."""
    several = [{each.key: each for each in findings} for findings in found]
    keys = list(dict.fromkeys(each.key for findings in found for each in sorted(findings, key=lambda one: one.rank)))
    if not keys:
        return '<p class="quiet">None of the rules found anything to report in any of them.</p>'
    rows: list[tuple[str, ...]] = []
    for key in keys:
        one = next(findings[key] for findings in several if key in findings)
        title = f"{shown(one.code)} {shown_lines(one.name)}, {place(one.path)}"
        rows.append((title, *(_since(findings.get(key)) for findings in several)))
    return table("Findings side by side", ("finding", *map(shown, names)), rows)


def divided(left: Sweep, right: Sweep, names: tuple[str, str]) -> Heatmap | None:
    """How many times the values of the second run are those of the first, per row and column.

    Of the smallest and the largest value of a column that one is taken whose ratio is farther from 1.

    Args:
        left: A metric of the first run.
        right: The same of the second, summed up by the same columns.
        names: What the runs are called.

    Returns:
        None for a share, which is not divided, and where the runs have no row or no column in common.
    """
    known = set(right.paths)
    rows = [path for path in left.paths if path in known]
    starts, one, other = np.intersect1d(left.starts, right.starts, return_indices=True)
    if left.metric in FRACTIONS or not rows or not len(starts):
        return None
    positions = ({path: position for position, path in enumerate(swept.paths)} for swept in (left, right))
    places = [np.array([each[path] for path in rows]) for each in positions]
    first, second = np.ix_(places[0], one), np.ix_(places[1], other)
    with np.errstate(invalid="ignore", divide="ignore"):
        ends = [np.log10(b[second] / a[first]) for a, b in ((left.low, right.low), (left.high, right.high))]
    low, high = (np.nan_to_num(each, nan=0.0, posinf=0.0, neginf=0.0) for each in ends)
    codes = np.where(np.abs(low) > np.abs(high), low, high) * LOG_SCALE
    codes = np.clip(np.rint(codes), -FARTHEST, FARTHEST)
    codes[left.zero[first] ^ right.zero[second]] = ZERO
    codes[left.bad[first] | right.bad[second]] = NON_FINITE
    codes[~(left.seen[first] & right.seen[second])] = NOT_OBSERVED
    return Heatmap(
        left.metric, tuple(rows), starts, left.stops[one], codes.astype(np.int16), None, np.ones(len(rows)), "log",
        reach_of(codes), names,
    )  # fmt: skip


def divided_table(divided_by: Heatmap) -> str:
    """Of every row the median and the farthest ratio."""
    assert divided_by.pair is not None
    rows: list[tuple[str, ...]] = []
    for path, codes in zip(divided_by.rows, divided_by.codes.astype(np.int64)):
        usual = np.flatnonzero(codes > ZERO)
        if not len(usual):
            rows.append((shown(path), MISSING, MISSING, MISSING))
            continue
        far = int(usual[np.abs(codes[usual]).argmax()])
        ratios = 10.0 ** (np.array([np.median(codes[usual]), codes[far]]) / LOG_SCALE)
        rows.append((shown(path), figure(float(ratios[0])), figure(float(ratios[1])), f"{divided_by.starts[far]:,}"))
    title = f"{divided_by.metric}, {shown(divided_by.pair[1])} / {shown(divided_by.pair[0])}"
    head = ("path", "median ratio", "farthest ratio", "at step")
    return folded(f"{title} as a table", table(title, head, rows))


def legend(names: Sequence[str], verdicts: Sequence[str]) -> str:
    """Each run with its colour and its verdict."""
    items = "".join(
        f'<li><svg class="swatch" viewBox="0 0 20 10" aria-hidden="true"><path class="run-{number}" d="M0 5H20"/></svg>'
        f"<strong>{escape(shown(name))}</strong> {escape(verdict)}</li>"
        for number, (name, verdict) in enumerate(zip(names, verdicts), 1)
    )
    return f'<ul class="runs">{items}</ul>'


def _settings(run: Run) -> Mapping[str, str]:
    info = run.info
    environment = {
        "command": " ".join(info.command),
        "seed": info.seed,
        "git commit": info.git_commit,
        "host": info.host,
        "devices": list(info.devices),
        "processes": info.world_size,
        **{f"version of {name}": version for name, version in info.versions.items()},
    }
    config = {name: value_text(value) for name, value in flat(info.config)}
    return config | {
        f"({name})": MISSING if value is None else value_text(value) for name, value in environment.items()
    }


def _since(finding: Finding | None) -> str:
    if finding is None:
        return MISSING
    recovered = ", recovered" if finding.status == "recovered" else ""
    return f"{SEVERITY_WORDS[finding.severity]}{recovered}, since step {finding.step:,}"
