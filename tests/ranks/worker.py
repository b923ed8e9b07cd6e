"""One rank of a real distributed training: `python worker.py RANK WORLD DIRECTORY SCENARIO...`, results as JSON.

Every scenario trains the network of `truth` on its share of the same data; what auscult has added up over the ranks is
caught in float64, before it is rounded for the file.
"""

import json
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    PrepareModuleOutput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

STEPS, CLIP = 3, 0.05
NORMS = ("grad_norm", "param_norm", "update_norm")


class Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + self.down(torch.tanh(self.up(self.norm(inputs))))


class Net(nn.Module):
    """A bare root parameter, a dimension that divides by no number of ranks, a frozen layer, an unused parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(8))
        self.inner = nn.Linear(5, 8)
        self.blocks = nn.ModuleList(Block(8, 12) for _ in range(2))
        self.head = nn.Linear(8, 3)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.inner(inputs) * self.scale
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.frozen(hidden))


def network(dtype: torch.dtype) -> Net:
    torch.manual_seed(3)
    return Net().to(dtype)


def data(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(16, 4, 5, generator=generator, dtype=torch.float64)
    return inputs.to(dtype), torch.randn(16, 4, 3, generator=generator, dtype=torch.float64).to(dtype)


def loss_of(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output - target).square().mean()


def truth(clip: bool) -> list[dict[str, dict[str, float]]]:
    """Norms of every parameter at every step, and the losses, by one process in float64."""
    model = network(torch.float32).double()
    inputs, targets = data(torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, foreach=False)
    told = []
    for _ in range(STEPS):
        loss = loss_of(model(inputs), targets)
        loss.backward()
        gradients = {path: each.grad.clone() for path, each in model.named_parameters() if each.grad is not None}
        total = float(torch.cat([each.reshape(-1) for each in gradients.values()]).norm())
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        before = {path: each.detach().clone() for path, each in model.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
        moved = {path: each.detach() - before[path] for path, each in model.named_parameters() if path in gradients}
        after = dict(model.named_parameters())
        told.append(
            {
                "grad_norm": {path: float(each.norm()) for path, each in gradients.items()},
                "param_norm": {path: float(after[path].detach().norm()) for path in gradients},
                "update_norm": {path: float(each.norm()) for path, each in moved.items()},
                "grad_std": {path: float(each.std()) for path, each in gradients.items()},
                "param_mean": {path: float(after[path].detach().mean()) for path in gradients},
                "run": {"loss": float(loss.detach()), "total": total},
            }
        )
    return told


def _tensor_parallel(model: Net, mesh, sequence: bool) -> None:
    for block in model.blocks:
        plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
        if sequence:
            plan = {
                "norm": SequenceParallel(sequence_dim=1, use_local_output=True),
                "up": ColwiseParallel(input_layouts=Shard(1)),
                "down": RowwiseParallel(output_layouts=Shard(1)),
            }
        parallelize_module(block, mesh, plan)
        if sequence:
            given = PrepareModuleInput(
                input_layouts=(Replicate(),), desired_input_layouts=(Shard(1),), use_local_output=True
            )
            made = PrepareModuleOutput(
                output_layouts=Shard(1), desired_output_layouts=Replicate(), use_local_output=True
            )
            parallelize_module(block, mesh, given)
            parallelize_module(block, mesh, made)


def _fully_shard(model: Net, mesh) -> None:
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def parallel(kind: str, model: Net, rank: int, world: int) -> tuple[nn.Module, int, int]:
    """The model as it is called, and which of how many shares of the data this rank has."""
    half = world // 2
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(model, find_unused_parameters=True), rank, world
    if kind == "fsdp2":
        _fully_shard(model, init_device_mesh("cpu", (world,)))
        return model, rank, world
    if kind == "hsdp":
        _fully_shard(model, init_device_mesh("cpu", (2, half), mesh_dim_names=("replicate", "shard")))
        return model, rank, world
    if kind in ("tp", "tp_sp"):
        _tensor_parallel(model, init_device_mesh("cpu", (world,), mesh_dim_names=("tp",)), kind == "tp_sp")
        return model, 0, 1
    mesh = init_device_mesh("cpu", (2, half), mesh_dim_names=("dp", "tp"))
    _tensor_parallel(model, mesh["tp"], kind == "fsdp2_tp_sp")
    _fully_shard(model, mesh["dp"])
    return model, rank // half, 2


class Counter:
    """Counts the collectives of auscult's own groups."""

    def __init__(self) -> None:
        self.groups: list = []
        self.calls = 0
        for name in ("all_reduce", "all_gather_object", "broadcast_object_list", "barrier", "all_gather"):
            setattr(dist, name, self._counted(getattr(dist, name)))

    def _counted(self, real):
        def counted(*args, **kwargs):
            self.calls += any(kwargs.get("group") is each for each in self.groups)
            return real(*args, **kwargs)

        return counted


def train(kind: str, dtype: torch.dtype, path: Path, rank: int, world: int, watched: bool, mode: str = "") -> dict:
    """Train, and tell what auscult measured and how the parameters ended.

    Args:
        kind: Of parallelism.
        dtype: Of the parameters.
        path: Of the run.
        rank: This rank.
        world: How many there are.
        watched: Whether auscult watches.
        mode: `accumulate` makes each step of two halves; `clip` clips; `sparse` measures every second step.
    """
    import auscult
    from auscult.monitor.gauges import Gauges

    model = network(torch.float32).to(dtype)
    called, share, shares = parallel(kind, model, rank, world)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, foreach=False)
    inputs, targets = (each.chunk(shares)[share] for each in data(dtype))
    placed, caught, counts = Gauges.placed, {}, []
    Gauges.placed = lambda self, draft, measured: (
        caught.setdefault(draft.step, measured) and placed(self, draft, measured)
    )
    every = (2, 2) if mode == "sparse" else (1, 1)
    monitor = auscult.watch(called, optimizer, path, every=every) if watched else None
    if monitor is not None:
        COUNTER.groups = [monitor._ranks._group, *monitor._ranks.lines.values()]
    for _ in range(STEPS):
        before, loss = COUNTER.calls, torch.zeros(())
        for number, (some, wanted) in enumerate(
            halves(inputs, targets) if mode == "accumulate" else [(inputs, targets)]
        ):
            last = number or mode != "accumulate"
            if kind == "fsdp2" and mode == "accumulate":
                model.set_requires_gradient_sync(bool(last))
            with nullcontext() if last or kind != "ddp" else called.no_sync():
                part = loss_of(called(some), wanted) / (2 if mode == "accumulate" else 1)
                part.backward()
            loss = loss + part.detach()
        if mode == "clip":
            (monitor.clip_grad_norm_ if monitor else lambda bound: nn.utils.clip_grad_norm_(model.parameters(), bound))(
                CLIP
            )
        optimizer.step()
        optimizer.zero_grad()
        if monitor is not None:
            monitor.log(loss=loss)
        counts.append(COUNTER.calls - before)
    found: dict = {"counts": counts, "failures": [] if monitor is None else monitor.failures}
    if monitor is not None:
        before = COUNTER.calls
        monitor.close()
        found["closing"] = COUNTER.calls - before
        paths = [each.path for each in monitor._gauges.table]
        found["reason"], found["path"] = monitor._ranks.reason, str(monitor.path)
        found["norms"] = {
            step: {metric: dict(zip(paths, row.tolist())) for metric, row in zip(NORMS, each.norms)}
            for step, each in caught.items()
        }
    Gauges.placed = placed
    whole = {
        path: each.full_tensor() if hasattr(each, "full_tensor") else each for path, each in model.named_parameters()
    }
    found["ended"] = {path: each.detach().double().reshape(-1).tolist() for path, each in whole.items()}
    return found


def halves(inputs: torch.Tensor, targets: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(inputs.chunk(2), targets.chunk(2), strict=True))


def main(rank: int, world: int, directory: Path, scenarios: list[str]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{directory}/store", rank=rank, world_size=world)
    told = {}
    for scenario in scenarios:
        kind, dtype, mode, watched = scenario.split(":")
        path = directory / scenario.replace(":", "-")
        told[scenario] = train(kind, getattr(torch, dtype), path, rank, world, watched == "watched", mode)
    (directory / f"rank{rank}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    COUNTER = Counter()
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
