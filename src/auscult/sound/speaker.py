"""Speaker: the sound device of this machine, fed from a queue. The one place that needs miniaudio.

The device asks for frames on a thread of its own, many times a second; whoever makes the sound hands it over in blocks
of any length, ahead of time, and waits while enough of them are queued. What is not there in time is silence, and is
counted.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from threading import Condition
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import MissingExtra, NoDevice, SetupError

Backend = Literal["default", "null"]

PERIODS = 5  # of sound that the device holds; it asks for one at a time
FADE = 0.005  # seconds in which a pause begins and ends
PATIENCE = 5.0  # seconds without a question from the device after which it is taken for gone


class Speaker:
    """An open sound device with two channels; a context manager.

    Attributes:
        sample_rate: Frames per second.
        backend: What plays, as `ALSA`.
        handed: How many frames have been handed over.
        delivered: How many of them the device has taken.
        missing: How many frames of silence it took in between, because nothing was queued.
        longest: The longest time between two of its questions, seconds.
        buffer: How much sound the device itself holds, seconds; if it asks within this time, nothing is lost.

    Args:
        sample_rate: Frames per second.
        backend: `null` for a device that takes sound at the same pace, and that nobody hears.
        volume: 0 to 1, a factor on every sample.
        ahead: Seconds that are queued before whoever makes the sound has to wait.
        buffer: Seconds of sound that the device holds besides.

    Raises:
        MissingExtra: if miniaudio is not installed.
        NoDevice: if there is no sound device.
        SetupError: if there is no such volume.
    """

    def __init__(
        self,
        sample_rate: int = 44_100,
        backend: Backend = "default",
        volume: float = 1.0,
        ahead: float = 1.0,
        buffer: float = 0.5,
    ) -> None:
        if not 0 <= volume <= 1:
            raise SetupError(f"Expected `volume` to be 0 to 1, but got {volume!r}.")
        miniaudio = _import_miniaudio()
        self._volume = np.float32(volume)
        self._enough = ahead * sample_rate
        self.sample_rate = sample_rate
        self.delivered = self.missing = self.handed = 0
        self.longest = 0.0
        self.buffer = buffer
        self._queue: deque[NDArray[np.float32]] = deque()
        self._queued = 0  # frames
        self._asked: float | None = None  # when the device asked last
        self._changed = Condition()
        self._started = self._ending = False
        self._paused = self._was_paused = False
        try:
            with _silent_stderr():  # ALSA's own, by the dozen
                self._device: Any = miniaudio.PlaybackDevice(
                    output_format=miniaudio.SampleFormat.FLOAT32,
                    nchannels=2,
                    sample_rate=sample_rate,
                    buffersize_msec=round(1000 * buffer / PERIODS),
                    callback_periods=PERIODS,
                    backends=[miniaudio.Backend.NULL] if backend == "null" else None,
                    app_name="auscult",
                )
            self.backend = str(self._device.backend)
            if self.backend == "Null" and backend != "null":  # what miniaudio takes where there is nothing else
                raise miniaudio.MiniaudioError("only the null device is left")
        except miniaudio.MiniaudioError as error:
            raise NoDevice("Expected a sound device on this machine, but found none.") from error

    def __enter__(self) -> "Speaker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def heard(self) -> int:
        """How many of the frames handed over have left the device, as far as it tells."""
        with self._changed:
            since = time.monotonic() - self._asked if self._asked is not None else 0.0
            held = round(max(0.0, self.buffer - since) * self.sample_rate)
            return max(0, self.delivered - held)

    def play(self, block: NDArray[np.float32]) -> None:
        """Hand over frames `(n, 1)` or `(n, 2)`, finite, and wait until the next ones are wanted.

        Raises:
            NoDevice: if the device has stopped asking.
        """
        with self._changed:
            self._ending = False
            self._queue.append(np.broadcast_to(block, (len(block), 2)).astype(np.float32) * self._volume)
            self._queued += len(block)
            self.handed += len(block)
        if self._queued >= self._enough:
            self._start()
            self._wait(lambda: self._queued < self._enough)

    @property
    def paused(self) -> bool:
        """Whether it is silent until it goes on where it was."""
        return self._paused

    def pause(self, paused: bool) -> None:
        """Fall silent with the device's next question, or go on with the very sound that was next."""
        self._paused = paused

    def finish(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until the device has taken everything; it is heard within `buffer` seconds. More may follow.

        Args:
            meanwhile: Called again and again.

        Raises:
            NoDevice: if the device has stopped asking.
        """
        self._ending = True
        self._start()
        while self._queued:
            queued = self._queued
            self._wait(lambda queued=queued: self._queued < queued)
            meanwhile()

    def close(self) -> None:
        """Let what the device holds be heard, then end it."""
        if self._ending:
            time.sleep(self.buffer)
        self._device.close()

    def _start(self) -> None:
        """Let the device ask, once there is something to answer with."""
        if not self._started:
            answers = self._answers()
            next(answers)
            self._device.start(answers)
            self._started = True

    def _wait(self, ready: Callable[[], bool]) -> None:
        with self._changed:
            while not ready():
                if not self._changed.wait(PATIENCE):
                    raise NoDevice("Expected the sound device to go on, but it has stopped. Was it unplugged?")

    def _answers(self) -> Generator[bytes | NDArray[np.float32], int, None]:
        """Answers each question of the device, which is a number of frames."""
        wanted = yield b""
        while True:
            now = time.monotonic()
            with self._changed:
                answer = self._taken(wanted)
                self.longest = max(self.longest, now - (self._asked or now))
                self._asked = now
                self._changed.notify_all()
            wanted = yield answer

    def _taken(self, wanted: int) -> NDArray[np.float32]:
        """So many frames of the queue, filled up with silence."""
        answer = np.zeros((wanted, 2), np.float32)
        paused, turned = self._paused, self._paused != self._was_paused
        self._was_paused = paused
        fade = min(wanted, round(FADE * self.sample_rate)) if turned else 0
        due = fade if paused else wanted
        filled = 0
        while filled < due and self._queue:
            block = self._queue.popleft()
            count = min(len(block), due - filled)
            answer[filled : filled + count] = block[:count]
            filled += count
            if count < len(block):
                self._queue.appendleft(block[count:])
        if turned:
            rising = np.linspace(0, 1, fade, dtype=np.float32)[:, None]
            answer[:fade] *= rising[::-1] if paused else rising
        self._queued -= filled
        self.delivered += filled
        if not (self._ending or paused):
            self.missing += wanted - filled
        return answer


@contextmanager
def _silent_stderr() -> Generator[None, None, None]:
    """Drop what is written to standard error by libraries in C."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _import_miniaudio() -> ModuleType:
    try:
        return import_module("miniaudio")
    except ModuleNotFoundError:
        raise MissingExtra(
            "Expected miniaudio to be installed, which plays sound, but it is not. "
            "Install it: pip install 'auscult[listen]'."
        ) from None
