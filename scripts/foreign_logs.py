"""Logs that other tools write, each by the tool itself, with what the tool's own reader returns.

python scripts/foreign_logs.py DIR    writes them below DIR, and `truth.json` beside them

`tests/imports/logs` holds what this made once, so that the tests of the readers need no tool. The logs are those of
ordinary scripts, as the tools' own guides show them. Needs the dependency group `integrations`.
"""

import gzip
import json
import math
import os
import random
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Truth = dict[str, dict[str, list[tuple[int, float]]]]
"""Run to name to steps and values, as the tool's own reader gives them."""

STEPS = 60


def write_tensorboard(folder: Path) -> Truth:
    """A training script after the guide of `torch.utils.tensorboard`, read by TensorBoard's event accumulator."""
    from torch.utils.tensorboard import SummaryWriter

    noise = random.Random(0)
    with SummaryWriter(folder) as writer:
        for step in range(STEPS):
            writer.add_scalar("Loss/train", 2.3 * math.exp(-step / 40) + 0.05 * noise.random(), step)
            writer.add_scalar("Accuracy/train", 1 - math.exp(-step / 30), step)
            if step % 10 == 9:
                writer.add_scalar("Loss/test", 2.3 * math.exp(-step / 50), step, new_style=True)
                writer.add_scalar("learning_rate", 0.1 / (1 + step), step, double_precision=True)
                writer.add_histogram("weights", np.array([noise.random() for _ in range(64)]), step)
            if step == 50:
                writer.add_scalar("odd", float("nan"), step)
                writer.add_scalar("odd", float("inf"), step + 1)
        writer.add_text("note", "hello")
        writer.add_scalars("run_14h", {"xsinx": 1.5, "xcosx": 2.5}, 3)
        writer.add_hparams({"lr": 0.1, "bsize": 16, "name": "sgd"}, {"hparam/accuracy": 0.9})
    return read_tensorboard(folder)


def read_tensorboard(folder: Path) -> Truth:
    """What TensorBoard's own reader returns of each directory."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, TENSORS, EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    truth: Truth = {}
    for each in (folder, *sorted(path for path in folder.rglob("*") if path.is_dir())):
        events = EventAccumulator(str(each), size_guidance={SCALARS: 0, TENSORS: 0})
        events.Reload()
        tags = events.Tags()
        found = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags["scalars"]}
        for tag in tags["tensors"]:
            if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
                found[tag] = [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]
        truth[each.relative_to(folder).as_posix()] = found
    return truth


def write_wandb(folder: Path) -> Truth:
    """An offline run after W&B's quickstart. It has no reader in Python, so the truth is what it was given."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True, disable_git=True, silent=True)
    truth: dict[str, list[tuple[int, float]]] = {}
    config = {"learning_rate": 0.02, "architecture": "CNN", "layers": {"sizes": [64, 10]}}
    with wandb.init(
        mode="offline", dir=str(folder), project="example", name="bright sun", config=config, settings=settings
    ) as run:
        run.define_metric("val/*", step_metric="epoch")
        run.define_metric("optim/*", step_metric="optim/step")
        for step in range(STEPS):
            row = {"loss": 2.3 * math.exp(-step / 40), "acc": 1 / 3 + step / 90, "deep": {"a": step / 7}}
            row["optim/step"], row["optim/momentum"] = step * 2, math.sin(step)
            row["note"], row["odd"] = "text", math.nan if step == 40 else -math.inf if step == 41 else 1e300
            run.log(row)
            for name, value in (("loss", row["loss"]), ("acc", row["acc"]), ("deep.a", step / 7), ("odd", row["odd"])):
                truth.setdefault(name, []).append((step, value))
            for name in ("optim/step", "optim/momentum"):
                truth.setdefault(name, []).append((2 * step, float(row[name])))
        run.log({"val/loss": 0.25, "epoch": 1, "weights": wandb.Histogram([1.0, 2.0, 3.0])}, step=STEPS + 3)
        truth |= {"val/loss": [(STEPS + 3, 0.25)], "epoch": [(STEPS + 3, 1.0)]}
    return {"bright sun": truth}


def write_mlflow(uri: str) -> Truth:
    """Two runs after MLflow's quickstart, read by its client. A database keeps an infinity as the largest float."""
    os.environ.update(MLFLOW_ALLOW_FILE_STORE="true", GIT_PYTHON_REFRESH="quiet", MLFLOW_DISABLE_TELEMETRY="true")
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("MLflow: quickstart")
    with mlflow.start_run(run_name="first 'run'") as first:
        mlflow.log_params({"lr": 0.1, "layers/n": 3})
        for step in range(STEPS):
            mlflow.log_metrics({"train/loss": math.exp(-step / 30), "accuracy": 1 / 3 + step / 100}, step=step)
            if step % 20 == 19:
                mlflow.log_metric("val_loss", math.exp(-step / 40), step=step)
        for name, value, step in (("odd", math.nan, 1), ("odd", -math.inf, 2), ("again", 1.0, 5), ("again", 2.0, 5)):
            mlflow.log_metric(name, value, step=step, timestamp=1_700_000_000_000 + step + int(value == 2.0))
        mlflow.log_metric("final", 0.3)
    with mlflow.start_run(run_name="second") as second:
        mlflow.log_metric("loss", 1.0, step=0)
    client = mlflow.MlflowClient()
    truth: Truth = {}
    for run in (first, second):
        known = client.get_run(run.info.run_id)
        truth[str(known.info.run_name)] = {
            name: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]
            for name in known.data.metrics
        }
    return truth


def write_trainer_state(folder: Path) -> Truth:
    """A few steps of transformers' Trainer on a small randomly initialised GPT-2; the truth is its own log."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2))
    rows = [{"input_ids": (ids := torch.randint(32, (8,))), "labels": ids} for _ in range(64)]
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"), max_steps=40, per_device_train_batch_size=4, logging_steps=5,
        eval_strategy="steps", eval_steps=20, save_steps=40, learning_rate=1e-2, max_grad_norm=0.5, report_to="none",
        use_cpu=True, disable_tqdm=True, save_only_model=True,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows[:16])
    trainer.train()
    trainer.save_state()
    kept = folder / "trainer" / "trainer_state.json"
    for each in (folder / "trainer").iterdir():
        if each != kept:
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    truth: dict[str, list[tuple[int, float]]] = {}
    for entry in trainer.state.log_history:
        for name, value in entry.items():
            if name != "step":
                truth.setdefault(name, []).append((entry["step"], float(value)))
    return {"trainer": truth}


def plain(value: Any) -> Any:
    """The same as strict JSON allows it."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def main() -> None:
    """Write every log and the truth."""
    folder = Path(sys.argv[1]).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    database = folder / "mlflow.db"
    makers: dict[str, Callable[[], Truth]] = {
        "tensorboard": lambda: write_tensorboard(folder / "tensorboard"),
        "wandb": lambda: write_wandb(folder),
        "mlflow.db": lambda: write_mlflow(f"sqlite:///{database}"),
        "mlruns": lambda: write_mlflow((folder / "mlruns").as_uri()),
        "transformers": lambda: write_trainer_state(folder),
    }
    truth = {name: plain(make()) for name, make in makers.items()}
    (folder / "truth.json").write_text(json.dumps(truth, allow_nan=False) + "\n")
    (folder / "mlflow.db.gz").write_bytes(gzip.compress(database.read_bytes(), mtime=0))
    database.unlink()
    with zipfile.ZipFile(folder / "mlruns.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((folder / "mlruns").rglob("*")):
            archive.write(file, file.relative_to(folder))
    shutil.rmtree(folder / "mlruns")
    for file in (folder / "wandb").rglob("*"):
        if file.is_file() and file.suffix != ".wandb":
            file.unlink()
    for each in sorted((folder / "wandb").rglob("*"), reverse=True):
        if each.is_symlink() or (each.is_dir() and not any(each.iterdir())):
            each.unlink() if each.is_symlink() else each.rmdir()


if __name__ == "__main__":
    main()
