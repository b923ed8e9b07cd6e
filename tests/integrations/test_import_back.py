"""What our sinks wrote into a tracker, imported back: the same series under the same metric and path."""

from pathlib import Path

import numpy as np
import pytest
from tests.integrations.conftest import EVERYTHING, Training, sink_of, watched

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
