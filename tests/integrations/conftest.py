"""A small training for every sink and trainer, and each tracker's own reader."""

import json
import os
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import auscult
from auscult.core.sink import Sink
from auscult.integrations.selection import Selection

os.environ["TRACKIO_DIR"] = tempfile.mkdtemp()  # read once, when it is imported

Points = dict[str, list[tuple[int, float]]]
"""By key, steps and values as a tracker has them."""

EVERYTHING = Selection(every=1, paths_every=1, include=("*",), limit=10_000)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


class Training:
    """A training that can be stopped and continued anywhere: model, optimizer, and the batch of every step."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)

    def state(self) -> dict[str, Any]:
        return {
            "model": {name: each.clone() for name, each in self.model.state_dict().items()},
            "optimizer": json.loads(json.dumps(self.optimizer.state_dict()["param_groups"])),
            "momentum": [self.optimizer.state[each]["momentum_buffer"].clone() for each in self.model.parameters()],
        }

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for each, buffer in zip(self.model.parameters(), state["momentum"]):
            self.optimizer.state[each]["momentum_buffer"] = buffer.clone()

    def run(
        self, steps: range, monitor: "auscult.Monitor | None", at: Callable[[int], object] = lambda step: 0
    ) -> None:
        for step in steps:
            at(step)
            inputs = torch.randn(12, 8, generator=torch.Generator().manual_seed(step))
            loss = functional.cross_entropy(self.model(inputs), (inputs.sum(1) > 0).long())
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if monitor is not None:
                monitor.log({"loss": loss, "train/odd": (0.1, float("nan"), float("inf"))[step % 3]})
                if step % 4 == 3:
                    monitor.log_evaluation("val", accuracy=step / 100)

    def bits(self) -> list[torch.Tensor]:
        return [*self.model.state_dict().values(), *(self.state()["momentum"]), torch.get_rng_state()]


@pytest.fixture
def training() -> type[Training]:
    return Training


def watched(training: Training, path: Path, sinks: Sequence[Sink], **more: Any) -> "auscult.Monitor":
    monitor = auscult.watch(training.model, training.optimizer, path, sinks=sinks, every=(1, 1), **more)
    assert isinstance(monitor, auscult.Monitor)
    return monitor


# -- each tracker's own reader ----------------------------------------------------------------------------------------


def read_tensorboard(out: Path) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "run" / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {key: [(each.step, each.value) for each in events.Scalars(key)] for key in events.Tags()["scalars"]}


def wandb_records(out: Path) -> Iterator[Any]:
    """Records of all offline files, in order: the log format of LevelDB around W&B's own protocol buffers."""
    from wandb.proto.wandb_internal_pb2 import Record

    for file in sorted(out.glob("wandb/offline-run-*/*.wandb")):
        data, place, body = file.read_bytes(), 7, b""
        while place + 7 <= len(data):
            if 32768 - place % 32768 < 7:
                place += 32768 - place % 32768
                continue
            _, length, kind = struct.unpack("<IHB", data[place : place + 7])
            part = data[place + 7 : place + 7 + length]
            body = part if kind in (1, 2) else body + part
            place += 7 + length
            if kind in (1, 4):
                record = Record()
                record.ParseFromString(body)
                yield record


def read_wandb(out: Path) -> Points:
    points: Points = {}
    for record in wandb_records(out):
        if record.WhichOneof("record_type") == "history":
            flat = [each for each in record.history.item if len(each.nested_key) < 2]
            row = {each.key or each.nested_key[0]: json.loads(each.value_json) for each in flat}
            for key, value in row.items():
                if isinstance(value, (int, float)) or value in ("NaN", "Infinity", "-Infinity"):
                    points.setdefault(key, []).append((row["step"], float(value)))
    return points


def read_mlflow(out: Path) -> Points:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{out}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("auscult").experiment_id])
    histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    return {key: [(each.step, each.value) for each in history] for key, history in histories.items()}


def read_trackio(out: Path) -> Points:
    from trackio.sqlite_storage import SQLiteStorage

    (run,) = SQLiteStorage.get_runs(out.name)
    points: Points = {}
    for row in SQLiteStorage.get_logs(out.name, run):
        for key, value in row.items():
            if isinstance(value, (int, float)) and key != "step":
                points.setdefault(key, []).append((row["step"], float(value)))
    return points


def comet_messages(out: Path) -> Iterator[dict[str, Any]]:
    """Messages of all offline archives, in the order in which they are uploaded."""
    for file in sorted(out.glob("comet/*.zip"), key=lambda each: each.stat().st_mtime):
        with zipfile.ZipFile(file) as archive:
            yield from map(json.loads, archive.read("messages.json").decode().splitlines())


def read_comet(out: Path) -> Points:
    points: Points = {}
    for message in comet_messages(out):
        if message["type"] == "metric_msg":
            metric = message["payload"]["metric"]
            if not metric["metricName"].startswith("sys."):
                points.setdefault(metric["metricName"], []).append((metric["step"], float(metric["metricValue"])))
    return points


READERS = {
    "tensorboard": read_tensorboard,
    "wandb": read_wandb,
    "mlflow": read_mlflow,
    "trackio": read_trackio,
    "comet": read_comet,
}


def sink_of(tool: str, out: Path, selection: Selection = EVERYTHING, **more: Any) -> Sink:
    """The sink into a tool that writes below a folder and never to the network."""
    if tool == "tensorboard":
        from auscult.integrations.tensorboard import TensorBoardSink

        return TensorBoardSink(selection=selection, **more)
    if tool == "wandb":
        from auscult.integrations.wandb import WandbSink

        return WandbSink(selection, project="auscult", mode="offline", dir=str(out), **more)
    if tool == "mlflow":
        from auscult.integrations.mlflow import MlflowSink

        return MlflowSink(tracking_uri=f"sqlite:///{out}/mlflow.db", selection=selection, **more)
    if tool == "trackio":
        from auscult.integrations.trackio import TrackioSink

        return TrackioSink(out.name, selection, **more)
    from auscult.integrations.comet import CometSink

    return CometSink(selection, online=False, offline_directory=out / "comet", **more)
