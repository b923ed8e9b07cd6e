"""Values: what a row says, with the totals and ratios that `run.series` derives from it."""

from dataclasses import replace

import numpy as np

from auscult.core.catalogue import METRICS
from auscult.core.sink import Record, Values, observed

Table = dict[str, dict[str, float]]
"""Values by metric and path."""

_DERIVED = tuple(each for each in METRICS.values() if each.inputs)


def table_of(record: Record, values: Values | None = None) -> Table:
    """What a row says, or would say with other values `(C,)`."""
    told = record if values is None else replace(record, values=values)
    table: Table = {}
    for channel, value in told.items():
        table.setdefault(channel.metric, {})[channel.path] = value
    return table


def carried(record: Record, before: Values | None) -> Values:
    """A row in which a parameter that was not observed has what it last had (`Metric.when_missing`), `(C,)`.

    Args:
        record: The row.
        before: The same of the row before; None for the first.
    """
    seen = observed(record.values)
    if before is None or seen.all():
        return record.values
    latest = record.values.copy()
    old = np.flatnonzero(~seen[: len(before)])
    latest[old] = before[old]
    return latest


def with_derived(table: Table, latest: Table, coefficient: float | None) -> Table:
    """The same with everything that can be derived from it.

    Args:
        table: What a row says.
        latest: The same with what was not observed as it last was.
        coefficient: By what clipping multiplied the gradients of this step; None where that is not known.

    Returns:
        Also the norms of the whole model, under the path `""`, and all derived metrics, of every path that has their
        inputs; each equal to what `run.series` says of this step.
    """
    whole = {metric: dict(values) for metric, values in table.items()}
    for metric, values in whole.items():
        entry = METRICS.get(metric)
        if entry is not None and entry.adds_up and "" not in values:
            summed = latest[metric] if entry.when_missing == "last" and metric in latest else values
            squares = np.array(list(summed.values()), np.float64) ** 2
            values[""] = float(np.sqrt(squares.sum()))
    for entry in _DERIVED:
        inputs = [
            dict.fromkeys(whole.get("grad_norm", ()), coefficient)
            if name == "clip_coefficient" and coefficient is not None
            else whole.get(name, {})
            for name in entry.inputs
        ]
        paths = [path for path in inputs[0] if all(path in each for each in inputs[1:])]
        if paths and entry.derive is not None:
            arrays = [np.array([each[path] for path in paths], np.float64) for each in inputs]
            whole[entry.name] = dict(zip(paths, entry.derive(*arrays).tolist(), strict=True))
    return whole
