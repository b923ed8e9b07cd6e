"""W&B: a run in Weights & Biases, online or offline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from auscult.core.detail import TensorDetail
from auscult.core.finding import Finding
from auscult.core.provenance import OWN
from auscult.core.run import RunInfo
from auscult.core.version import __version__
from auscult.integrations.selection import Selection
from auscult.integrations.tracker import Tracker, bars

LEVELS = {"info": "INFO", "warning": "WARN", "critical": "ERROR"}
LONGEST_TITLE = 63


class WandbSink(Tracker):
    """Scalars, histograms, findings as alerts, the report as HTML and the sound as audio in W&B.

    Where a run is open (`wandb.init` was called), it takes that one and leaves it open; `step` is the x-axis of all
    that comes from here. Otherwise it begins a run of its own, which a resumed training goes on with.

    Args:
        selection: What is sent, and how often.
        files: Whether the report and the sound are sent when the run ends.
        seconds: How long the end of the run waits at most for what is still to be sent.
        init: What to give to `wandb.init`: `project="mnist"`, `mode="offline"`.
    """

    title: ClassVar[str] = "W&B"
    package: ClassVar[str] = "wandb"

    def __init__(
        self, selection: Selection | None = None, *, files: bool = True, seconds: float = 60.0, **init: Any
    ) -> None:
        super().__init__(selection, files=files, seconds=seconds)
        self._init = init
        self._defined: set[str] = set()
        self._step = 0

    def _running(self) -> Any:
        return None if self._client is None else self._client.run

    def _open(self, run: RunInfo, path: Path, step: int) -> None:
        settings = {"id": run.id, "name": path.name, "resume": "allow", "config": dict(run.config), **self._init}
        self._run = self._found or self._client.init(**settings)
        if self._found is None:
            self._run.config.update({OWN: {"version": __version__, "run": run.id}}, allow_val_change=True)
        self._run.define_metric("step", hidden=True)

    def _send(self, step: int, values: Mapping[str, float]) -> None:
        self._log(step, dict(values))

    def _send_histograms(self, step: int, tensors: Mapping[str, TensorDetail]) -> None:
        drawn = {key: self._client.Histogram(np_histogram=bars(tensor)) for key, tensor in tensors.items()}
        self._log(step, drawn)

    def _send_finding(self, step: int, finding: Finding, text: str) -> None:
        title = f"{finding.code} {finding.name} {finding.path}"[:LONGEST_TITLE].strip()
        self._run.alert(title, text, LEVELS[finding.severity], wait_duration=0.001)

    def _send_files(self, page: Path, sound: Path) -> None:
        self._log(
            self._step, {"report": self._client.Html(str(page), inject=False), "sound": self._client.Audio(str(sound))}
        )

    def _finish(self) -> None:
        if self._found is None:
            self._run.finish()

    def _log(self, step: int, values: dict[str, Any]) -> None:
        """W&B drops what comes with a smaller step than what it has; a row says its own step beside."""
        for metric in dict.fromkeys(key.partition("/")[0] for key in values):
            if metric not in self._defined:
                self._defined.add(metric)
                self._run.define_metric(metric, step_metric="step")
                self._run.define_metric(f"{metric}/*", step_metric="step")
        self._step = max(step, self._step)
        self._run.log({**values, "step": step}, step=self._step if self._found is None else None)
