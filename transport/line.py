"""Workers of a crowd that have something to hear, woken one after another, the most urgent first.

Threads that are woken together wait for the interpreter's lock together: each wakes up to find it taken, several times
over, and the event loop queues behind all of them. A worker that is done wakes the next one instead.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
import time
from collections.abc import Callable

TURN_SECONDS = 0.02
"""A turn that lasts longer is lost: its worker waits for its client, or its engine. Whoever asks next lets another in.

Most take 0.2 ms.
"""

Wake = Callable[[], bool]
"""Wakes a worker for its turn; False: it needs none any more. Never waits or raises."""


class Line:
    """Who waits for a turn. `line_up` is for the event loop, `next` for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Guards all that follows but the last."""
        self._waiting: list[tuple[float, int, Wake]] = []
        """A heap."""
        self._numbers = itertools.count()
        self._turn: Wake | None = None
        """Whose turn it is."""
        self._turn_ends = 0.0
        """When it is taken for lost, monotonic seconds."""
        self._begins = False

    def line_up(self, deadline: float, wake: Wake) -> None:
        """Call `wake` in its turn: the earliest `deadline` (monotonic seconds) first."""
        with self._lock:
            heapq.heappush(self._waiting, (deadline, next(self._numbers), wake))
        if not self._begins:
            self._begins = True
            # After all others that are read in this pass of the loop have lined up.
            asyncio.get_running_loop().call_soon(self._begin)

    def next(self, done: Wake | None = None) -> None:
        """Wake the first in line, unless somebody else has a turn; `done`: its own, if it had one, is over."""
        while (wake := self._first(done)) is not None and not wake():
            done = wake

    def _first(self, done: Wake | None) -> Wake | None:
        with self._lock:
            if done == self._turn:
                self._turn = None
            now = time.monotonic()
            if not self._waiting or (self._turn is not None and now < self._turn_ends):
                return None
            self._turn = heapq.heappop(self._waiting)[2]
            self._turn_ends = now + TURN_SECONDS
            return self._turn

    def _begin(self) -> None:
        self._begins = False
        self.next()
