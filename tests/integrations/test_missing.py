"""Where a package is not installed: one message in the house's form, and a training that goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ["comet_ml", "lightning", "mlflow", "pytorch_lightning", "tensorboard", "trackio", "transformers", "wandb"]
SINKS = {
    "comet": ("CometSink", "comet_ml"),
    "mlflow": ("MlflowSink", "mlflow"),
    "tensorboard": ("TensorBoardSink", "tensorboard"),
    "trackio": ("TrackioSink", "trackio"),
    "wandb": ("WandbSink", "wandb"),
}
TRAIN = """
import torch, auscult
from importlib import import_module
sinks = [getattr(import_module(f"auscult.integrations.{module}"), name)() for module, (name, _) in SINKS.items()]
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with auscult.watch(model, optimizer, "run", sinks=sinks) as monitor:
    for _ in range(5):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
print(len(auscult.load("run").steps), len(monitor.failures))
"""


def without(packages: list[str], code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Code in a process in which these packages are not installed."""
    missing = f"import sys\nsys.modules.update(dict.fromkeys({packages}))\n"
    return subprocess.run(
        [sys.executable, "-W", "always:auscult", "-c", missing + code], capture_output=True, text=True, check=False,
        cwd=folder, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip


@pytest.mark.parametrize(("module", "install"), [("lightning", "lightning"), ("transformers", "transformers accel")])
def test_a_trainers_callback_says_what_to_install(module: str, install: str, tmp_path: Path) -> None:
    done = without(PACKAGES, f"import auscult.integrations.{module}", tmp_path)
    assert done.returncode == 1
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("auscult.core.errors.MissingExtra: Expected ") and f"pip install {install}" in last, last
    assert "ModuleNotFoundError" not in done.stderr


def test_every_sink_says_so_once_and_training_goes_on(tmp_path: Path) -> None:
    done = without(PACKAGES, f"SINKS = {SINKS}\n{TRAIN}", tmp_path)
    assert done.stdout.split() == ["5", "5"], done.stderr
    said = [line for line in done.stderr.splitlines() if "RuntimeWarning: auscult" in line]
    assert len(said) == len(SINKS) and "Traceback" not in done.stderr, done.stderr
    for name, package in SINKS.values():
        (line,) = (each for each in said if name in each)
        assert "Expected" in line and f"Install it: pip install {package}." in line
        assert "Training is not affected" in line


def test_without_torch_every_integration_says_what_to_install(tmp_path: Path) -> None:
    code = """
from auscult.core.errors import MissingExtra
for each in ("comet", "lightning", "logger", "mlflow", "selection", "tensorboard", "trackio", "transformers", "wandb"):
    try:
        __import__(f"auscult.integrations.{each}")
    except MissingExtra as error:
        print("pip install 'auscult[train]'" in str(error))
"""
    done = without(["torch"], code, tmp_path)
    assert done.stdout.split() == ["True"] * 9, done.stderr
