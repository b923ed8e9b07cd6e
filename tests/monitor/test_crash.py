"""Trainings killed with SIGKILL at random moments: nothing that was saved is lost."""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np

import auscult

TRIALS = int(os.environ.get("AUSCULT_KILLS", "12"))


def train(path: str, acknowledged: str) -> None:
    """Train until killed; after every step write down what is promised to survive, and the truth."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, path, every=(1, 4))
    with Path(acknowledged).open("w", buffering=1) as file:
        for step in range(100_000):
            loss = model(torch.randn(5, 6)).square().mean()
            loss.backward()
            norm = float(sum((p.grad.double() ** 2).sum() for p in model.parameters()) ** 0.5)
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
            file.write(json.dumps([step, float(loss.detach()), norm, monitor.saved_step]) + "\n")


def test_every_step_up_to_saved_step_is_read_back(tmp_path) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["torch"])
    generator = random.Random(0)
    for trial in range(TRIALS):
        path, acknowledged = tmp_path / f"run{trial}", tmp_path / f"truth{trial}"
        child = processes.Process(target=train, args=(str(path), str(acknowledged)))
        child.start()
        deadline = time.monotonic() + 120
        while not acknowledged.exists() or acknowledged.stat().st_size < 100:
            assert child.is_alive() and time.monotonic() < deadline, "the training did not begin"
            time.sleep(0.005)
        time.sleep(generator.uniform(0.0, 1.0))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        lines = acknowledged.read_text().split("\n")[:-1]
        truth = np.array([json.loads(line) for line in lines])
        saved = int(truth[-1, 3])
        run = auscult.load(path)
        loss, norm = run.series("loss"), run.series("grad_norm")
        assert saved >= truth[-1, 0] - 1
        np.testing.assert_array_equal(run.steps[: saved + 1], np.arange(saved + 1))
        np.testing.assert_array_equal(loss.values[: saved + 1], truth[: saved + 1, 1])
        np.testing.assert_allclose(norm.values[: saved + 1], truth[: saved + 1, 2], rtol=1e-6)
        assert not run.finished
        if trial % 4 == 0:
            assert auscult.report(run, tmp_path / f"{trial}.html").stat().st_size > 10_000
            resumes(path, run.last_step)


def resumes(path: Path, last: int) -> None:
    """Training goes on where the dead one stopped, on the same axis."""
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, path, if_exists="resume") as monitor:
        assert monitor.path == path and monitor.step == last + 1
        for _ in range(3):
            model(torch.randn(5, 6)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    np.testing.assert_array_equal(auscult.load(path).steps, np.arange(last + 4))
