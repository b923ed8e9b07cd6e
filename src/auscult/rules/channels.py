"""What rules ask of a digest: the state of a channel, the loss, update ratios, when a block began, who is dead.

Knows no bounds and passes no judgement.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import takewhile
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auscult.core.digest import BLOCK_STEPS, ChannelIndex, Digest, block_start
from auscult.core.naming import training_losses
from auscult.core.run import Module, Parameter
from auscult.core.sink import Channel
from auscult.rules.rule import ZERO_ROWS

Logs = NDArray[np.float64]


class Loss(NamedTuple):
    """The training loss under the name its user gave it."""

    name: str
    state: Any


class Death(NamedTuple):
    """Most of a network without gradient.

    Attributes:
        step: When the parameter that completed the majority went to zero.
        paths: All parameters whose gradient is zero, first to go first.
        states: Their states.
        alive: The other trainable parameters with an observed gradient, in model order.
        always: Whether the majority never had a gradient.
        solved: Whether the loss is exactly 0 as well: there is nothing left to learn.
    """

    step: int
    paths: list[str]
    states: NDArray[np.void]
    alive: list[str]
    always: bool
    solved: bool


def state_of(digest: Digest, metric: str, path: str = "") -> Any | None:
    """The state of one channel; None if it was never observed."""
    position = digest.index.positions.get(Channel(metric, path))
    if position is None:
        return None
    state = digest.state[position]
    return state if state["rows"] else None


def training_loss(digest: Digest) -> Loss | None:
    """The loss that the user logs, as `training_losses` knows it by its name; None where several are of parts."""
    for name in _loss_names(digest.index):
        state = state_of(digest, name)
        if state is not None:
            return Loss(name, state)
    return None


@lru_cache(maxsize=8)
def of_whole_run(index: ChannelIndex) -> tuple[str, ...]:
    """The metrics that have no path, in the order in which they were first seen."""
    return tuple(channel.metric for channel in index.channels if not channel.path)


@lru_cache(maxsize=8)
def _loss_names(index: ChannelIndex) -> list[str]:
    return training_losses(of_whole_run(index))


def loss_has_fallen(loss: Loss | None, share: float) -> bool:
    """Whether the mean over the last block lies below the first loss by more than this share of it."""
    if loss is None:
        return False
    return bool(loss.state["recent_mean"][-1] < loss.state["first"] - share * abs(loss.state["first"]))


def loss_has_risen(loss: Loss | None) -> bool:
    """Whether the mean over the last block lies above the first loss, or that block had no finite loss at all."""
    if loss is None:
        return False
    return bool(loss.state["recent_mean"][-1] > loss.state["first"] or np.isnan(loss.state["recent_mean"][-1]))


class Group(tuple[Parameter, ...]):
    """Some parameters of a model, in model order.

    Attributes:
        paths: Their paths.
        sizes: Their numbers of elements, float64 `(P,)`.
        fan_ins: Their numbers of inputs of a unit, float64 `(P,)`.
    """

    paths: tuple[str, ...]
    sizes: NDArray[np.float64]
    fan_ins: NDArray[np.float64]

    def __new__(cls, parameters: Iterable[Parameter]) -> "Group":
        """A group of these parameters."""
        group = super().__new__(cls, parameters)
        group.paths = tuple(each.path for each in group)
        group.sizes = np.array([each.size for each in group], np.float64)
        group.fan_ins = np.array([prod(each.shape[1:]) for each in group], np.float64)
        return group


class Roster:
    """The parameters of a model, sorted out.

    Attributes:
        all: Every one.
        trainable: Those that require a gradient.
        held: Those of the trainable that an optimizer holds.
        weights: The matrices and kernels among the held.
        optimizers: How many optimizers hold them.
    """

    __slots__ = ("all", "held", "optimizers", "trainable", "weights")

    def __init__(self, parameters: tuple[Parameter, ...]) -> None:
        self.all = Group(parameters)
        self.trainable = Group(each for each in parameters if each.trainable)
        self.held = Group(each for each in self.trainable if each.group is not None)
        self.weights = Group(each for each in self.held if len(each.shape) >= 2)
        self.optimizers = len({each.group.rpartition(".")[0] for each in self.held if each.group is not None})


class _Same:
    """Something as a key that only the very same object is equal to."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __hash__(self) -> int:
        return id(self.thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing


@lru_cache(maxsize=8)
def _roster(parameters: _Same) -> Roster:
    return Roster(parameters.thing)


@lru_cache(maxsize=8)
def _leaves(modules: _Same) -> dict[str, Module]:
    return {each.path: each for each in modules.thing if each.leaf}


@lru_cache(maxsize=8)
def _kernels(parameters: _Same, modules: _Same) -> Group:
    kinds = {path: module.kind for path, module in _leaves(modules).items()}
    matrices = (each for each in parameters.thing if len(each.shape) >= 2)
    return Group(each for each in matrices if kinds.get(each.path.rpartition(".")[0]) in ("affine", "recurrent"))


def roster(digest: Digest) -> Roster:
    """The parameters, sorted out once for all digests that have the same."""
    return _roster(_Same(digest.parameters))


def leaves(digest: Digest) -> dict[str, Module]:
    """The leaf modules by path, in forward order; found once for all digests that have the same."""
    return _leaves(_Same(digest.segments[-1].modules))


def kernels(digest: Digest) -> Group:
    """The matrices and kernels of affine and recurrent modules; found once for all digests that have the same."""
    return _kernels(_Same(digest.parameters), _Same(digest.segments[-1].modules))


def trainable(digest: Digest) -> Group:
    """The parameters that require a gradient, in model order."""
    return roster(digest).trainable


def is_dense(state: Any) -> bool:
    """Whether a channel was observed at every step from its first to its last."""
    return bool(state["last_step"] - state["first_step"] + 1 == state["rows"])


def recent_start(state: Any, position: int) -> int:
    """First step of a block in the ring of recent ones; `position` counts as in the ring, -1 is the newest."""
    back = -1 - position if position < 0 else len(state["recent"]) - 1 - position
    last, first = block_start(int(state["last_step"])), block_start(int(state["first_step"]))
    blocks = int(state["blocks"])
    between = (last - first) / (blocks - 1) if blocks > 1 else BLOCK_STEPS
    return max(int(state["first_step"]), block_start(round(last - back * between)))


@lru_cache(maxsize=1)
def update_ratios(digest: Digest) -> tuple[list[Parameter], Logs]:
    """log10 of ||d||/||theta|| of every weight `(P, RECENT_BLOCKS)`, from block medians; NaN where nothing moved."""
    weights = roster(digest).weights
    rows = (digest.take("rows", name, weights.paths) for name in ("update_norm", "param_norm"))
    seen = np.logical_and(*rows)
    ratios = digest.take("recent", "update_norm", weights.paths) - digest.take("recent", "param_norm", weights.paths)
    return [each for each, known in zip(weights, seen.tolist()) if known], ratios[seen]


def finite_tail(values: Logs, count: int) -> Logs:
    """The last `count` numbers that are not NaN, fewer if there are fewer."""
    return values[~np.isnan(values)][-count:]


def finite_tails(values: Logs, count: int) -> Logs:
    """The last `count` numbers of each row of `(P, B)` that are not NaN; NaN in front where there are fewer."""
    tails = values[:, -count:]
    if np.isnan(tails).any():
        order = np.argsort(~np.isnan(values), axis=1, kind="stable")  # NaN first
        tails = np.take_along_axis(values, order[:, -count:], axis=1)
    return tails


def median_over_parameters(logs: Logs) -> Logs:
    """Median over axis 0 of `(P, B)`, NaN for a block in which no parameter has a number."""
    if not len(logs):
        return np.full(logs.shape[1], np.nan)
    ordered = np.sort(logs, axis=0)  # NaN sorts to the end
    count = np.count_nonzero(~np.isnan(logs), axis=0)
    columns = np.arange(logs.shape[1])
    low, high = (
        ordered[np.maximum((count - 1) // 2, 0), columns],
        ordered[np.minimum(count // 2, len(logs) - 1), columns],
    )
    return np.where(count > 0, (low + high) / 2, np.nan)


def norm_of_all(logs: Logs) -> Logs:
    """log10 of the root of the sum of squares over axis 0 of `(P, B)` logarithms, NaN where there is none."""
    largest = np.fmax.reduce(logs, axis=0, initial=-np.inf)
    scale = np.where(np.isfinite(largest), largest, 0.0)
    squares = np.nansum(10.0 ** (2.0 * (logs - scale)), axis=0)
    return np.where(np.isfinite(largest), scale + 0.5 * np.log10(np.where(squares > 0, squares, 1.0)), np.nan)


def lr_of(digest: Digest, parameters: Sequence[Parameter]) -> float | None:
    """The learning rate, over the last block, of the group that holds most elements; None where it was not observed."""
    sizes: dict[str, int] = {}
    for each in parameters:
        if each.group is not None:
            sizes[each.group] = sizes.get(each.group, 0) + each.size
    for group in sorted(sizes, key=lambda name: -sizes[name]):
        state = state_of(digest, "lr", group)
        if state is not None and np.isfinite(state["recent_mean"][-1]):
            return float(state["recent_mean"][-1])
    return None


def without_gradient(digest: Digest) -> tuple[list[str], NDArray[np.void], NDArray[np.bool_]]:
    """Trainable paths with an observed gradient, their states, and which of them have had none for `ZERO_ROWS` rows."""
    paths, states = digest.select("grad_norm", trainable(digest).paths)
    return paths, states, states["zero_rows"] >= ZERO_ROWS


def any_without_gradient(digest: Digest) -> bool:
    """Whether `without_gradient` has one."""
    return bool((digest.take("zero_rows", "grad_norm", trainable(digest).paths) >= ZERO_ROWS).any())


def death(digest: Digest) -> Death | None:
    """Whether most of the network has no gradient: half of the observed parameters with half of their elements."""
    if not any_without_gradient(digest):
        return None
    paths, states, zero = without_gradient(digest)
    size = {each.path: each.size for each in digest.parameters}
    sizes = np.array([size[path] for path in paths], np.float64)
    order = [int(each) for each in np.argsort(states["zeros_from"], kind="stable") if zero[each]]
    elements = np.cumsum(sizes[order]) >= sizes.sum() / 2
    majority = elements & (np.arange(1, len(order) + 1) >= len(paths) / 2)
    if not majority.any():
        return None
    last = int(majority.argmax())
    lost = states[order]
    always = bool((lost["zeros_from"] == lost["first_step"])[: last + 1].all())
    loss = training_loss(digest)
    solved = loss is not None and bool(loss.state["zeros_from"] >= 0)
    alive = [path for path, gone in zip(paths, zero, strict=True) if not gone]
    return Death(int(lost["zeros_from"][last]), [paths[each] for each in order], lost, alive, always, solved)


@lru_cache(maxsize=1)
def is_broken(digest: Digest) -> bool:
    """Whether a parameter became non-finite, or most of the network lost its gradient before it was done."""
    if (digest.take("nonfinite_at", "param_norm", roster(digest).all.paths) >= 0).any():
        return True
    dead = death(digest)
    return dead is not None and not dead.solved


def common_module(paths: Sequence[str]) -> str:
    """The path itself if it is one, otherwise the longest module path that holds all; `""` is the whole model."""
    columns = zip(*(path.split(".") for path in paths), strict=False)  # as long as the shortest path
    return ".".join(parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, columns))


def listing(paths: Iterable[str], most: int = 4) -> str:
    """Paths as text: `a, b and c`, or the first ones and how many more there are."""
    names = list(paths)
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def worded(module: Module) -> str:
    """A module as text, with its class because a path may be a mere number: `module 9 (Softmax)`."""
    return f"module {module.path} ({module.type})" if module.path else f"the model ({module.type})"


def worded_paths(paths: Iterable[str]) -> str:
    """Modules as text, as `listing` has them: `module 0`, `modules 0 and 2`."""
    names = list(paths)
    return f"{'module' if len(names) == 1 else 'modules'} {listing(names)}"
