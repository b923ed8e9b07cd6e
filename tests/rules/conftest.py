"""Digests built from plain columns of numbers, through the same folding that a run goes through."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from auscult.core.anatomy import Anatomy
from auscult.core.audit import Audit, Spread
from auscult.core.catalogue import METRICS
from auscult.core.digest import BLOCK_STEPS, Block, Digest, digest_rows
from auscult.core.run import Module, Parameter, Segment
from auscult.core.sink import NOT_OBSERVED_32, NOT_OBSERVED_64, Channel, row_dtype

SAMPLED = 16


def parameter(path: str, *shape: int, trainable: bool = True, group: str | None = "main") -> Parameter:
    return Parameter(path, shape, "float32", trainable, group)


def stream_of(metric: str) -> str:
    return METRICS[metric].stream if metric in METRICS else "user"


def digest_columns(
    columns: Mapping[tuple[str, str], np.ma.MaskedArray | np.ndarray],
    parameters: tuple[Parameter, ...] = (),
    modules: tuple[Module, ...] = (),
    audit: Audit | None = None,
    every: int = 1,
    anatomy: Anatomy | None = None,
) -> Digest:
    """A digest of columns `(R,)` whose row r was recorded at step r * every; masked entries were not observed."""
    digest = Digest((Segment(0, 0.0, parameters, modules),), audit, anatomy=anatomy)
    streams: dict[str, list[tuple[str, str]]] = {}
    for key in columns:
        streams.setdefault(stream_of(key[0]), []).append(key)
    length = max((len(column) for column in columns.values()), default=0)
    steps = np.arange(length) * every
    for start in range(0, int(steps[-1]) + 1 if length else 0, BLOCK_STEPS):
        inside = (steps >= start) & (steps < start + BLOCK_STEPS)
        if inside.any():
            digest = digest.fold(*(_block(stream, keys, columns, steps, inside) for stream, keys in streams.items()))
    return digest


def _block(stream, keys, columns, steps, inside) -> Block:
    dtype = row_dtype(stream)
    missing = NOT_OBSERVED_64 if dtype == np.float64 else NOT_OBSERVED_32
    table = np.ma.stack([np.ma.asarray(columns[key], dtype) for key in keys], axis=1)[inside]
    with np.errstate(over="ignore"):
        rows = np.array(np.ma.getdata(table), dtype, order="C")
    rows.view(missing.dtype)[np.ma.getmaskarray(table)] = missing
    stop = int(steps[inside][-1]) + 1
    return digest_rows(stream, tuple(Channel(*key) for key in keys), steps[inside].astype(np.int64), rows, stop)


def spread(values: np.ndarray) -> Spread:
    return Spread(float(values.min()), float(values.max()), float(values.mean()), float(values.std(ddof=1)))


def share_of_distributions(rows: np.ndarray) -> float | None:
    if rows.ndim < 2 or rows.shape[1] < 2:
        return None
    return float(((rows >= 0).all(1) & np.isclose(rows.sum(1), 1, atol=1e-4)).mean())


def audit_of(loss: str, prediction: np.ndarray, target: np.ndarray, value: float = 1.0, **facts: Any) -> Audit:
    """The facts of a first loss call of predictions `(N, C)` or `(N,)`."""
    classes = prediction.shape[1] if loss in ("cross_entropy", "nll_loss") else 2 if "binary" in loss else None
    one_hot = target.ndim > 1 and target.shape[1] > 1
    given: dict[str, Any] = {
        "expected": float(np.log(classes)) if classes else float(target.var()),
        "reduction": "mean",
        "prediction": spread(prediction),
        "target": spread(target),
        "rows_sum_to_one": share_of_distributions(prediction),
        "rows_log_sum_to_one": share_of_distributions(np.exp(prediction)),
        "columns_sum_to_one": share_of_distributions(prediction.T),
        "one_hot_targets": bool((np.sort(target, 1) == np.eye(1, target.shape[1])[:, ::-1]).all()) if one_hot else None,
        "whole_targets": bool((target == np.round(target)).all()),
        **facts,
    }
    return Audit(0, loss, value, classes=classes, input_shape=prediction.shape, target_shape=target.shape, **given)


class Training:
    """A healthy run in columns, of which a test spoils some: four layers, update ratio 1e-3, a loss that falls."""

    def __init__(self, rows: int = 320, seed: int = 0) -> None:
        noise = np.random.default_rng(seed)
        self.rows = rows
        self.parameters = tuple(
            each
            for layer in range(4)
            for each in (parameter(f"layers.{layer}.weight", 32, 32), parameter(f"layers.{layer}.bias", 32))
        )
        self.modules: tuple[Module, ...] = ()
        self.audit: Audit | None = None
        self.anatomy: Anatomy | None = None
        self.every = 1
        wobble = {each.path: 10 ** noise.normal(0, 0.15, rows) for each in self.parameters}
        size = {each.path: 4.0 if len(each.shape) == 2 else 0.5 for each in self.parameters}
        self.columns: dict[tuple[str, str], np.ndarray] = {}
        for each in self.parameters:
            self.columns["grad_norm", each.path] = 0.1 * wobble[each.path]
            self.columns["param_norm", each.path] = np.full(rows, size[each.path])
            self.columns["update_norm", each.path] = 1e-3 * size[each.path] * wobble[each.path]
        self.columns["lr", "main"] = np.full(rows, 1e-2)
        self.columns["loss", ""] = 2.3 * np.exp(-np.arange(rows) / 200) * 10 ** noise.normal(0, 0.02, rows)

    def regroup(self, **groups: str | None) -> None:
        """Give parameters, by path with `__` for the dot, another optimizer group."""
        table = {path.replace("__", "."): group for path, group in groups.items()}
        self.parameters = tuple(replace(each, group=table.get(each.path, each.group)) for each in self.parameters)

    def digest(self, until: int | None = None, finished: bool = False) -> Digest:
        """The digest of the first `until` rows, or of all; of a run that goes on, or has ended."""
        columns = {key: column[:until] for key, column in self.columns.items()}
        digest = digest_columns(columns, self.parameters, self.modules, self.audit, self.every, self.anatomy)
        return replace(digest, finished=finished)

    def sample(self, metric: str, values: object, path: str = "", every: int = SAMPLED) -> None:
        """Add a column that is observed at every 16th row; `values` are those of all rows, or one for all."""
        column = np.broadcast_to(np.asarray(values, np.float64), self.rows)
        self.columns[metric, path] = np.ma.masked_array(column, np.arange(self.rows) % every != 0)

    def sample_losses(self, classes: int = 10, batch: int = 32) -> None:
        """Add what the loss call of a classifier shows: the logged loss is its own, targets are balanced."""
        uninformed = float(np.log(classes))
        loss = self.columns["loss", ""]
        self.audit = Audit(0, "cross_entropy", float(loss[0]), uninformed, classes, "mean", (batch, classes), (batch,))
        self.sample("observed_loss", loss)
        self.sample("uninformed_loss", uninformed - (classes - 1) / (2 * batch))

    def column(self, metric: str, path: str = "") -> np.ndarray:
        return self.columns[metric, path]


@pytest.fixture
def training() -> Training:
    return Training()


@pytest.fixture
def long_training() -> Training:
    return Training(rows=1600, seed=1)
