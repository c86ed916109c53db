"""Decides which worker threads are woken and which sockets are read, and when, for all connections.

Threads that are awake at once compete for Python's interpreter lock, and the event loop competes with them. So only a
few work at once, and each wakes the next. docs/notes/waking-threads.md has the measurements behind each rule.
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
"""Interval at which paused sockets are read.

It is also how long a worker counts as awake. Most run for 0.2 ms; one that runs longer may be waiting for its client.
"""
_BATCHING_SESSIONS = 25
"""Number of sessions from which on sockets are read on ticks, and workers wait for more audio."""
_READ_SECONDS_PER_SESSION, _MAX_READ_SECONDS = 0.001, 0.1
"""How long a socket is not read after it was read, for each session, and at most. Several messages are then read at
once."""
_EARLY_SECONDS = TICK_SECONDS / 4
"""How much earlier a socket may be read than its pause ends. Sockets are read a little after a tick. Audio that comes
every 40 ms would otherwise be read at every third tick, and not at every second."""


class WaitingQueue(Protocol):
    """A queue whose worker is to be woken."""

    @property
    def cancelled(self) -> bool:
        """Whether its worker need not be woken any more."""
        ...

    @property
    def seconds_until_due(self) -> float:
        """Seconds of audio that must still be read before its worker is due."""
        ...

    @property
    def may_end_utterance(self) -> bool:
        """Whether an utterance may end in the audio that was read. Its worker is woken before others."""
        ...

    def wake(self) -> None:
        """Wake the worker; any thread."""
        ...


class WorkerScheduler:
    """Wakes workers in the order in which their audio became due, but first those whose utterance may end.

    Any thread may call `worker_sleeps`, only the event loop the rest.
    """

    def __init__(self) -> None:
        self.queues = 0
        """Open queues."""
        self._lock = threading.Lock()
        """Guards `_due`, `_ends_due` and `_awake`."""
        self._due: deque[WaitingQueue] = deque()
        self._ends_due: deque[WaitingQueue] = deque()
        """Those whose utterance may end."""
        self._awake: dict[WaitingQueue, float] = {}
        """Queues whose worker is awake -> since when, monotonic seconds."""
        self._paused_sockets: list[tuple[float, WaitingQueue, Callable[[], None]]] = []
        """Sockets that are not read now: since when (monotonic seconds), its queue, and the function that resumes."""
        self._ticking = self._stopped = False

    @property
    def batches(self) -> bool:
        """Whether there are so many sessions that workers wait for more audio, and sockets are read on ticks.

        Any thread may ask.
        """
        return self.queues >= _BATCHING_SESSIONS and not self._stopped

    def schedule(self, queue: WaitingQueue) -> None:
        """Wake the queue's worker as soon as fewer than `MAX_AWAKE` are awake."""
        with self._lock:
            (self._ends_due if queue.may_end_utterance else self._due).append(queue)
        self._wake_next()
        self._tick_later()

    def worker_sleeps(self, queue: WaitingQueue) -> None:
        """The queue's worker has begun to wait, or has ended; any thread."""
        with self._lock:
            self._awake.pop(queue, None)
        self._wake_next()

    def read_later(self, queue: WaitingQueue, resume: Callable[[], None]) -> None:
        """Call `resume`, which reads a socket: at once, or with many sessions on a tick before its audio is due."""
        if not self.batches:
            resume()
            return
        self._paused_sockets.append((time.monotonic(), queue, resume))
        self._tick_later()

    def read_at_once(self) -> None:
        """Read all paused sockets now, and pause none any more: the server drains."""
        self._stopped = True
        self._read(float("inf"))

    def _wake_next(self) -> None:
        while True:
            with self._lock:
                due = self._ends_due or self._due
                if not due or len(self._awake) >= MAX_AWAKE:
                    return
                queue = due.popleft()
                if queue.cancelled:
                    continue
                self._awake[queue] = time.monotonic()
            queue.wake()

    def _tick_later(self) -> None:
        if not self._ticking and (self._ends_due or self._due or self._paused_sockets):
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
        unread, self._paused_sockets = self._paused_sockets, []
        for each in unread:
            since, queue, resume = each
            if now - since >= min(longest, queue.seconds_until_due) - _EARLY_SECONDS:
                resume()
            else:
                self._paused_sockets.append(each)
