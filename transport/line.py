"""Workers of a crowd that have something to hear, woken one after another, the most urgent first.

Threads that are woken together wait for the interpreter's lock together: each wakes up to find it taken, several times
over, and the event loop queues behind all of them. A worker that is done wakes the next one instead.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable


class Line:
    """Who waits for a turn. `line_up` is for the event loop, `next` for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Guards the two below."""
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        """A heap."""
        self._numbers = itertools.count()
        self._begins = False

    def line_up(self, deadline: float, wake: Callable[[], None]) -> None:
        """Call `wake`, which never waits or raises, in its turn: the earliest `deadline` (monotonic seconds) first."""
        with self._lock:
            heapq.heappush(self._waiting, (deadline, next(self._numbers), wake))
        if not self._begins:
            self._begins = True
            # After all others that are read in this pass of the loop have lined up.
            asyncio.get_running_loop().call_soon(self._begin)

    def next(self) -> None:
        """Wake the first in line. A worker that has had its turn calls it, woken from here or not.

        One that does not come back, because it waits for its client, is no loss: whoever lines up next begins anew.
        """
        if not self._waiting:  # read without the lock: who lines up at this moment begins anew
            return
        with self._lock:
            wake = heapq.heappop(self._waiting)[2] if self._waiting else None
        if wake is not None:
            wake()

    def _begin(self) -> None:
        self._begins = False
        self.next()
