"""Comet: a run as an experiment in Comet, online or offline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from auscult.core.detail import TensorDetail
from auscult.core.finding import Finding
from auscult.core.run import RunInfo
from auscult.integrations.selection import Selection
from auscult.integrations.tracker import Tracker, bars

QUIET = (
    "auto_param_logging",
    "auto_metric_logging",
    "auto_output_logging",
    "auto_histogram_tensorboard_logging",
    "log_code",
    "log_env_details",
    "log_git_metadata",
    "log_graph",
    "log_git_patch",
    "parse_args",
)


class CometSink(Tracker):
    """Scalars, histograms, findings as text, the report as HTML and the sound as audio in Comet.

    Where an experiment is running, it takes that one and leaves it open. Otherwise it begins one of its own, which a
    resumed training goes on with, and in which Comet logs nothing by itself. Comet asks to be imported before torch;
    for what comes from here that makes no difference.

    Args:
        selection: What is sent, and how often.
        files: Whether the report and the sound are sent when the run ends.
        seconds: How long the end of the run waits at most for what is still to be sent.
        offline_directory: Where archives go if `online` is false.
        start: What to give to `comet_ml.start`: `project_name="mnist"`, `online=False`.
    """

    title: ClassVar[str] = "Comet"
    package: ClassVar[str] = "comet_ml"

    def __init__(
        self,
        selection: Selection | None = None,
        *,
        files: bool = True,
        seconds: float = 60.0,
        offline_directory: str | Path | None = None,
        **start: Any,
    ) -> None:
        super().__init__(selection, files=files, seconds=seconds)
        self._folder = None if offline_directory is None else str(offline_directory)
        self._start = start
        self._step = 0

    def _running(self) -> Any:
        found = None if self._client is None else self._client.get_running_experiment()
        return None if found is None or found.ended else found

    def _open(self, run: RunInfo, path: Path, step: int) -> None:
        if self._found is not None:
            self._run = self._found
            return
        quiet = self._client.ExperimentConfig(
            name=path.name, offline_directory=self._folder, **dict.fromkeys(QUIET, False)
        )
        settings = {"experiment_key": run.id, "mode": "get_or_create", "experiment_config": quiet, **self._start}
        self._run = self._client.start(**settings)
        self._run.log_parameters(dict(run.config))

    def _send(self, step: int, values: Mapping[str, float]) -> None:
        self._step = max(step, self._step)
        self._run.log_metrics(dict(values), step=step)

    def _send_histograms(self, step: int, tensors: Mapping[str, TensorDetail]) -> None:
        for key, tensor in tensors.items():
            counts, edges = bars(tensor)
            histogram = self._client.data_structure.Histogram()
            histogram.add((edges[:-1] + edges[1:]) / 2, counts)
            self._run.log_histogram_3d(histogram, name=key, step=step)

    def _send_finding(self, step: int, finding: Finding, text: str) -> None:
        self._run.log_text(text, step=step, metadata={"code": finding.code, "severity": finding.severity})

    def _send_files(self, page: Path, sound: Path) -> None:
        self._run.log_html(page.read_text(encoding="utf-8"))
        self._run.log_asset(str(page), file_name="report.html")
        self._run.log_audio(str(sound), file_name="run.wav")

    def _finish(self) -> None:
        if self._found is None:
            self._run.end()
