"""Ranks: the processes that train one model together, and the group of our own in which they add up their numbers.

The group is made of gloo, apart from the user's: nothing of ours waits for a GPU, and the order of the user's own
collectives does not matter. Whatever fails in it ends it on all ranks; training goes on.
"""

import ctypes
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from weakref import ref

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from auscult.core.errors import AuscultError, SetupError
from auscult.metrics.shards import Layout, Sums, is_dtensor, layout_of

ASSEMBLY = timedelta(seconds=120)
"""How long `watch` waits for the other ranks to call it as well."""

PATIENCE = timedelta(seconds=60)
"""How long a step waits for the sum of the one before, once: ranks that are further apart are on their own from then
on. The collectives of the training itself have been waited for before, so it is there already where there are any."""

PARTIAL_PATIENCE = timedelta(seconds=10)
"""How long it waits for Partial gradients to be added up, once; the ranks have just met in the backward pass."""

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
        sums: What adds up Partial gradients.
        lines: Groups of our own in which that is done.
    """

    rank: int
    world: int
    layout: Layout
    coordinates: Sequence[Sequence[tuple[int, ...] | None]]
    reason: str
    sharded: bool
    lost: str = ""
    sums: Sums = field(default_factory=Sums)
    _group: Any = None
    lines: Mapping[tuple[int, ...], Any] = field(default_factory=dict[tuple[int, ...], Any])
    _works: list[Any] = field(default_factory=list[Any])  # what was begun and may still be under way
    _model: "ref[nn.Module] | None" = None

    @classmethod
    def join(
        cls,
        model: nn.Module,
        paths: Sequence[str],
        tensors: Sequence[Tensor],
        optimizers: Iterable[Optimizer],
        path: str,
    ) -> "Ranks | None":
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
        mine = (
            path,
            mark,
            layout.coordinates,
            layout.lines,
            layout.reason,
            layout.parallel,
            _held(optimizers, tensors),
        )
        dist.all_gather_object(told, mine, group=group)
        places, marks, coordinates, lines, reasons, parallel, held = zip(*told, strict=True)
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
        elif len(set(held)) > 1:
            reason = reason or "the optimizers of different ranks hold different parameters (a partitioned optimizer)"
        along = sorted({line for each in lines for line in each})
        made = {line: dist.new_group(list(line), backend="gloo") for line in along}
        layout = layout._replace(parallel=all(parallel))
        sharded = any(map(is_dtensor, tensors))
        here = {line: made[line] for line in layout.lines}
        ranks = cls(dist.get_rank(), world, layout, coordinates, reason, sharded, _group=group, lines=here)
        ranks.sums = {line: partial(ranks._add_up, each) for line, each in here.items()}
        ranks._model = ref(model)
        return ranks

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

    @property
    def uneven(self) -> bool:
        """Whether training runs inside of `Join`, where ranks make different numbers of updates."""
        model: Any = None if self._model is None else self._model()
        return bool(getattr(getattr(model, "_join_config", None), "enable", False))

    def gather(self, mine: bytes, sizes: Sequence[int]) -> list[bytes]:
        """What every rank gives.

        Args:
            mine: What this rank gives.
            sizes: How many bytes each rank gives.
        """
        sent = torch.zeros(max(sizes), dtype=torch.uint8)
        sent[: len(mine)] = torch.frombuffer(bytearray(mine or b"-"), dtype=torch.uint8)[: len(mine)]
        told = [torch.empty_like(sent) for _ in sizes]
        self._begun(dist.all_gather(told, sent, group=self._group, async_op=True)).wait(PATIENCE)
        return [each.numpy().tobytes()[:size] for each, size in zip(told, sizes, strict=True)]

    def begin_sum(self, vector: NDArray[np.float64]) -> Any:
        """Let a vector be added up over all ranks, in place; to be waited for (`.wait()`)."""
        return self._begun(dist.all_reduce(torch.from_numpy(vector), group=self._group, async_op=True))

    def _add_up(self, group: Any, tensor: Tensor) -> None:
        """Add a tensor up over a group, in place; where that fails nothing is added up there any more."""
        try:
            self._begun(dist.all_reduce(tensor, group=group, async_op=True)).wait(PARTIAL_PATIENCE)
        except Exception:
            self.sums.clear()
            raise

    def _begun(self, work: Any) -> Any:
        self._works = [each for each in (*self._works, work) if not each.is_completed()]
        return work

    def leave(self, why: str) -> None:
        """Add nothing up any more; the others, if they still wait for this rank, are told by the broken connection.

        What is still under way stays so: to end a group, gloo waits for all of it, for half an hour if need be. A rank
        that comes later still gets the part of this one.
        """
        if self.lost:
            return
        self.lost = why
        self.sums.clear()
        groups, self.lines, self._group = [self._group, *self.lines.values()], {}, None
        waiting = [each for each in self._works if not each.is_completed()]
        self._works = []
        for each in (*waiting, *groups) if waiting else ():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))  # never freed, which is what would wait
        for group in groups:
            try:
                dist.destroy_process_group(group)
            except (RuntimeError, ValueError, AssertionError):  # the user has destroyed them all
                continue


def _held(optimizers: Iterable[Optimizer], tensors: Sequence[Tensor]) -> str:
    """Which of the tensors are in an optimizer, as a checksum."""
    held = {id(each) for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]}
    return hashlib.sha256(bytes(id(each) in held for each in tensors)).hexdigest()


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
