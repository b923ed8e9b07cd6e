"""Broadcast: server-sent events that are made once and read by any number of viewers, each at its own pace."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

KEPT = 128
BEAT_S = 10.0


def event(name: str, data: Mapping[str, Any], mark: str = "") -> bytes:
    """One event as it goes over the wire; JSON has no line breaks of its own.

    Args:
        name: Its kind.
        data: What it says.
        mark: What a viewer hands back when it connects again; "" leaves that as it was.
    """
    head = f"id: {mark}\n" if mark else ""
    return f"{head}event: {name}\ndata: {as_json(data)}\n\n".encode()


def as_json(data: Mapping[str, Any]) -> str:
    """Data as strict JSON in one line of ASCII."""
    return json.dumps(data, allow_nan=False, separators=(",", ":"))


BEAT = event("beat", {})
"""Sent when there is nothing to tell, so that both ends notice a connection that is gone."""

ANEW = event("anew", {})
"""Tells a viewer to load everything again."""


class Broadcast:
    """The last events, in order."""

    def __init__(self) -> None:
        self._kept: deque[bytes] = deque(maxlen=KEPT)
        self._news = asyncio.Event()
        self.position = 0

    def publish(self, message: bytes) -> None:
        """Tell all viewers."""
        self._kept.append(message)
        self.position += 1
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, position: int) -> AsyncIterator[bytes]:
        """Every event from a position on, and beats in between; ends with `ANEW` for a viewer that is too slow."""
        while True:
            missed = self.position - position
            if missed > len(self._kept):
                yield ANEW
                return
            if missed:
                some = b"".join(list(self._kept)[-missed:])
                position = self.position
                yield some
                continue
            try:
                await asyncio.wait_for(self._news.wait(), BEAT_S)
            except asyncio.TimeoutError:
                yield BEAT
