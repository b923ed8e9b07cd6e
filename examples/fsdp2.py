"""FSDP2, watched: `torchrun --nproc-per-node 2 examples/fsdp2.py [runs/fsdp2]`.

Norms are those of the whole parameters although no rank holds them; `monitor.clip_grad_norm_` clips by the norm of all
of them. Call `watch` on every rank, after `fully_shard` and with the same path. Only rank 0 writes.
"""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import auscult


def main(path: str) -> None:
    """Train a small network whose parameters are split over all ranks."""
    dist.init_process_group("gloo")  # "nccl" on GPUs
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(32, 32), nn.GELU())), nn.Linear(32, 1))
    mesh = init_device_mesh("cpu", (world,))  # "cuda" on GPUs
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    own_data = torch.Generator().manual_seed(rank)
    with auscult.watch(model, optimizer, path) as monitor:
        for _ in range(200):
            inputs = torch.randn(64, 32, generator=own_data)
            loss = nn.functional.mse_loss(model(inputs), inputs[:, :4].sum(1, keepdim=True).tanh())
            loss.backward()
            monitor.clip_grad_norm_(1.0)
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    dist.destroy_process_group()  # after the monitor is closed


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/fsdp2")
