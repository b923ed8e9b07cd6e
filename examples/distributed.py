"""torchrun: a training on several processes, one run.

torchrun --nproc-per-node 2 examples/distributed.py --out runs/distributed
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import auscult


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/distributed"))
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()

    torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with auscult.watch(model, optimizer, options.out) as monitor:
        for step in range(options.steps):
            seed = step * torch.distributed.get_world_size() + torch.distributed.get_rank()
            inputs = torch.randn(32, 20, generator=torch.Generator().manual_seed(seed))
            loss = functional.cross_entropy(model(inputs), inputs[:, :4].argmax(1))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
