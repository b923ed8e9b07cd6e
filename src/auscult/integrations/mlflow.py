"""MLflow: a run in MLflow, on a server or in a local store."""

import re
import time
from collections.abc import Mapping
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from auscult.core.detail import TensorDetail
from auscult.core.finding import Finding
from auscult.core.provenance import NAMED, OWN
from auscult.core.run import RunInfo
from auscult.integrations.selection import Selection
from auscult.integrations.tracker import Tracker

TAG = f"{OWN}.run_id"
AT_ONCE, TAGS_AT_ONCE = 1000, 100
"""Metrics and tags that MLflow takes in one call."""
LONGEST_KEY, LONGEST_TAG = 250, 5000
DIGITS = 8
"""Hexadecimal digits that tell a name from every other one that MLflow would not take."""
_FORBIDDEN = re.compile(r"[^\w\-. :/]")
_NO_PART = re.compile(r"(?<![^/])\.{0,2}(?![^/])")


class MlflowSink(Tracker):
    """Scalars, findings as tags, histograms, the report and the sound as artifacts in MLflow.

    Where a run is active (`mlflow.start_run` was called), it takes that one and leaves it open. Otherwise it begins a
    run of its own, which a resumed training goes on with. MLflow keeps infinities as the largest numbers it has, and
    its keys know fewer characters: others become `_`.

    Args:
        experiment: Name of the experiment for a run of its own.
        tracking_uri: Where; None is MLflow's own setting.
        selection: What is sent, and how often.
        files: Whether the report and the sound are sent when the run ends.
        seconds: How long the end of the run waits at most for what is still to be sent.
    """

    title: ClassVar[str] = "MLflow"
    package: ClassVar[str] = "mlflow"

    def __init__(
        self,
        experiment: str = "auscult",
        tracking_uri: str | None = None,
        selection: Selection | None = None,
        *,
        files: bool = True,
        seconds: float = 60.0,
    ) -> None:
        super().__init__(selection, files=files, seconds=seconds)
        self._experiment = experiment
        self._uri = tracking_uri
        self._keys: dict[str, str] = {}

    def _running(self) -> Any:
        return None if self._client is None else self._client.active_run()

    def _open(self, run: RunInfo, path: Path, step: int) -> None:
        self._store = self._client.MlflowClient(tracking_uri=self._uri)
        if self._found is not None:
            self._run: str = self._found.info.run_id
            return
        known = self._store.get_experiment_by_name(self._experiment)
        where = self._store.create_experiment(self._experiment) if known is None else known.experiment_id
        earlier = self._store.search_runs([where], filter_string=f"tags.`{TAG}` = '{run.id}'", max_results=1)
        if earlier:
            self._run = earlier[0].info.run_id
            self._store.update_run(self._run, status="RUNNING")
        else:
            self._run = self._store.create_run(where, tags={TAG: run.id}, run_name=path.name).info.run_id

    def _send(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        entities = self._client.entities
        new = {name: _key(name) for name in values if name not in self._keys}
        changed = (name for name, key in new.items() if key != name and len(name) <= LONGEST_TAG)
        tags = iter([entities.RunTag(f"{NAMED}{new[name][-DIGITS:]}", name) for name in changed])
        while some := list(islice(tags, TAGS_AT_ONCE)):
            self._store.log_batch(self._run, tags=some)
        self._keys.update(new)
        metrics = iter([entities.Metric(self._keys[key], value, now, step) for key, value in values.items()])
        while some := list(islice(metrics, AT_ONCE)):
            self._store.log_batch(self._run, metrics=some)

    def _send_histograms(self, step: int, tensors: Mapping[str, TensorDetail]) -> None:
        told: dict[str, Any] = {}
        for key, tensor in tensors.items():
            low, high = tensor.histogram.edges()
            told[key] = {
                "from": low.tolist(),
                "to": high.tolist(),
                "elements": tensor.histogram.counts.tolist(),
                "nonfinite": tensor.histogram.nonfinite,
            }
        self._store.log_dict(self._run, told, f"histograms/step-{step:09}.json")

    def _send_finding(self, step: int, finding: Finding, text: str) -> None:
        key = _key(f"finding.{finding.code}.{finding.path}".rstrip("."))
        self._store.set_tag(self._run, key, text[:LONGEST_TAG])

    def _send_files(self, page: Path, sound: Path) -> None:
        self._store.log_artifact(self._run, str(page))
        self._store.log_artifact(self._run, str(sound))

    def _finish(self) -> None:
        if self._found is None:
            self._store.set_terminated(self._run)


def _key(name: str) -> str:
    """The name as MLflow takes it, and no other name's.

    What has parts that a path could not have, characters that MLflow does not know or too many of them is changed, and
    ends with digits made from the whole name, so that it is the same in every attempt and every run.
    """
    key = _NO_PART.sub("_", _FORBIDDEN.sub("_", name))
    if key == name and len(key) <= LONGEST_KEY:
        return key
    digits = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
    return f"{key[: LONGEST_KEY - DIGITS - 1]}-{digits}"
