"""Ranks: the processes that train one model together, and the group of our own in which they add up their numbers.

The group is made of gloo, apart from the user's: nothing of ours waits for a GPU, and the order of the user's own
collectives does not matter. Whatever fails in it ends it on all ranks; training goes on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from auscult.core.errors import AuscultError, SetupError
from auscult.metrics.shards import Layout, is_dtensor, layout_of

ASSEMBLY = timedelta(seconds=120)
"""How long `watch` waits for the other ranks to call it as well."""

_assembled = 0  # how often the ranks have met in this process
Answer = TypeVar("Answer")


@dataclass(slots=True)
class Ranks:
    """All ranks of one run, as one of them sees them.

    Attributes:
        rank: This rank; rank 0 writes.
        world: How many there are.
        layout: How the parameters lie on them.
        coordinates: For each rank the coordinates of its layout.
        reason: Why parameters are not observed; empty where they are.
        lost: Why nothing is added up any more; empty while it is.
        lines: Groups of our own in which Partial gradients are added up.
    """

    rank: int
    world: int
    layout: Layout
    coordinates: Sequence[Sequence[tuple[int, ...] | None]]
    reason: str
    sharded: bool
    lost: str = ""
    lines: Mapping[tuple[int, ...], Any] = field(default_factory=dict[tuple[int, ...], Any])
    _group: Any = None

    @classmethod
    def join(cls, model: nn.Module, paths: Sequence[str], tensors: Sequence[Tensor], path: str) -> "Ranks | None":
        """Meet the other ranks that watch this run; every rank has to call this.

        Returns:
            None for a process on its own, and where each rank names a directory of its own: these are runs of their
            own.

        Raises:
            SetupError: if some ranks do not come, or only some of them name the same directory.
        """
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return None
        world = dist.get_world_size()
        _assemble(world)
        group: Any = dist.new_group(backend="gloo")
        layout = layout_of(model, paths, tensors, world)
        mark = hashlib.sha256(layout.signature.encode()).hexdigest()
        told: list[Any] = [None] * world
        mine = (path, mark, layout.coordinates, layout.lines, layout.reason, layout.parallel)
        dist.all_gather_object(told, mine, group=group)
        places, marks, coordinates, lines, reasons, parallel = zip(*told, strict=True)
        if len(set(places)) > 1:
            dist.destroy_process_group(group)
            if len(set(places)) == world:
                return None
            raise SetupError(
                f"Expected all {world} ranks to name the same directory, or each its own, but got "
                f"{len(set(places))} different ones. Write the same path on every rank: only rank 0 writes."
            )
        reason = next(filter(None, reasons), "")
        if len(set(marks)) > 1:
            reason = reason or "ranks hold different parameters (pipeline stages, experts)"
        along = sorted({line for each in lines for line in each})
        made = {line: dist.new_group(list(line), backend="gloo") for line in along}
        layout = layout._replace(parallel=all(parallel))
        sharded = any(map(is_dtensor, tensors))
        lines_here = {line: made[line] for line in layout.lines}
        return cls(dist.get_rank(), world, layout, coordinates, reason, sharded, lines=lines_here, _group=group)

    @property
    def writes(self) -> bool:
        """Whether this rank writes the run."""
        return self.rank == 0

    @property
    def whole(self) -> bool:
        """Whether this rank holds every parameter whole."""
        return not (self.sharded or self.reason)

    def told_by_first(self, answer: Answer | AuscultError | None) -> Answer:
        """What rank 0 gives, on every rank.

        Raises:
            AuscultError: if that is one, on every rank.
        """
        box: list[Any] = [answer]
        dist.broadcast_object_list(box, src=0, group=self._group)
        if isinstance(box[0], AuscultError):
            raise box[0]
        return box[0]

    def gather(self, mine: Answer) -> list[Answer]:
        """What every rank gives."""
        told: list[Any] = [None] * self.world
        dist.all_gather_object(told, mine, group=self._group)
        return told

    def begin_sum(self, vector: NDArray[np.float64]) -> Any:
        """Let a vector be added up over all ranks, in place; to be waited for (`.wait()`)."""
        return dist.all_reduce(torch.from_numpy(vector), group=self._group, async_op=True)

    def leave(self, why: str) -> None:
        """Add nothing up any more; the others, if they still wait for this rank, are told by the broken connection."""
        if self.lost:
            return
        self.lost = why
        groups, self.lines, self._group = [self._group, *self.lines.values()], {}, None
        for group in groups:
            try:
                dist.destroy_process_group(group)
            except (RuntimeError, ValueError, AssertionError):  # the user has destroyed them all
                continue


def _assemble(world: int) -> None:
    """Wait until every rank has come here.

    Raises:
        SetupError: if some do not come.
    """
    store: Any = getattr(dist.distributed_c10d, "_get_default_store", lambda: None)()
    if store is None:  # a torch without: the first collective has to do
        return
    global _assembled
    key = f"auscult/{_assembled}"
    here = int(store.add(key, 1))
    if here == world:
        store.set(f"{key}/all", "1")
    try:
        store.wait([f"{key}/all"], ASSEMBLY)
    except RuntimeError:
        here = int(store.add(key, -1)) + 1  # whoever comes later does not meet this one
        raise SetupError(
            f"Expected `watch` to be called on all {world} ranks, but after {ASSEMBLY.seconds} s only {here} did. "
            "Is it inside of `if rank == 0:`? Call it on every rank; only rank 0 writes."
        ) from None
    _assembled += 1
