"""When the sockets of a crowd are read: a while after the last time, many at once, on one ring.

Most of what a message costs is getting to it: a system call, a wake-up of the event loop, cold caches. Messages that
lie in the system's buffer until the next ring are read together, for one such price.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

RING_SECONDS = 0.02
"""Between two rings. An endpoint may be noticed two of them late: its frame may just have missed one."""
REST_SECONDS = 0.08
"""For so long, and until the next ring, a socket is left unread unless its worker needs what is in it sooner."""


_PASSES = 4
"""Of the event loop, in which what a socket holds reaches its connection: read, queued, taken, and one to spare."""


class Resting(Protocol):
    """A connection whose socket is left unread."""

    def rings(self, now: float) -> bool:
        """Hear a ring at `now`, monotonic seconds; whether it was the last one needed. Never raises."""
        ...


class Bell:
    """Rings while anybody rests. Used on the event loop, but for `crowded`, which any thread may ask."""

    def __init__(self, crowded: Callable[[], bool] = lambda: False) -> None:
        """`crowded` says whether so many sessions are open that their messages are worth gathering; any thread."""
        self._crowded = crowded
        self._resting: list[Resting] = []
        self._stopped = False

    def crowded(self) -> bool:
        """Whether sockets are to rest, and workers to have turns."""
        return not self._stopped and self._crowded()

    def rest(self, resting: Resting) -> None:
        """Let it hear each ring until it needs no more."""
        if not self._resting:
            self._wait()
        self._resting.append(resting)

    async def stop(self) -> None:
        """Let nobody rest any more: on return, what came before and fits one read is with its connection."""
        self._stopped = True
        self._tell()
        for _ in range(_PASSES):
            await asyncio.sleep(0)

    def _wait(self) -> None:
        asyncio.get_running_loop().call_later(RING_SECONDS, self._ring)

    def _ring(self) -> None:
        try:
            self._tell()
        finally:  # a ring that failed must not be the last: all sockets would stay unread
            if self._resting:
                self._wait()

    def _tell(self) -> None:
        now = time.monotonic()
        self._resting = [each for each in self._resting if not each.rings(now)]
