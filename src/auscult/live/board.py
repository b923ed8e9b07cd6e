"""Board: the listing while it changes: every run of a directory by id, and what viewers of the listing are told."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from auscult.core.version import __version__
from auscult.live.broadcast import Broadcast, event
from auscult.live.feed import Feed
from auscult.live.follower import Follower
from auscult.live.lanes import Lanes
from auscult.live.listing import list_entries
from auscult.live.summary import Summary, summarise

TICK_S = 1.0
SCAN_S = 2.0
SLOWEST_S = 5.0
LOOK_SHARE = 0.02
"""Of one core: what looking at all runs may take; where it takes more they are looked at less often, but every 5 s."""

FIND_SHARE = 0.1
"""Likewise for looking for a run that is not known, as one that has just begun."""

JUDGE_SHARE = 0.1
"""Likewise for asking the rules about runs at which nobody looks, one at a time; but for a minute it rests at most."""

LONGEST_REST_S = 60.0

LINGER_S = 15.0
AT_ONCE = 20
MAX_PAGES = 16
"""Runs without a viewer whose pages are kept."""


class Board:
    """All runs of a directory. Belongs to the event loop; whatever reads happens in lanes.

    Attributes:
        feeds: The runs by id, sorted by place.
        viewers: How many connections to the listing there are.

    Args:
        root: The directory, resolved.
        lanes: Where it is read.
    """

    def __init__(self, root: Path, lanes: Lanes) -> None:
        self.feeds: dict[str, Feed] = {}
        self.viewers = 0
        self._root = root
        self._lanes = lanes
        self._broadcast = Broadcast()
        self._told: dict[str, Summary] = {}
        self._looking: asyncio.Task[None] | None = None
        self._judging: asyncio.Task[None] | None = None
        self._judged: dict[str, float] = {}  # when each run was last judged
        self._scanning = asyncio.Lock()
        self._scanned = -SCAN_S
        self._scan_took = 0.0

    async def find(self, digits: str) -> Feed | None:
        """The run with an id; None if there is none."""
        if digits not in self.feeds:
            await self._scan(self._scan_took / FIND_SHARE)
        return self.feeds.get(digits)

    async def watch(self) -> AsyncIterator[bytes]:
        """Events for one viewer of the listing, until it goes away: all runs at first, then those that change."""
        self.viewers += 1
        try:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look_on())
            yield event("hello", {"version": __version__, "now": time.time()})
            position = self._broadcast.position
            runs = [each.to_dict() for each in self._told.values()]
            yield event("runs", {"all": True, "now": time.time(), "runs": runs, "gone": []})
            async for message in self._broadcast.follow(position):
                yield message
        finally:
            self.viewers -= 1

    async def _look_on(self) -> None:
        left = 0.0
        try:
            while left < LINGER_S:
                began = time.monotonic()
                await self._tick()
                pause = min(max(TICK_S, (time.monotonic() - began) / LOOK_SHARE), SLOWEST_S)
                await asyncio.sleep(pause)
                left = left + pause if self.viewers == 0 else 0.0
        finally:
            self._looking = None

    async def _tick(self) -> None:
        await self._scan(min(max(SCAN_S, self._scan_took / LOOK_SHARE), SLOWEST_S))
        changed: list[Summary] = []
        for feed in tuple(self.feeds.values()):
            if not feed.busy:
                await self._lanes.quick(_look_briefly, feed.follower)
            now = summarise(feed.follower)
            if now != self._told.get(now.id) and now.id in self.feeds:
                self._told[now.id] = now
                changed.append(now)
            if len(changed) == AT_ONCE:
                self._tell(changed, [])
                changed = []
        if changed:
            self._tell(changed, [])
        self._release()
        if self._judging is None:
            self._judging = asyncio.create_task(self._judge_one())

    async def _judge_one(self) -> None:
        """Ask the rules about the run of which that was longest ago, then rest."""
        began = time.monotonic()
        waiting = [digits for digits, feed in self.feeds.items() if not (feed.busy or feed.follower.is_judged)]
        try:
            if waiting:
                digits = min(waiting, key=lambda each: self._judged.get(each, 0.0))
                self._judged[digits] = began
                took = await self._lanes.slow(_judge_briefly, self.feeds[digits].follower)
                await asyncio.sleep(min(max(TICK_S / AT_ONCE, took / JUDGE_SHARE), LONGEST_REST_S))
        finally:
            self._judging = None

    def _tell(self, changed: list[Summary], gone: list[str]) -> None:
        runs = [each.to_dict() for each in changed]
        self._broadcast.publish(event("runs", {"all": False, "now": time.time(), "runs": runs, "gone": gone}))

    async def _scan(self, pause: float) -> None:
        """Look for runs, unless that was done less than a pause ago, in seconds."""
        async with self._scanning:  # what is being found is waited for
            if time.monotonic() - self._scanned < pause:
                return
            began = self._scanned = time.monotonic()
            entries = await self._lanes.quick(list_entries, self._root)
            self._scan_took = time.monotonic() - began
            before = self.feeds
            self.feeds = {
                digits: before.get(digits) or Feed(Follower(self._root, entry), self._lanes)
                for digits, entry in entries.items()
            }
            gone = [digits for digits in self._told if digits not in entries]
            for digits in gone:
                del self._told[digits]
            if gone:
                self._tell([], gone)

    def _release(self) -> None:
        """Forget the pages of runs at which nobody looks, but for the last few."""
        idle = [feed for feed in self.feeds.values() if not feed.busy and feed.follower.rendering is not None]
        for feed in idle[:-MAX_PAGES]:
            feed.follower.release()


def _judge_briefly(follower: Follower) -> float:
    """Ask the rules about a run of which only the listing shows anything; returns the seconds of one core it took."""
    began = time.thread_time()
    follower.judge()
    if follower.rendering is None:
        follower.release()
    return time.thread_time() - began


def _look_briefly(follower: Follower) -> None:
    """Look at a run of which only the listing shows anything."""
    follower.look()
    if follower.rendering is None:
        follower.release()
