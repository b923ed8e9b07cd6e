"""Spreads: how the elements of tensors were distributed over time, as mean and standard deviation.

From the moments that are recorded on a schedule: of a long stream from its digests of 64 steps, else from its rows.
Knows nothing of how it is drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auscult.core.detail import TensorKind
from auscult.core.digest import channel_values, complete_blocks
from auscult.core.run import Run
from auscult.core.sink import Channel, observed
from auscult.pages.curve import evenly
from auscult.pages.packed import packed, shortened
from auscult.pages.sweep import steps_of
from auscult.pages.wording import shown

Steps = NDArray[np.int64]
Floats = NDArray[np.float64]

KINDS: Mapping[TensorKind, str] = {
    "activation": "Activations",
    "activation_grad": "Activation gradients",
    "grad": "Gradients of parameters",
    "param": "Parameters",
    "update": "Updates",
}
STREAM = "sampled"
MAX_PATHS = 600
MAX_COLUMNS = 200
MAX_CELLS = 60_000
"""Paths times columns of one kind."""
MAX_ROWS_READ = 2_400
"""Of a longer stream the digests are read."""
NOT_OBSERVED = -1.0
"""In place of a standard deviation."""


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Tensors of one kind: P of them over C columns of steps.

    Attributes:
        kind: What they are.
        paths: Their modules or parameters `(P,)` in model order.
        total: How many were observed; those beyond P are left out, evenly.
        starts: First step of each column, int64 `(C,)`, increasing.
        mean: Mean of the elements `(P, C)`, of a column of several rows the mean of their means.
        std: Their standard deviation `(P, C)`, of several rows the largest; NaN where one of the two is not finite, -1
            where nothing was observed.
    """

    kind: TensorKind
    paths: tuple[str, ...]
    total: int
    starts: Steps
    mean: Floats
    std: Floats

    @property
    def title(self) -> str:
        """What they are, in words."""
        return KINDS[self.kind]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types; the arrays packed as float32 of three significant digits."""
        return {
            "kind": self.kind,
            "title": self.title,
            "rows": [shown(each) for each in self.paths],
            "starts": self.starts.tolist(),
            "mean": packed(shortened(self.mean)),
            "std": packed(shortened(self.std)),
        }


def spreads(run: Run) -> list[Spread]:
    """Every kind of tensor of which mean and standard deviation were observed."""
    if STREAM not in run.streams:
        return []
    index = {channel: position for position, channel in enumerate(run.source.channels(STREAM))}
    ranks = {
        path: rank for rank, path in enumerate((*(p.path for p in run.parameters), *(m.path for m in run.modules)))
    }
    wanted: dict[TensorKind, list[str]] = {}
    totals: dict[TensorKind, int] = {}
    for kind in KINDS:
        paths = [
            channel.path
            for channel in index
            if channel.metric == f"{kind}_std" and Channel(f"{kind}_mean", channel.path) in index
        ]
        paths.sort(key=lambda path: ranks.get(path, len(ranks)))
        totals[kind] = len(paths)
        wanted[kind] = [paths[each] for each in evenly(len(paths), MAX_PATHS)]
    found = _read(run, index, {kind: paths for kind, paths in wanted.items() if paths})
    return [
        Spread(kind, tuple(wanted[kind]), totals[kind], starts, mean, std)
        for kind, (starts, mean, std) in found.items()
        if (std != NOT_OBSERVED).any()
    ]


def _read(
    run: Run, index: Mapping[Channel, int], wanted: Mapping[TensorKind, Sequence[str]]
) -> dict[TensorKind, tuple[Steps, Floats, Floats]]:
    steps = steps_of(run, STREAM)
    if not wanted or not len(steps):
        return {}
    places: dict[TensorKind, list[NDArray[np.intp]]] = {
        kind: [np.array([index[Channel(f"{kind}_{name}", path)] for path in paths]) for name in ("mean", "std")]
        for kind, paths in wanted.items()
    }
    found = _of_blocks(run, places, int(steps[-1]) + 1) if len(steps) > MAX_ROWS_READ else None
    if found is None:
        found = {}
        for kind, each in places.items():
            found[kind] = (steps, *_of_rows(run, each))
    return {kind: _few(*_seen(*each)) for kind, each in found.items()}


def _seen(starts: Steps, mean: Floats, std: Floats) -> tuple[Steps, Floats, Floats]:
    """The columns in which anything was observed."""
    seen = (std != NOT_OBSERVED).any(0)
    return starts[seen], mean[:, seen], std[:, seen]


def _of_rows(run: Run, places: Sequence[NDArray[np.intp]]) -> tuple[Floats, Floats]:
    """Means and standard deviations `(P, R)` of every row."""
    count = len(places[0])
    pieces: list[tuple[Floats, Floats]] = []
    for _, columns in run.source.columns(STREAM, np.concatenate(places).tolist(), run.stop):
        plain = np.ascontiguousarray(columns)
        seen, values = observed(plain), plain.astype(np.float64)
        pieces.append(_checked(values[:count], values[count:], seen[:count] & seen[count:]))
    means, stds = zip(*pieces)
    return np.concatenate(means, axis=1), np.concatenate(stds, axis=1)


def _of_blocks(
    run: Run, places: Mapping[TensorKind, Sequence[NDArray[np.intp]]], end: int
) -> dict[TensorKind, tuple[Steps, Floats, Floats]] | None:
    """Means and standard deviations `(P, B)` of every block of 64 steps, in one pass; None if no block is stored."""
    if next(iter(run.source.blocks(STREAM)), None) is None:
        return None
    starts: list[int] = []
    parts: dict[TensorKind, list[tuple[Floats, Floats]]] = {kind: [] for kind in places}
    for block in complete_blocks(run, STREAM, end):
        starts.append(block.start)
        for kind, (means, stds) in places.items():
            parts[kind].append(_of_block(channel_values(block, means), channel_values(block, stds)))
    found: dict[TensorKind, tuple[Steps, Floats, Floats]] = {}
    for kind, several in parts.items():
        mean, std = (np.stack(each, axis=1) for each in zip(*several))
        found[kind] = np.array(starts, np.int64), mean, std
    return found


def _of_block(means: NDArray[np.void], stds: NDArray[np.void]) -> tuple[Floats, Floats]:
    """Mean and largest standard deviation `(P,)` of one block."""
    whole = (means["count"] == means["finite"]) & (stds["count"] == stds["finite"])
    mean, std = (np.where(whole, each, np.nan).astype(np.float64) for each in (means["mean"], stds["maximum"]))
    return _checked(mean, std, (means["count"] > 0) & (stds["count"] > 0))


def _checked(mean: Floats, std: Floats, seen: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    bad = ~(np.isfinite(mean) & np.isfinite(std))
    return np.where(bad | ~seen, np.nan, mean), np.where(seen, np.where(bad, np.nan, std), NOT_OBSERVED)


def _few(starts: Steps, mean: Floats, std: Floats) -> tuple[Steps, Floats, Floats]:
    """Columns put together until there are few enough; the largest standard deviation stands for several, or NaN."""
    limit = max(50, min(MAX_COLUMNS, MAX_CELLS // len(mean)))
    if len(starts) <= limit:
        return starts, mean, std
    edges = np.unique(np.arange(limit) * len(starts) // limit)
    seen = std != NOT_OBSERVED
    count = np.add.reduceat(seen, edges, axis=1, dtype=np.int64)
    total = np.add.reduceat(np.where(seen, mean, 0.0), edges, axis=1)
    widest = np.maximum.reduceat(std, edges, axis=1)  # NaN wins, and -1 only where there is nothing else
    with np.errstate(invalid="ignore"):
        return starts[edges], np.where(np.isnan(widest), np.nan, total / count), widest
