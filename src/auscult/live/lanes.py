"""Lanes: the threads that read runs, so that the event loop never waits for a disk."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")


class Lanes:
    """Two threads for what is quick (new rows, the listing), one for what may take seconds (pages, zooming)."""

    def __init__(self) -> None:
        self._quick = ThreadPoolExecutor(2, "auscult-quick")
        self._slow = ThreadPoolExecutor(1, "auscult-slow")

    async def quick(
        self, call: Callable[Arguments, Made], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Made:
        """What a call returns that takes milliseconds."""
        return await asyncio.get_running_loop().run_in_executor(self._quick, lambda: call(*arguments, **named))

    async def slow(
        self, call: Callable[Arguments, Made], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Made:
        """What a call returns that may take seconds; one at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._slow, lambda: call(*arguments, **named))

    def close(self) -> None:
        """Begin nothing more."""
        for each in (self._quick, self._slow):
            each.shutdown(wait=False, cancel_futures=True)
