"""Trackio: a run in Trackio, local or in a Space."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from auscult.core.detail import TensorDetail
from auscult.core.finding import Finding
from auscult.core.run import RunInfo
from auscult.integrations.selection import Selection
from auscult.integrations.tracker import Tracker, bars

LEVELS = {"info": "INFO", "warning": "WARN", "critical": "ERROR"}


class TrackioSink(Tracker):
    """Scalars, histograms, findings as alerts, the report and the sound as media in Trackio.

    Where a run is open (`trackio.init` was called), it takes that one and leaves it open. Otherwise it begins a run of
    its own, which a resumed training goes on with.

    Args:
        project: The project for a run of its own.
        selection: What is sent, and how often.
        files: Whether the report and the sound are sent when the run ends.
        seconds: How long the end of the run waits at most for what is still to be sent.
        init: What else to give to `trackio.init`: `space_id="me/space"`.
    """

    title: ClassVar[str] = "Trackio"
    package: ClassVar[str] = "trackio"

    def __init__(
        self,
        project: str = "auscult",
        selection: Selection | None = None,
        *,
        files: bool = True,
        seconds: float = 60.0,
        **init: Any,
    ) -> None:
        super().__init__(selection, files=files, seconds=seconds)
        self._init = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False, "project": project, **init}
        self._step = 0

    def _running(self) -> Any:
        return None if self._client is None else self._client.context_vars.current_run.get()

    def _open(self, run: RunInfo, path: Path, step: int) -> None:
        settings = {"name": f"{path.name}-{run.id[:6]}", "resume": "allow", "config": dict(run.config), **self._init}
        self._run = self._found or self._client.init(**settings)

    def _send(self, step: int, values: Mapping[str, float]) -> None:
        self._step = max(step, self._step)
        self._run.log(dict(values), step=step)

    def _send_histograms(self, step: int, tensors: Mapping[str, TensorDetail]) -> None:
        drawn = {key: self._client.Histogram(np_histogram=bars(tensor)) for key, tensor in tensors.items()}
        self._run.log(drawn, step=step)

    def _send_finding(self, step: int, finding: Finding, text: str) -> None:
        level = self._client.AlertLevel[LEVELS[finding.severity]]
        self._run.alert(f"{finding.code} {finding.name}", text, level=level, step=step)

    def _send_files(self, page: Path, sound: Path) -> None:
        files = {"report": self._client.Html(str(page)), "sound": self._client.Audio(str(sound))}
        self._run.log(files, step=self._step)

    def _finish(self) -> None:
        if self._found is None:
            self._run.finish()
