"""TensorBoard: a run as event files."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from shutil import copyfile
from time import time
from typing import Any, ClassVar

import numpy as np

from auscult.core.detail import TensorDetail
from auscult.core.finding import Finding
from auscult.core.provenance import OWN
from auscult.core.run import RunInfo
from auscult.core.version import __version__
from auscult.integrations.selection import Selection
from auscult.integrations.tracker import Tracker


class TensorBoardSink(Tracker):
    """Scalars, histograms, findings as text and the sound in TensorBoard; the report lies beside the event files.

    After a resume TensorBoard takes back the steps that are made again.

    Args:
        folder: Where event files go; None is `tensorboard` in the run's own directory.
        selection: What is sent, and how often.
        files: Whether the report and the sound are written when the run ends.
        seconds: How long the end of the run waits at most for what is still to be written.
    """

    title: ClassVar[str] = "TensorBoard"
    package: ClassVar[str] = "tensorboard.summary.writer.event_file_writer"
    rewinds: ClassVar[bool] = True

    def __init__(
        self,
        folder: str | Path | None = None,
        selection: Selection | None = None,
        *,
        files: bool = True,
        seconds: float = 60.0,
    ) -> None:
        super().__init__(selection, files=files, seconds=seconds)
        self._folder = None if folder is None else Path(folder)
        self._step = 0

    def _open(self, run: RunInfo, path: Path, step: int) -> None:
        protos = ("event", "summary", "tensor", "tensor_shape")
        self._event, self._summary, self._tensor, self._shape = (
            import_module(f"tensorboard.compat.proto.{each}_pb2") for each in protos
        )
        self._text: Any = import_module("tensorboard.plugins.text.metadata")
        self._folder = self._folder or path / "tensorboard"
        self._writer = self._client.EventFileWriter(str(self._folder))
        if step > 0:
            started = self._event.SessionLog(status=self._event.SessionLog.START)
            self._writer.add_event(self._event.Event(wall_time=time(), step=step, session_log=started))
        self._write_text(step, OWN, f"auscult {__version__}, run {run.id}")

    def _send(self, step: int, values: Mapping[str, float]) -> None:
        self._write(step, [self._value(tag=key, simple_value=value) for key, value in values.items()])

    def _send_histograms(self, step: int, tensors: Mapping[str, TensorDetail]) -> None:
        found: list[Any] = []
        for key, tensor in tensors.items():
            low, high = tensor.histogram.edges()
            proto = self._summary.HistogramProto(
                min=tensor.minimum,
                max=tensor.maximum,
                num=tensor.histogram.total,
                sum=tensor.mean * tensor.count,
                sum_squares=tensor.mean_square * tensor.count,
            )
            for left, right, count in zip(low, high, tensor.histogram.counts, strict=True):
                if not proto.bucket_limit or left > proto.bucket_limit[-1]:  # nothing lies between two bins
                    proto.bucket_limit.append(left)
                    proto.bucket.append(0)
                proto.bucket_limit.append(max(right, np.nextafter(proto.bucket_limit[-1], np.inf)))
                proto.bucket.append(count)
            found.append(self._value(tag=key, histo=proto))
        self._write(step, found)

    def _send_finding(self, step: int, finding: Finding, text: str) -> None:
        self._write_text(step, f"findings/{finding.code}", text)

    def _write_text(self, step: int, tag: str, text: str) -> None:
        metadata = self._text.create_summary_metadata(display_name=None, description=None)
        tensor = self._tensor.TensorProto(
            dtype="DT_STRING",
            string_val=[text.encode()],
            tensor_shape=self._shape.TensorShapeProto(dim=[self._shape.TensorShapeProto.Dim(size=1)]),
        )
        self._write(step, [self._value(tag=tag, metadata=metadata, tensor=tensor)])

    def _send_files(self, page: Path, sound: Path) -> None:
        assert self._folder is not None
        copyfile(page, self._folder / "report.html")
        copyfile(sound, self._folder / "run.wav")
        heard = self._summary.Summary.Audio(encoded_audio_string=sound.read_bytes(), content_type="audio/wav")
        self._write(self._step, [self._value(tag="run", audio=heard)])

    def _finish(self) -> None:
        self._writer.close()

    def _value(self, **fields: Any) -> Any:
        return self._summary.Summary.Value(**fields)

    def _write(self, step: int, values: list[Any]) -> None:
        self._step = max(step, self._step)
        summary = self._summary.Summary(value=values)
        self._writer.add_event(self._event.Event(wall_time=time(), step=step, summary=summary))
