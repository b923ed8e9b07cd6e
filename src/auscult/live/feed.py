"""Feed: what the viewers of one run are told while it goes on: new points, its condition, and when its page is new."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from auscult.core.version import __version__
from auscult.live.broadcast import ANEW, Broadcast, event
from auscult.live.follower import Follower, Unreadable
from auscult.live.lanes import Lanes
from auscult.live.mark import Mark
from auscult.live.rendering import Rendering

Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")

TICK_S = 0.25
SLOWEST_S = 2.0
LOOK_SHARE = 0.1
"""Of one core: the most that looking at a run may take; a run that takes longer is looked at less often."""

PAGE_S = 5.0
PAGE_SHARE = 0.05
URGENT_SHARE = 0.25
"""The page is made anew every five seconds, unless that took more than this share of one core; what may not wait (a new
finding, the end) gets more."""

LINGER_S = 15.0


class Feed:
    """One run and its viewers. Belongs to the event loop; whatever reads happens in lanes.

    Attributes:
        follower: The run.
        viewers: How many connections there are.

    Args:
        follower: The run.
        lanes: Where it is read.
    """

    def __init__(self, follower: Follower, lanes: Lanes) -> None:
        self.follower = follower
        self.viewers = 0
        self._lanes = lanes
        self._broadcast = Broadcast()
        self._told: Mark | None = None  # up to where viewers have been told
        self._opening = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._drawing: asyncio.Task[None] | None = None
        self._drawn = -PAGE_S  # when the page was last made
        self._stale = self._urgent = False
        self._spent = 0.0  # seconds of one core since the last look began

    @property
    def busy(self) -> bool:
        """Whether the run is being followed."""
        return self._looking is not None

    async def page(self) -> Rendering:
        """The page; what has come since then, viewers are told.

        Raises:
            Unreadable: if the run cannot be read.
        """
        if not self.busy:
            await self._lanes.quick(self.follower.look)
        made, now = self.follower.rendering, self.follower.mark
        if made is not None and now is not None and made.mark.way_to(now) != "anew":
            return made
        return await self._draw()

    async def points(self, first: int, last: int) -> list[dict[str, Any]]:
        """The points of the page's charts from one step to another.

        Raises:
            Unreadable: if the run cannot be read.
        """
        made = await self.page()
        return await self._lanes.slow(self.follower.points, made.drawn, first, last)

    async def cells(self, metric: str, first: int, last: int) -> dict[str, Any] | None:
        """The cells of a heat map of the page from one step to another; None where they would tell no more.

        Raises:
            Unreadable: if the run cannot be read.
        """
        made = await self.page()
        if metric not in made.drawn.sweeps:
            return None
        return await self._lanes.slow(self.follower.cells, made.drawn, metric, first, last)

    async def watch(self, mark: Mark | None) -> AsyncIterator[bytes]:
        """Events for one viewer, until it goes away.

        Args:
            mark: How far it has read; None for one that has nothing.
        """
        self.viewers += 1
        try:
            async with self._opening:
                if self._looking is None:
                    await self._lanes.quick(self.follower.look)
                    self._told = self.follower.mark
                    self._looking = asyncio.create_task(self._look_on())
            now, position = self._told, self._broadcast.position
            yield event("hello", {"version": __version__}) + self._condition()
            yield await self._catch_up(mark, now)
            async for message in self._broadcast.follow(position):
                yield message
        finally:
            self.viewers -= 1

    async def _catch_up(self, mark: Mark | None, now: Mark | None) -> bytes:
        """What a viewer has missed."""
        if now is None:
            return b""
        way = "anew" if mark is None else mark.way_to(now)
        if way == "on" and mark is not None:
            try:
                made = await self.page()
                return await self._points(made, mark, now)
            except Unreadable:
                return b""
        return b"" if way == "here" else ANEW

    async def _look_on(self) -> None:
        """Look at the run as long as somebody is there, and a little longer for whoever loads the page again."""
        left = 0.0
        try:
            while left < LINGER_S:
                self._spent = 0.0
                await self._tick()
                pause = min(max(TICK_S, self._spent / LOOK_SHARE), SLOWEST_S)
                await asyncio.sleep(pause)
                left = left + pause if self.viewers == 0 else 0.0
        finally:
            self._looking = None

    async def _tick(self) -> None:
        follower = self.follower
        word, findings = follower.condition.word, follower.findings_told
        self._stale = await self._read(follower.look) or self._stale
        if follower.condition.word != word:
            self._urgent = True
            self._broadcast.publish(self._condition())
        self._urgent = self._urgent or follower.findings_told != findings
        await self._tell_points()
        if self._stale and self._drawing is None and self._is_due():
            self._stale = self._urgent = False
            self._drawing = asyncio.create_task(self._draw_again())

    async def _tell_points(self) -> None:
        before, now, made = self._told, self.follower.mark, self.follower.rendering
        if now is None or now == before:
            return
        message = ANEW
        if before is None or made is None or before.way_to(now) == "anew":
            self._urgent = True
        else:
            with suppress(Unreadable):
                message = await self._points(made, before, now)
        self._told = now  # at once with the message: who comes before is told by it, who comes later by the mark
        self._broadcast.publish(message)

    async def _points(self, made: Rendering, before: Mark, now: Mark) -> bytes:
        charts = await self._read(self.follower.points, made.drawn, before.step + 1, now.step)
        return event("points", {"first": before.step + 1, "last": now.step, "charts": charts}, str(now))

    async def _read(
        self, call: Callable[Arguments, Made], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Made:
        """What a quick call returns, whose processor time is counted."""

        def timed() -> tuple[Made, float]:
            began = time.thread_time()
            return call(*arguments, **named), time.thread_time() - began

        made, took = await self._lanes.quick(timed)
        self._spent += took
        return made

    def _is_due(self) -> bool:
        made = self.follower.rendering
        if made is None:
            return self.viewers > 0
        if self._urgent:
            return time.monotonic() - self._drawn >= made.took / URGENT_SHARE
        return time.monotonic() - self._drawn >= max(PAGE_S, made.took / PAGE_SHARE)

    async def _draw_again(self) -> None:
        try:
            made = await self._draw()
            self._broadcast.publish(event("page", {"mark": str(made.mark)}))
        except Unreadable:
            pass  # the condition says so
        finally:
            self._drawing = None

    async def _draw(self) -> Rendering:
        try:
            return await self._lanes.slow(self.follower.render)
        finally:
            self._drawn = time.monotonic()

    def _condition(self) -> bytes:
        state = self.follower.condition
        return event("condition", {"word": state.word, "reason": state.reason, "step": self.follower.last_step})
