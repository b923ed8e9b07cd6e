"""Trainings: the gradient norms of nine trainings of the clinic, kept so that their sounds need no training.

`PYTHONPATH=src python -m tests.sound.trainings` makes them anew, in some minutes.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

KEPT = Path(__file__).with_name("trainings.npz")
CASES = ("mel-scale-repaired", "sgd-0.01", "sgd-0.1", "sgd-1.0", "sgd-1.0-batch-256", "adam-0.01", "mel-scale")
DEAD, BROKEN = "dead-layer", "sgd-1e30-batch-256"


def main() -> None:
    """Train all of them and keep what is heard: the norms of the weights at every step, float32 `(steps, weights)`."""
    import torch

    import auscult
    from auscult.clinic.cases import run_case
    from auscult.clinic.listening import Setting, train
    from auscult.sound.frames import open_table, weights

    torch.set_num_threads(1)
    kept: dict[str, np.ndarray] = {}
    with TemporaryDirectory() as folder:
        for name in (*CASES, DEAD, BROKEN):
            path = Path(folder) / name
            if name == DEAD:
                train_dead(path)
            elif name == BROKEN:
                train(Setting(name, "sgd", 1e30, 256), path)
            else:
                run_case(name, path)
            table = open_table(auscult.load(path), "grad_norm")
            values, seen = table.read(weights(table))
            assert seen.all() and len(values[0]) == len(table.steps), name
            kept[name] = values.T.astype(np.float32)
    np.savez_compressed(KEPT, **kept)


def train_dead(path: Path) -> None:
    """The listening network at lr 0.01; at step 100 the biases of its first layer become so low that no unit fires."""
    import torch
    from torch.nn import functional

    import auscult
    from auscult.clinic.images import batches, load_digits
    from auscult.clinic.listening import STEPS, Network

    torch.manual_seed(0)
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5)
    with auscult.watch(model, optimizer, path, every=(1, 8)) as monitor:
        for step, (inputs, targets) in zip(range(STEPS), batches(load_digits(), 10, 0)):
            if step == 100:
                with torch.no_grad():
                    model.conv1.bias.fill_(-1e3)
            loss = functional.nll_loss(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


if __name__ == "__main__":
    os.environ.setdefault("MKL_CBWR", "AVX2")
    main()
