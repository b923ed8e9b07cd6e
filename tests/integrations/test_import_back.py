"""What our sinks wrote into a tracker, imported back: the same series under the same metric and path."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.integrations.conftest import EVERYTHING, Training, read_mlflow, sink_of, watched
from torch import nn

import auscult
from auscult.core.sink import Channel
from auscult.imports.importer import import_runs
from auscult.integrations.selection import Selection

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("default"),  # of the trackers' own packages
    pytest.mark.filterwarnings("error:auscult"),
]
LOGS = {"tensorboard": "run/tensorboard", "wandb": "wandb", "mlflow": "mlflow.db"}


def back(tool: str, folder: Path, selection: Selection, steps: int, broken: bool = False) -> tuple[auscult.Run, ...]:
    """A run and what comes back of it."""
    training = Training()
    with watched(training, folder / "run", [sink_of(tool, folder, selection, files=False)]) as monitor:
        training.run(range(steps // 2), monitor)
        if broken:
            training.model[3].weight.data[0, 0] = float("nan")
        training.run(range(steps // 2, steps), monitor)
    assert monitor.failures == []
    (imported,) = import_runs(folder / LOGS[tool], folder / "back")
    assert imported.provenance.renamed == {}
    return auscult.load(folder / "run"), auscult.load(imported.path)


@pytest.mark.parametrize("tool", LOGS)
def test_every_series_comes_back_under_its_metric_and_path(tool: str, tmp_path: Path) -> None:
    run, again = back(tool, tmp_path, EVERYTHING, 20)
    channels = {Channel(metric, path) for metric in run.metrics for path in (*run.paths(metric), "")}
    compared = 0
    for metric, path in sorted(channels):
        if not path and metric not in {"loss", "train/odd", "grad_norm", "update_ratio", "step_time", "val/accuracy"}:
            continue  # many have no total
        told = run.series(metric, path)
        if not told.observed:
            continue
        found = again.series(metric, path)
        assert found.steps.tolist() == told.steps.tolist(), (metric, path)
        # TensorBoard keeps float32, and so do our streams of norms and moments.
        np.testing.assert_allclose(
            found, told, rtol=1e-6 if tool == "tensorboard" else 1e-12, err_msg=f"{metric} {path}"
        )
        compared += len(told)
    assert compared > 2000 and again.steps.tolist() == list(range(20))
    # The structure of the model is not sent, so that rules that need it are silent; none says what it did not.
    assert {each.code for each in auscult.diagnose(again)} <= {each.code for each in auscult.diagnose(run)}


@pytest.mark.parametrize("tool", LOGS)
def test_a_sick_run_is_still_sick_and_a_usual_selection_is_enough_to_say_so(tool: str, tmp_path: Path) -> None:
    run, again = back(tool, tmp_path, Selection(), 60, broken=True)
    assert "L001" in {each.code for each in auscult.diagnose(run)}
    found = {each.code: each for each in auscult.diagnose(again)}
    assert found["L001"].severity == "critical" and found["L001"].step == 30
    assert again.series("grad_norm", "0.weight").steps.tolist() == [0]
    assert again.series("update_ratio").steps.tolist() == list(range(0, 60, 10))
    auscult.report(again, tmp_path / "page.html")
    assert auscult.sonify(again).duration > 0


NAMES = ("top@1", "top#1", "a//b", "n" * 249 + "x", "n" * 249 + "xyz")


class Deep(nn.Module):
    """Parameters whose paths begin with the same 300 characters; one has characters that MLflow does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(
            {f"{'deep' * 75}{end}": nn.Linear(2, 2) for end in ("-first", "-last", "[a]", "(a)")}
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.stack([each(inputs) * (place + 1) for place, each in enumerate(self.parts.values())]).sum(0)


def test_names_that_mlflow_does_not_take_stay_apart_over_a_resume(tmp_path: Path) -> None:
    for attempt in range(2):
        torch.manual_seed(attempt)
        model = Deep()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        sink = sink_of("mlflow", tmp_path, EVERYTHING, files=False)
        with auscult.watch(
            model, optimizer, tmp_path / "run", if_exists="resume", sinks=[sink], every=(1, 1)
        ) as monitor:
            for step in range(3):
                model(torch.ones(1, 2)).square().sum().backward()
                optimizer.step()
                optimizer.zero_grad()
                monitor.log({name: float(step * (place + 1)) for place, name in enumerate(NAMES)})
        assert monitor.failures == []
    (imported,) = import_runs(tmp_path / "mlflow.db", tmp_path / "back")
    run, again = auscult.load(tmp_path / "run"), auscult.load(imported.path)
    paths = run.paths("grad_norm")
    assert len(paths) == 8 and len({path[:250] for path in paths}) < 8
    for metric, path in [*((name, "") for name in NAMES), *(("grad_norm", path) for path in paths)]:
        told, found = run.series(metric, path), again.series(metric, path)
        assert found.steps.tolist() == told.steps.tolist() == list(range(6)), (metric, path)
        np.testing.assert_allclose(found.values, told.values, rtol=1e-6)
    assert max(len(key) for key in read_mlflow(tmp_path)) == 250
