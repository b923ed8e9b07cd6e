"""Plain PyTorch: watch a training, stop it, and go on from its checkpoint.

python examples/plain.py --out runs/plain --steps 40    the first half of a training
python examples/plain.py --out runs/plain --steps 80    goes on with the second
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import auscult


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/plain"))
    parser.add_argument("--steps", type=int, default=80)
    options = parser.parse_args()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    monitor = auscult.watch(model, optimizer, options.out, if_exists="resume", config=vars(options))
    file = options.out / "checkpoint.pt"
    if file.exists():
        checkpoint = torch.load(file)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        monitor.load_state_dict(checkpoint["monitor"])

    with monitor:
        while monitor.step < options.steps:
            inputs = torch.randn(32, 20, generator=torch.Generator().manual_seed(monitor.step))
            loss = functional.cross_entropy(model(inputs), inputs[:, :4].argmax(1))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "monitor": monitor.state_dict()}
        torch.save(state, file)


if __name__ == "__main__":
    main()
