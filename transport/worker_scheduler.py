"""Which worker threads are woken, and when: the one whose audio was due first, and few at once.

Threads that are awake together wait for Python's interpreter lock together, and the event loop waits behind them.
docs/notes/waking-threads.md has what was tried and what each rule brings.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

MAX_AWAKE = 16
"""Workers that are awake at once."""
_TICK_SECONDS = 0.02
"""A worker that works longer (most take 0.2 ms) no longer counts as awake: it may wait for its client."""
_POLLS_PER_SECOND = 500
"""Of all workers together: with many sessions each polls less often, so that polls alone never fill a core."""


class WaitingQueue(Protocol):
    """A queue whose worker is to be woken."""

    @property
    def cancelled(self) -> bool:
        """Whether its worker needs nothing more."""
        ...

    def hand_over(self) -> None:
        """Give the worker what gathered, and wake it."""
        ...


class WorkerScheduler:
    """Wakes workers in the order in which their audio became due. One for all connections; on the event loop."""

    def __init__(self) -> None:
        self.queues = 0
        """Open queues."""
        self._due: deque[WaitingQueue] = deque()
        self._awake: set[WaitingQueue] = set()
        self._ticking = False

    def poll_seconds(self, seconds: float) -> float:
        """`seconds`, or more with many sessions; any thread."""
        return max(seconds, self.queues / _POLLS_PER_SECOND)

    def schedule(self, queue: WaitingQueue) -> None:
        """Call the queue's `hand_over` when fewer than `MAX_AWAKE` workers are awake."""
        self._due.append(queue)
        self._dispatch()

    def asleep(self, queue: WaitingQueue) -> None:
        """The queue's worker waits for audio, or has ended."""
        self._awake.discard(queue)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._due and len(self._awake) < MAX_AWAKE:
            queue = self._due.popleft()
            if not queue.cancelled:
                self._awake.add(queue)
                queue.hand_over()
        if self._due and not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        self._awake.clear()
        self._dispatch()
