"""Course: how the training loss went, measured against its beginning and against a model that knows nothing.

Knows no bounds and passes no judgement.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, log, nan, prod
from typing import Any

import numpy as np

from auscult.core.digest import BLOCK_STEPS, ChannelIndex, Digest
from auscult.core.finding import Evidence
from auscult.core.naming import EVALUATIONS
from auscult.core.state import RECENT_BLOCKS
from auscult.rules.channels import (
    Logs,
    finite_tail,
    of_whole_run,
    roster,
    state_of,
    training_loss,
    update_ratios,
)

SAME, LIKE = 1e-3, 0.25  # relative differences of first values
ENOUGH_ROWS, SAMPLED_BLOCKS = 32, 4
ALIKE = 1e-6
STALE_BLOCKS, STALE = 2, 0.25  # share of the run


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """How the training loss went.

    Attributes:
        name: The metric.
        state: Its state.
        first: Its first value.
        early: Its level over the first block.
        best: The lowest level of a block that is still known, the first one included.
        now: Its level now: the mean over the last block, over two where that is short, over four if it is sampled only.
        uninformed: The same loss for the best constant prediction, corrected for the size of the batch; None where that
            is not known.
        step: The last step at which it was observed.
    """

    name: str
    state: Any
    first: float
    early: float
    best: float
    now: float
    uninformed: float | None
    step: int

    @property
    def standing(self) -> float:
        """Level now / uninformed level: 1 for a model that knows nothing; NaN where that is not known."""
        if self.uninformed is None or not self.uninformed > 0:
            return nan
        return self.now / self.uninformed

    @property
    def start(self) -> float:
        """The lower of the first value and the level over the first block."""
        return min(self.first, self.early)

    @property
    def diverged(self) -> bool:
        """Whether the last block had no finite loss at all."""
        return bool(np.isnan(self.state["recent_mean"][-1]))

    def evidence(self, bound: float | None = None) -> Evidence:
        """Where it stands now, against the uninformed level unless another bound is given."""
        return Evidence(self.name, "", self.step, self.now, self.uninformed if bound is None else bound)

    def means(self, count: int) -> Logs:
        """The levels of the last `count` blocks, oldest first, fewer if there are fewer."""
        return finite_tail(self.state["recent_mean"], count)


@lru_cache(maxsize=1)
def course(digest: Digest) -> Course | None:
    """The course of the loss that the user logs, or, where that is not the loss call's own, of the observed one."""
    logged, observed = training_loss(digest), state_of(digest, "observed_loss")
    uninformed = _uninformed(digest)
    if logged is not None:
        first = float(logged.state["first"])
        if observed is not None and _near(first, float(observed["first"]), SAME):
            return _course(logged.name, logged.state, uninformed)
        if observed is None and digest.audit is not None and _near(first, digest.audit.value, LIKE):
            return _course(logged.name, logged.state, uninformed)
    if observed is not None and uninformed is not None and (logged is None or not is_stale(digest, observed)):
        return _course("observed_loss", observed, uninformed)
    return None if logged is None else _course(logged.name, logged.state, None)


def is_stale(digest: Digest, state: Any) -> bool:
    """Whether a figure was last observed too long ago to speak of now, as where sampling has become rare."""
    age = digest.step - int(state["last_step"])
    return age > STALE_BLOCKS * BLOCK_STEPS and age > STALE * digest.step


def _course(name: str, state: Any, uninformed: float | None) -> Course:
    sampled = name == "observed_loss"
    short = int(state["last_step"]) % BLOCK_STEPS + 1 < ENOUGH_ROWS
    means = finite_tail(state["recent_mean"], SAMPLED_BLOCKS if sampled else 2 if short else 1).tolist()
    *whole, last = means or [nan]
    rows = int(state["last_step"]) % BLOCK_STEPS + 1
    now = (BLOCK_STEPS * sum(whole) + rows * last) / (BLOCK_STEPS * len(whole) + rows)
    first = float(state["first"])
    early = 10 ** float(state["early"][0]) if state["minimum"] > 0 and isfinite(state["early"][0]) else first
    best = float(np.fmin.reduce([early, *state["recent_mean"]]))
    return Course(name, state, first, early, best, now, uninformed, int(state["last_step"]))


def _near(left: float, right: float, tolerance: float) -> bool:
    return isfinite(left) and isfinite(right) and abs(left - right) <= tolerance * max(abs(left), abs(right))


def _uninformed(digest: Digest) -> float | None:
    """The level of a model that knows nothing.

    A batch of n targets has on average a lower entropy than what it was drawn from, by about (C - 1) / (2 n) nats
    (Miller, 1955), and a variance lower by the factor (n - 1) / n; both are made good, unless all batches have the same
    level, as where one holds all the data. Entropy is never above log(C).
    """
    audit, state = digest.audit, state_of(digest, "uninformed_loss")
    if state is None:
        return audit.expected if audit is not None and audit.reduction == "mean" else None
    means = finite_tail(state["recent_mean"], RECENT_BLOCKS)
    if not len(means):
        return None
    level = float(means.mean())
    same = state["rows"] > 1 and state["maximum"] - state["minimum"] <= ALIKE * abs(state["maximum"])
    if audit is None or audit.reduction != "mean" or same:
        return level
    if audit.classes is not None:
        count = max(1, prod(audit.target_shape) if audit.counted is None else audit.counted)
        return max(level, min(level + (audit.classes - 1) / (2 * count), log(max(audit.classes, 2))))
    count = audit.target_shape[0] if audit.target_shape else 1
    return level * count / (count - 1) if count > 1 else max(level, audit.expected or 0.0)


def is_adversarial(digest: Digest) -> bool:
    """Whether several optimizers take part: their losses may rise against each other and mean nothing by that."""
    return roster(digest).optimizers > 1


@lru_cache(maxsize=1)
def travel(digest: Digest) -> float:
    """How far the median weight can have moved in all, as a multiple of its norm: the sum of its update ratios.

    Blocks that are no longer known count as the geometric mean of the first four and the last sixteen.
    """
    parameters, ratios = update_ratios(digest)
    if not parameters:
        return nan
    paths = tuple(each.path for each in parameters)
    early = digest.take("early", "update_norm", paths) - digest.take("early", "param_norm", paths)
    blocks = int(digest.take("blocks", "update_norm", paths).max())
    per_block = float(np.median(digest.take("last_step", "update_norm", paths) + 1)) / blocks
    known = np.where(np.isnan(ratios), -np.inf, ratios)[:, -min(blocks, ratios.shape[1]) :]
    moved = (10.0**known).sum(1)
    if blocks > ratios.shape[1]:
        both = np.concatenate([early, ratios], axis=1)
        finite = np.isfinite(both)
        count = np.where(finite.any(1), finite.sum(1), np.nan)  # where there is none, the way is not known
        moved += (blocks - ratios.shape[1]) * 10.0 ** (np.where(finite, both, 0.0).sum(1) / count)
    return per_block * float(np.median(moved))


def evaluations(digest: Digest, metric: str) -> list[tuple[str, Any]]:
    """Names such as `val/loss` and states of an evaluation's metric, most often evaluated first."""
    states = ((name, state_of(digest, name)) for name in _evaluated(digest.index, metric))
    return sorted((each for each in states if each[1] is not None), key=lambda each: -int(each[1]["rows"]))


def accuracies(digest: Digest) -> list[tuple[str, Any]]:
    """Names such as `val/accuracy` and states, most often evaluated first."""
    return evaluations(digest, "accuracy") or evaluations(digest, "acc")


@lru_cache(maxsize=32)
def _evaluated(index: ChannelIndex, metric: str) -> tuple[str, ...]:
    parts = ((name, name.lower().split("/")) for name in of_whole_run(index))
    return tuple(name for name, (*owner, last) in parts if last == metric and not EVALUATIONS.isdisjoint(owner))
