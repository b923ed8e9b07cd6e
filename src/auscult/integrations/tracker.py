"""Tracker: a sink into an experiment tracker, whichever it is; a file for each tool says what is particular to it.

What the training thread does is look at a row and put it aside. Everything that knows of the tracker (`_open` to
`_finish`) runs on the thread of an `Outbox`; only the tracker's package is imported when the sink is made, because some
packages draw random numbers while they are imported.
"""

import atexit
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread, current_thread, main_thread
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from auscult.core.detail import Detail, TensorDetail
from auscult.core.errors import SinkError
from auscult.core.finding import Finding
from auscult.core.run import RunInfo
from auscult.core.sink import Record
from auscult.integrations import draws
from auscult.integrations.excerpt import Excerpt, Group
from auscult.integrations.marks import Marks
from auscult.integrations.outbox import Outbox
from auscult.integrations.selection import Selection
from auscult.monitor.unclosed import close_all
from auscult.pages.wording import finding_line
from auscult.reading import report, sonify
from auscult.sound.synth import render
from auscult.store.layout import read_info
from auscult.store.reader import load

BARS = 64


class Tracker(ABC):
    """A sink into a tracker; `watch(..., sinks=[...])` takes any number of them.

    A tracker that raises, blocks or is not installed never touches the training: one message says so, and the run's own
    files hold everything. With several ranks only rank 0 writes. A resumed run goes on in the same run of the tracker;
    steps that were sent before and are made again are not sent twice.

    Args:
        selection: What is sent, and how often.
        files: Whether the report and the sound are sent when the run ends.
        seconds: How long the end of the run waits at most for what is still to be sent.
    """

    title: ClassVar[str]
    """What messages call it."""
    package: ClassVar[str]
    """What is imported."""
    rewinds: ClassVar[bool] = False
    """Whether it can take back the steps from one on, which `_open` then has to do."""

    def __init__(self, selection: Selection | None = None, *, files: bool = True, seconds: float = 60.0) -> None:
        self._excerpt = Excerpt(selection, self.title)
        self._files = files
        self._seconds = seconds
        self._client, self._missing = _imported(self.package)
        self._outbox: Outbox | None = None
        self._told: dict[tuple[str, str], tuple[str, str]] = {}

    # -- what each tracker does in its own way, on a thread of its own -------------------------------------------------

    def _running(self) -> Any:
        """A run of the tracker that the user has begun, which is used and left open; asked on the training thread."""
        return None

    @abstractmethod
    def _open(self, run: RunInfo, path: Path, step: int) -> None:
        """Begin a run, or go on with it: `run.id` is its identity, `step` the first step that will come."""

    @abstractmethod
    def _send(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step, by key."""

    @abstractmethod
    def _send_histograms(self, step: int, tensors: Mapping[str, TensorDetail]) -> None:
        """Distributions of one step, by key."""

    @abstractmethod
    def _send_finding(self, step: int, finding: Finding, text: str) -> None:
        """A finding that is new or has changed, and the line that tells it."""

    @abstractmethod
    def _send_files(self, page: Path, sound: Path) -> None:
        """The report and the sound; both are removed afterwards."""

    @abstractmethod
    def _finish(self) -> None:
        """The run has ended: write what is open."""

    # -- what the journal calls, on the training thread ----------------------------------------------------------------

    def begin(self, path: Path, step: int) -> None:
        """The run in this directory begins or goes on; called once, before its first row, which is of this step."""
        if _rank() != 0:
            return
        self._path = path
        package, _, _ = self.package.partition(".")
        self._marks = Marks(path / "trackers" / f"{package}.json")
        self._excerpt.begin({} if self.rewinds else self._marks.sent)
        self._found = self._running()
        _close_with_the_main_thread()
        self._outbox = Outbox(self.title, partial(self._begin, step))

    def write(self, record: Record) -> None:
        """Take one row."""
        if self._outbox is not None:
            self._post(self._excerpt.add(record))

    def write_finding(self, step: int, finding: Finding) -> None:
        """Take one finding; told are those that are new or have changed their severity or status."""
        state = (finding.severity, finding.status)
        if self._outbox is not None and self._told.get(finding.key) != state:
            self._told[finding.key] = state
            self._post(self._excerpt.rest())
            self._outbox.put(partial(self._send_finding, step, finding, finding_line(finding)))

    def write_detail(self, detail: Detail) -> None:
        """Take everything about a finished step."""
        if self._outbox is not None and self._excerpt.wants(detail):
            self._post(self._excerpt.rest())
            self._outbox.put(partial(self._deliver_detail, detail))

    def trouble(self) -> Exception | None:
        """What went wrong since this was last asked, if anything did."""
        return None if self._outbox is None else self._outbox.trouble()

    def close(self) -> None:
        """Send what is left, the report and the sound, and wait for it, for `seconds` at most."""
        if self._outbox is None:
            return
        self._post(self._excerpt.rest())
        if self._files:
            self._outbox.put(self._deliver_files)
        self._outbox.put(self._finish)
        self._outbox.close(self._seconds)
        self._marks.close()

    def _post(self, group: Group | None) -> None:
        if group is not None and self._outbox is not None:
            self._outbox.put(partial(self._deliver, group), group.size)

    # -- on the thread of the outbox -----------------------------------------------------------------------------------

    def _begin(self, step: int) -> None:
        if self._missing is not None:
            raise self._missing
        draws.set_apart(self.package)
        self._open(read_info(self._path)[0], self._path, step)
        draws.set_apart(self.package)  # and what was loaded only now
        atexit.register(close_all)  # so that it comes before what the tracker has registered

    def _deliver(self, group: Group) -> None:
        for row in group.rows:
            self._marks.note(row.record.stream, group.step)
        self._marks.write()
        if values := self._excerpt.values(group):
            self._send(group.step, values)

    def _deliver_detail(self, detail: Detail) -> None:
        if chosen := self._excerpt.histograms(detail):
            self._send_histograms(detail.step, chosen)

    def _deliver_files(self) -> None:
        run = load(self._path)
        with TemporaryDirectory() as folder:
            page, sound = Path(folder) / "report.html", Path(folder) / "run.wav"
            report(run, page)
            render(sonify(run)).write(sound)
            self._send_files(page, sound)


@cache
def _close_with_the_main_thread() -> None:
    """Close monitors that are left open when the main thread ends, before anything that is registered at exit.

    At exit trackers have taken themselves down, and no thread can be started. In a training on another thread, which
    may outlive the main one, it is left to the exit all the same.
    """

    def close() -> None:
        main_thread().join()
        close_all()

    if current_thread() is main_thread():
        Thread(target=close, name="auscult at the end").start()


def _rank() -> int:
    """The rank of this process; 0 where there is only one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", "0"))


def _imported(package: str) -> tuple[Any, SinkError | None]:
    """A package, or why it cannot be imported; random numbers are what they were."""
    try:
        with draws.kept():
            return import_module(package), None
    except ModuleNotFoundError as error:
        return None, SinkError(f"{error}. Install it: pip install {package.partition('.')[0]}")
    except Exception as error:  # whatever a package does while it is imported
        return None, SinkError(f"{type(error).__name__}: {error}")


def bars(tensor: TensorDetail, count: int = BARS) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A distribution in bars of equal width, for trackers that draw no others.

    Returns:
        int64 `(count,)` elements in each bar, which add up to the finite elements, and float64 `(count + 1,)` edges.
    """
    low, high = tensor.histogram.edges()
    left, right = (float(low[0]), float(high[-1])) if len(low) else (0.0, 0.0)
    edges = np.linspace(left, right if right > left else left + 1, count + 1)
    edges[-1] = np.nextafter(edges[-1], np.inf)  # a zero there lies below it
    heights = np.diff(np.round(np.cumsum([0.0, *tensor.histogram.mass(edges)])))
    return heights.astype(np.int64), edges
