"""DistributedDataParallel, watched: `torchrun --nproc-per-node 2 examples/ddp.py [runs/ddp]`.

Call `watch` on every rank, after wrapping the model and with the same path. Only rank 0 writes.
"""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import auscult


def main(path: str) -> None:
    """Train a small network on all ranks."""
    dist.init_process_group("gloo")  # "nccl" on GPUs
    torch.manual_seed(0)
    inputs = torch.randn(2048, 16)
    data = TensorDataset(inputs, inputs[:, :4].sum(1, keepdim=True).tanh())
    sampler = DistributedSampler(data, seed=0)
    loader = DataLoader(data, batch_size=32, sampler=sampler)

    model = DistributedDataParallel(nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with auscult.watch(model, optimizer, path) as monitor:
        for epoch in range(4):
            sampler.set_epoch(epoch)
            for some, wanted in loader:
                loss = nn.functional.mse_loss(model(some), wanted)
                loss.backward()
                monitor.clip_grad_norm_(1.0)
                optimizer.step()
                optimizer.zero_grad()
                monitor.log(loss=loss)
    dist.destroy_process_group()  # after the monitor is closed


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/ddp")
