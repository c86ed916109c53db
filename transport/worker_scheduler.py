"""Scheduler of all connections: which worker threads are woken, which sockets are read, and when.

Threads that are awake together wait for Python's interpreter lock together, and the event loop waits behind them: so
few work at once, and each wakes the next. What each rule brings is in docs/notes/waking-threads.md.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

MAX_AWAKE = 2
"""Workers that are awake at once."""
TICK_SECONDS = 0.02
"""Sockets are read again on a tick. A worker that works for longer than a tick (most take 0.2 ms) no longer counts as
awake: it may wait for its client."""
_MANY = 25
"""Sessions from which on sockets are read on ticks, and workers poll less often."""
_READ_SECONDS_PER_SESSION, _MAX_READ_SECONDS = 0.0008, 0.08
"""With many sessions a socket is read again after so long, so that its messages are read together."""
_POLL_SECONDS_PER_SESSION, _MAX_POLL_SECONDS = 0.004, 0.4
"""With many sessions a worker polls for so much new audio, if it polled for less."""


class WaitingQueue(Protocol):
    """A queue whose worker is to be woken."""

    @property
    def cancelled(self) -> bool:
        """Whether its worker needs nothing more."""
        ...

    @property
    def seconds_until_due(self) -> float:
        """Length of the audio that its worker waits for, and that has not been read."""
        ...

    def wake(self) -> None:
        """Wake the worker; any thread."""
        ...


class WorkerScheduler:
    """Wakes workers in the order in which their audio became due.

    Any thread may call `asleep`, only the event loop the rest.
    """

    def __init__(self) -> None:
        self.queues = 0
        """Open queues."""
        self._lock = threading.Lock()
        """Guards `_due` and `_awake`."""
        self._due: deque[WaitingQueue] = deque()
        self._awake: dict[WaitingQueue, float] = {}
        """Since when, monotonic seconds."""
        self._unread: list[tuple[float, WaitingQueue, Callable[[], None]]] = []
        """When each socket was read, monotonic seconds, and what reads it again."""
        self._ticking = self._stopped = False

    def poll_seconds(self, seconds: float) -> float:
        """`seconds`, or more with many sessions; any thread."""
        return max(seconds, min(self.queues * _POLL_SECONDS_PER_SESSION, _MAX_POLL_SECONDS))

    def schedule(self, queue: WaitingQueue) -> None:
        """Wake the queue's worker when fewer than `MAX_AWAKE` are awake."""
        with self._lock:
            self._due.append(queue)
        self._wake_next()
        self._tick_later()

    def asleep(self, queue: WaitingQueue) -> None:
        """The queue's worker waits for audio, or has ended; any thread."""
        with self._lock:
            self._awake.pop(queue, None)
        self._wake_next()

    def read_later(self, queue: WaitingQueue, resume: Callable[[], None]) -> None:
        """Call `resume` at once; with many sessions on a tick, no later than the worker needs what will be there."""
        if self.queues < _MANY or self._stopped:
            resume()
            return
        self._unread.append((time.monotonic(), queue, resume))
        self._tick_later()

    def read_all(self) -> None:
        """Read all sockets, from now on as messages come: the server drains."""
        self._stopped = True
        self._read(float("inf"))

    def _wake_next(self) -> None:
        while True:
            with self._lock:
                if not self._due or len(self._awake) >= MAX_AWAKE:
                    return
                queue = self._due.popleft()
                if queue.cancelled:
                    continue
                self._awake[queue] = time.monotonic()
            queue.wake()

    def _tick_later(self) -> None:
        if not self._ticking and (self._due or self._unread):
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        now = time.monotonic()
        with self._lock:
            self._awake = {queue: since for queue, since in self._awake.items() if now - since < TICK_SECONDS}
        self._wake_next()
        self._read(now)
        self._tick_later()

    def _read(self, now: float) -> None:
        longest = min(self.queues * _READ_SECONDS_PER_SESSION, _MAX_READ_SECONDS)
        unread, self._unread = self._unread, []
        for each in unread:
            since, queue, resume = each
            if now - since >= min(longest, queue.seconds_until_due):
                resume()
            else:
                self._unread.append(each)
