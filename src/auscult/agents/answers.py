"""Answers: what is told of runs, as plain JSON types of bounded size."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from auscult.agents.fence import Fence
from auscult.core.errors import AuscultError, SetupError
from auscult.core.finding import number_to_json
from auscult.core.run import Run
from auscult.core.series import Series
from auscult.pages.curve import summary, thin
from auscult.pages.diagnosis import diagnosis
from auscult.pages.verdict import verdict
from auscult.reading import diagnose, examine

MIN_POINTS, MAX_POINTS = 5, 2000
MAX_RUNS, MAX_CHANNELS, MAX_COMPARED = 200, 400, 8


def list_runs(fence: Fence) -> dict[str, Any]:
    """Every run with its steps and verdict; a run that cannot be read says why."""
    names = fence.names()
    told: list[dict[str, Any]] = []
    for name in names[:MAX_RUNS]:
        try:
            run = fence.open(name)
            told.append({"run": name, "steps": len(run.steps), "verdict": verdict(run, diagnose(run))})
        except (AuscultError, OSError) as error:
            told.append({"run": name, "error": str(error)})
    return {"runs": told, "not_listed": len(names) - len(told)}


def tell_verdict(fence: Fence, run: str) -> dict[str, Any]:
    """A diagnosis without its findings, and what was recorded."""
    opened = fence.open(run)
    whole = diagnosis(opened, diagnose(opened))
    recorded = [
        {"metric": channel.metric, "path": channel.path}
        for stream in opened.streams
        for channel in opened.source.channels(stream)
    ]
    kept = {name: value for name, value in whole.items() if name not in ("findings", "ignored")}
    return {
        **kept,
        "findings": len(whole["findings"]),
        "recorded": recorded[:MAX_CHANNELS],
        "recorded_not_listed": max(0, len(recorded) - MAX_CHANNELS),
        "derived": sorted({*opened.metrics} - {each["metric"] for each in recorded}),
    }


def tell_findings(fence: Fence, run: str) -> dict[str, Any]:
    """The diagnosis, as `auscult diagnose --json` prints it."""
    opened = fence.open(run)
    findings, left_out = examine(opened)
    return diagnosis(opened, findings, [(each.pattern, each.finding) for each in left_out])


def tell_series(
    fence: Fence, run: str, metric: str, path: str = "", points: int = 200, first: int | None = None,
    last: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One metric of one path, thinned to a number of points so that no extreme and no non-finite value is lost.

    Raises:
        SetupError: if `points` is out of range.
    """
    if not MIN_POINTS <= points <= MAX_POINTS:
        raise SetupError(
            f"Expected `points` between {MIN_POINTS} and {MAX_POINTS}, but got {points}. Leave it out for 200."
        )
    whole = fence.open(run).series(metric, path)
    low = 0 if first is None else int(np.searchsorted(whole.steps, first))
    high = len(whole) if last is None else int(np.searchsorted(whole.steps, last, side="right"))
    series = Series(metric, path, whole.steps[low:high], whole.values[low:high], whole.unit)
    steps, values = thin(series.steps, series.values, points)
    return {
        "run": run,
        "metric": metric,
        "path": path,
        "unit": series.unit,
        "observed": whole.observed,
        "summary": _summary(series),
        "steps": steps.tolist(),
        "values": [number_to_json(each) for each in values.tolist()],
    }


def compare(fence: Fence, runs: list[str], metric: str = "loss", path: str = "") -> dict[str, Any]:
    """Several runs side by side: verdicts, findings by code and path, one metric in figures, differing settings.

    Raises:
        SetupError: if there are too few or too many.
    """
    runs = list(dict.fromkeys(runs))
    if not 2 <= len(runs) <= MAX_COMPARED:
        raise SetupError(
            f"Expected 2 to {MAX_COMPARED} runs to compare, each named once, but got {len(runs)}. "
            "Name them as list_runs does."
        )
    opened = {name: fence.open(name) for name in runs}
    told: list[dict[str, Any]] = []
    for name, run in opened.items():
        findings = diagnose(run)
        series = _series_or_none(run, metric, path)
        told.append(
            {
                "run": name,
                "steps": len(run.steps),
                "verdict": verdict(run, findings),
                "findings": [f"{each.code} {each.name} {each.path}".strip() for each in findings],
                "summary": None if series is None else _summary(series),
                "as": None if series is None else series.name,
            }
        )
    configs = {name: _flat(run.info.config) for name, run in opened.items()}
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    differing = {
        key: {name: config.get(key) for name, config in configs.items()}
        for key in keys
        if len({repr(config.get(key)) for config in configs.values()}) > 1
    }
    return {"metric": metric, "path": path, "runs": told, "differing_config": differing}


def in_json(value: Any) -> Any:
    """The same in what strict JSON can say: non-finite numbers as `"nan"` or `"inf"`, half a character escaped."""
    if isinstance(value, Mapping):
        return {in_json(str(name)): in_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [in_json(each) for each in value]
    if isinstance(value, float):
        return number_to_json(float(value))
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _summary(series: Series) -> dict[str, Any] | None:
    """Count, first, last, smallest, largest and what is not finite; None without values."""
    figures = summary(series)
    if figures is None:
        return None
    return {
        name: number_to_json(value) if isinstance(value, float) else value for name, value in asdict(figures).items()
    }


def _series_or_none(run: Run, metric: str, path: str) -> Series | None:
    """The series; for `loss` the training loss under whatever name it was logged; None if it was not observed."""
    names = [metric, "train/loss", "train_loss"] if metric == "loss" else [metric]
    for name in names:
        if name in run.metrics:
            series = run.series(name, path)
            if series.observed:
                return series
    return None


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
