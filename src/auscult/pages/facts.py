"""Facts: what was not observed, and what is needed to reproduce a run, as HTML."""

import json
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from html import escape
from itertools import islice
from typing import Any

import numpy as np

from auscult.core.catalogue import METRICS
from auscult.core.metric import Scope
from auscult.core.run import Run
from auscult.pages.imported import imported
from auscult.pages.tables import folded, table
from auscult.pages.verdict import losses
from auscult.pages.wording import counted, cut, dimensions, figure, listed, shown, shown_lines

MAX_SETTINGS = 1000

SCOPE_WORDS: dict[Scope, str] = {
    "run": "Whole run",
    "group": "Parameter groups",
    "parameter": "Parameters",
    "module": "Modules",
    "category": "Categories",
    "rank": "Ranks",
}


def gaps(run: Run) -> str:
    """What was not observed, how often the rest was, and what failed: never a silent hole."""
    return imported(run) + _cadence(run) + _unobserved(run) + _notices(run)


def reproduction(run: Run) -> str:
    """Configuration, command, versions, host, and the model's parameters."""
    info = run.info
    rows = [
        ("name", shown(info.name)),
        ("id", shown(info.id)),
        ("created", moment(info.created)),
        ("command", shown_lines(shlex.join(info.command)) if info.command else "–"),
        ("seed", "–" if info.seed is None else str(info.seed)),
        ("git commit", shown(info.git_commit or "–")),
        ("host", shown(info.host)),
        ("devices", listed(info.devices, 16) or "–"),
        ("processes", f"{info.world_size:,}"),
        ("versions", ", ".join(f"{shown(name)} {shown(version)}" for name, version in info.versions.items()) or "–"),
        ("format version", str(info.format_version)),
    ]
    return (
        table("Identity and environment", ("fact", "value"), [(name, cut(text)) for name, text in rows])
        + _settings(info.config)
        + _segments(run)
        + _audit(run)
        + _model(run)
    )


def _settings(config: Mapping[str, Any]) -> str:
    """The first of the settings, each as far as it can be read."""
    rows = [(cut(name), cut(value_text(value))) for name, value in islice(flat(config), MAX_SETTINGS)]
    if not rows:
        return "<p>No configuration was given.</p>"
    count = sum(1 for _ in flat(config))
    more = "" if count == len(rows) else f": the first {len(rows):,} of {count:,} settings"
    return table(f"Configuration{more}", ("name", "value"), rows)


def moment(seconds: float) -> str:
    """A time since the epoch as `2026-11-21 09:17 UTC`; one that no calendar has is told in seconds."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, OSError, ValueError):
        return f"at no date ({seconds:.6g} s)"


def _cadence(run: Run) -> str:
    rows: list[tuple[str, ...]] = []
    for stream in run.streams:
        steps = [some for some, _ in run.source.columns(stream, [], run.stop)]
        recorded = np.concatenate(steps) if steps else np.empty(0, np.int64)
        if len(recorded):
            every = int(np.median(np.diff(recorded))) if len(recorded) > 1 else None
            names = dict.fromkeys(channel.metric for channel in run.source.channels(stream))
            cadence = "once" if every is None else "every step" if every == 1 else f"every {every:,} steps"
            span = f"{recorded[0]:,} to {recorded[-1]:,}"
            rows.append((stream, cadence, f"{len(recorded):,}", span, listed(list(names), 12)))
    return table("What was recorded, and how often", ("stream", "cadence", "rows", "steps", "metrics"), rows)


def _unobserved(run: Run) -> str:
    known = {*run.metrics, *(["loss"] if losses(run) else [])}
    ranked = any(METRICS[each].scope == "rank" for each in run.metrics if each in METRICS)
    missing = [each for each in METRICS.values() if each.name not in known and (ranked or each.scope != "rank")]
    rows = [(each.name, SCOPE_WORDS[each.scope], each.formula) for each in missing]
    seen = set(run.paths("grad_norm"))
    silent = [each.path for each in run.parameters if each.trainable and each.path not in seen]
    frozen = [each.path for each in run.parameters if not each.trainable]
    measured = set(run.paths("activation_std"))
    without = [each.path for each in run.modules if each.leaf and each.path not in measured]
    sentences = [
        f"{counted(len(silent), 'trainable parameter')} without a gradient norm: {listed(silent, 8)}."
        if silent
        else "",
        f"{counted(len(frozen), 'frozen parameter')}: {listed(frozen, 8)}." if frozen else "",
        f"{counted(len(without), 'leaf module')} without activation statistics: {listed(without, 8)}."
        if without
        else "",
    ]
    items = "".join(f"<li>{escape(each)}</li>" for each in sentences if each)
    listing = f"<ul>{items}</ul>" if items else ""
    if not rows:
        return listing
    caption = f"{counted(len(rows), 'metric')} of the catalogue not observed"
    return listing + folded(caption, table(caption, ("metric", "scope", "definition"), rows))


def _notices(run: Run) -> str:
    """Damage, failures of the monitor and changes of its schedule."""
    sentences = [f"Missing or damaged: {shown_lines(each)}" for each in run.damage]
    for event in run.events:
        if event["kind"] in ("failure", "schedule") and event["step"] < run.stop:
            details = ", ".join(
                f"{name} {value_text(value)}" for name, value in event.items() if name not in ("kind", "step", "time")
            )
            word = "Failure of the monitor" if event["kind"] == "failure" else "Schedule"
            sentences.append(f"{word} at step {event['step']:,}: {shown_lines(details)}")
    items = "".join(f"<li>{escape(each)}</li>" for each in sentences)
    return f'<h3>Notices</h3><ul class="notices">{items}</ul>' if items else ""


def _segments(run: Run) -> str:
    if len(run.segments) < 2:
        return ""
    rows = [
        (
            "beginning" if position == 0 else f"resume {position}",
            f"{each.step:,}",
            moment(each.time),
            value_text(dict(each.versions)),
        )
        for position, each in enumerate(run.segments)
    ]
    return table("Segments", ("segment", "first step", "began", "versions"), rows)


def _audit(run: Run) -> str:
    audit = run.audit
    if audit is None:
        return "<p>The loss call was not observed.</p>"
    row = (
        shown(audit.loss),
        f"{audit.step:,}",
        figure(audit.value),
        figure(audit.expected),
        "–" if audit.classes is None else f"{audit.classes:,}",
        shown(audit.reduction),
        dimensions(audit.input_shape),
        dimensions(audit.target_shape),
    )
    head = ("loss", "step", "value", "of an uninformed model", "classes", "reduction", "predictions", "targets")
    return table("The first loss call", head, [row])


def _model(run: Run) -> str:
    parameters = run.parameters
    if not parameters:
        return "<p>The model's parameters were not recorded.</p>"
    types = {each.path: each.type for each in run.modules}
    total = sum(each.size for each in parameters)
    rows = (
        (
            shown(each.path),
            shown(types.get(each.path.rpartition(".")[0], "–")),
            dimensions(each.shape),
            f"{each.size:,}",
            shown(each.dtype),
            "yes" if each.trainable else "frozen",
            "–" if each.group is None else shown(each.group),
            listed(each.aliases) or "–",
        )
        for each in parameters
    )
    head = ("parameter", "module", "shape", "elements", "dtype", "trainable", "group", "also known as")
    caption = f"Model: {counted(len(parameters), 'parameter')}, {counted(total, 'element')}"
    return folded(caption, table(caption, head, rows))


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted names."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{shown(str(name))}.")
        else:
            yield f"{prefix}{shown(str(name))}", value


def value_text(value: Any) -> str:
    """A setting in a few words."""
    if isinstance(value, float):
        return figure(value, 6)
    return shown_lines(value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False))
