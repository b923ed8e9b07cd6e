"""Every sink against the real client, offline: what the tracker's own reader returns is what `run.series` has."""

import json
import random
import socket
import warnings
import zipfile
from itertools import pairwise
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from tests.integrations.conftest import READERS, Training, comet_messages, sink_of, wandb_records, watched

import auscult

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("default"),  # of the trackers' own packages
    pytest.mark.filterwarnings("error:auscult"),
]
LARGEST = np.finfo(np.float64).max  # what MLflow has for an infinity


def train(tool: str, path: Path) -> auscult.Run:
    """Twelve steps; again from the ninth, as after a crash behind a checkpoint; up to the twentieth.

    Returns:
        What the run was when it was stopped.
    """
    sink = sink_of(tool, path)
    first = Training()
    with watched(first, path / "run", [sink]) as monitor:
        first.run(range(8), monitor)
        checkpoint, state = first.state(), monitor.state_dict()
        first.run(range(8, 12), monitor)
    assert monitor.failures == []
    copytree(path / "run", path / "stopped")

    second = Training(seed=1)
    second.load(checkpoint)
    with watched(second, path / "run", [sink_of(tool, path)], if_exists="resume") as monitor:
        monitor.load_state_dict(state)
        second.run(range(8, 20), monitor)
    assert monitor.failures == []
    return auscult.load(path / "stopped")


@pytest.mark.parametrize("tool", READERS)
def test_the_same_values_at_the_same_steps_none_dropped_none_doubled(tool: str, tmp_path: Path) -> None:
    stopped = train(tool, tmp_path)
    run, points = auscult.load(tmp_path / "run"), READERS[tool](tmp_path)
    wanted = {"loss", "lr/0", "train/odd", "val/accuracy", "clip_ratio", "clip_coefficient"}
    for metric in ("grad_norm", "param_norm", "update_norm", "grad_norm_clipped", "update_ratio", "effective_lr"):
        wanted |= {metric} | {f"{metric}/{path}" for path in run.paths(metric)}
    for metric in ("activation_std", "grad_std", "update_to_data", "grad_to_data"):
        wanted |= {f"{metric}/{path}" for path in run.paths(metric)}
    assert wanted <= points.keys(), sorted(wanted - points.keys())
    compared = 0
    for key in sorted(points.keys() - {"step", "_step", "_timestamp", "_runtime"}):
        metric, path = key, ""
        if metric not in run.metrics:
            metric, _, path = key.partition("/")
        series = run.series(metric, path)
        steps, values = series.steps, series.values
        if tool != "tensorboard":  # all others keep what they were sent first
            before = stopped.series(metric, path)
            steps = np.concatenate([before.steps, steps[steps >= 12]])
            values = np.concatenate([before.values, values[series.steps >= 12]])
        assert [step for step, _ in points[key]] == steps.tolist(), key
        if tool == "mlflow":
            values = np.where(np.isinf(values), LARGEST, values)
        tolerance = 1e-6 if tool == "tensorboard" else 1e-12  # TensorBoard keeps float32
        np.testing.assert_allclose([value for _, value in points[key]], values, rtol=tolerance, err_msg=key)
        compared += len(values)
    assert run.series("loss").steps.tolist() == list(range(20)) and compared > 1000


@pytest.mark.parametrize("tool", READERS)
def test_training_is_the_same_to_the_bit(tool: str, tmp_path: Path) -> None:
    bare = Training()
    bare.run(range(6), None)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    watchful = Training()
    before = random.getstate(), str(np.random.get_state())  # noqa: NPY002
    with watched(watchful, tmp_path / "run", [sink_of(tool, tmp_path)]) as monitor:
        watchful.run(range(6), monitor)
    assert all(a.equal(b) for a, b in zip(bare.bits(), watchful.bits(), strict=True))
    assert before == (random.getstate(), str(np.random.get_state()))  # noqa: NPY002


@pytest.mark.parametrize("tool", READERS)
def test_findings_histograms_report_and_sound_arrive(tool: str, tmp_path: Path) -> None:
    training = Training()
    with watched(training, tmp_path / "run", [sink_of(tool, tmp_path)]) as monitor:
        training.run(range(4), monitor)
        with_nan = training.model[3].weight
        with_nan.data[0, 0] = float("nan")
        training.run(range(4, 6), monitor)
        assert "L001" in {each.code for each in monitor.findings}
    assert monitor.failures == []
    elements = training.model[0].weight.numel()
    if tool == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"histograms": 0, "tensors": 0})
        events.Reload()
        (told, *_) = events.Tensors("findings/L001")
        assert "non-finite" in told.tensor_proto.string_val[0].decode()
        (drawn, *_) = events.Histograms("param_histogram/0.weight")
        assert sum(drawn.histogram_value.bucket) == elements == drawn.histogram_value.num
        limits = drawn.histogram_value.bucket_limit
        assert all(left < right for left, right in pairwise(limits))
        assert events.Audio("run")[0].encoded_audio_string[:4] == b"RIFF"
        assert "L001" in (tmp_path / "run" / "tensorboard" / "report.html").read_text()
    elif tool == "wandb":
        records = list(wandb_records(tmp_path))
        assert any("L001" in each.alert.title and each.alert.level == "ERROR" for each in records)
        items = [each for record in records for each in record.history.item]
        drawn = [each.value_json for each in items if each.nested_key == ["param_histogram/0.weight", "values"]]
        assert sum(json.loads(drawn[0])) == elements
        assert {each.metric.glob_name: each.metric.step_metric for each in records}["grad_norm/*"] == "step"
        assert list(tmp_path.glob("wandb/offline-run-*/files/media/html/report_*.html"))
        assert list(tmp_path.glob("wandb/offline-run-*/files/media/audio/sound_*.wav"))
    elif tool == "mlflow":
        import mlflow

        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
        (run,) = client.search_runs([client.get_experiment_by_name("auscult").experiment_id])
        assert run.info.status == "FINISHED" and "non-finite" in run.data.tags["finding.L001.3.weight"]
        assert {"report.html", "run.wav", "histograms"} <= {
            each.path for each in client.list_artifacts(run.info.run_id)
        }
        first = client.list_artifacts(run.info.run_id, "histograms")[0].path
        told = json.loads(Path(client.download_artifacts(run.info.run_id, first)).read_text())
        assert sum(told["param_histogram/0.weight"]["elements"]) == elements
    elif tool == "trackio":
        from trackio.sqlite_storage import SQLiteStorage

        (run,) = SQLiteStorage.get_runs(tmp_path.name)
        assert any(
            "L001" in each["title"] and each["level"] == "error" for each in SQLiteStorage.get_alerts(tmp_path.name)
        )
        logs = SQLiteStorage.get_logs(tmp_path.name, run)
        drawn = [row["param_histogram/0.weight"] for row in logs if "param_histogram/0.weight" in row]
        assert sum(drawn[0]["values"]) == elements
        rows = {key: value for row in logs for key, value in row.items()}
        assert rows["report"]["_type"] == "trackio.html" and rows["sound"]["_type"] == "trackio.audio"
    else:
        messages = list(comet_messages(tmp_path))
        uploads = [each["payload"] for each in messages if each["type"] == "file_upload"]
        assert {"report.html", "run.wav", "param_histogram/0.weight"} <= {
            each["additional_params"].get("fileName") or each["metadata"] for each in uploads
        }, uploads
        assert any(each["type"] == "html" and "L001" in each["payload"]["html"] for each in messages)


def test_a_server_that_is_not_there_draws_nothing_from_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR, MLFLOW_HTTP_REQUEST_MAX_RETRIES

    from auscult.integrations.mlflow import MlflowSink

    monkeypatch.setenv(MLFLOW_HTTP_REQUEST_MAX_RETRIES.name, "3")
    monkeypatch.setenv(MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR.name, "0")  # it waits for a time that it draws
    random.seed(3)
    before, training = random.getstate(), Training()
    sinks = [MlflowSink(tracking_uri="http://127.0.0.1:9")]
    with (
        pytest.warns(RuntimeWarning, match="Connection refused"),
        watched(training, tmp_path / "run", sinks) as monitor,
    ):
        training.run(range(4), monitor)
    assert before == random.getstate()


def test_comet_puts_the_archives_of_all_attempts_into_one_experiment(tmp_path: Path) -> None:
    """What `comet upload` goes by: Comet's own words for "make the experiment, or go on with it", in every archive."""
    train("comet", tmp_path)
    identity = auscult.load(tmp_path / "run").info.id
    archives = list((tmp_path / "comet").glob("*.zip"))
    told = [json.loads(zipfile.ZipFile(each).read("experiment.json")) for each in archives]
    assert len(told) == 2 and {(each["offline_id"], each["resume_strategy"]) for each in told} == {
        (identity, "get_or_create")
    }


def test_a_server_that_takes_the_call_and_never_answers(tmp_path: Path) -> None:
    from auscult.integrations.mlflow import MlflowSink

    bare = Training()
    bare.run(range(20), None)
    with socket.create_server(("127.0.0.1", 0)) as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sink = MlflowSink(tracking_uri=f"http://127.0.0.1:{server.getsockname()[1]}", seconds=0.5)
        training = Training()
        with watched(training, tmp_path / "run", [sink]) as monitor:
            training.run(range(20), monitor)
    ours = [str(each.message) for each in caught if "auscult" in str(each.message)]
    assert len(ours) == 1 and "MLflow" in ours[0] and "within 0.5 s" in ours[0], ours
    assert all(a.equal(b) for a, b in zip(bare.bits(), training.bits(), strict=True))
    assert auscult.load(tmp_path / "run").steps.tolist() == list(range(20))
