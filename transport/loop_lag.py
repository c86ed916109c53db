"""How late the event loop is: whatever holds it up delays every session and every answer."""

from __future__ import annotations

import asyncio
import time
from collections import deque

CHECK_SECONDS = 0.05
"""Time between two checks; a delay is reported short by at most this."""
WINDOW_SECONDS = 60.0
"""How long a lag is remembered: longer than the time between two scrapes."""


class LoopLag:
    """The lag of the event loop that `watch` runs on. Every `now` is monotonic seconds. Used on the event loop."""

    def __init__(self, now: float) -> None:
        self._due = now + CHECK_SECONDS
        self._held_up = 0.0
        self._lags: deque[tuple[float, float]] = deque()
        """When each was noticed, and its seconds. Only those longer than all later ones: the first is the longest."""

    async def watch(self) -> None:
        """Check until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.check(time.monotonic())

    def check(self, now: float) -> None:
        """Take note of a check, which was due `CHECK_SECONDS` after the last one."""
        lag = now - self._due
        while self._lags and self._lags[-1][1] <= lag:
            self._lags.pop()
        self._lags.append((now, lag))
        self._held_up += max(0.0, lag)
        self._due = now + CHECK_SECONDS

    def longest(self, now: float) -> float:
        """The longest lag of the last minute, in seconds; that of a check that is overdue counts."""
        while self._lags and now - self._lags[0][0] > WINDOW_SECONDS:
            self._lags.popleft()
        longest = self._lags[0][1] if self._lags else 0.0
        return max(0.0, longest, now - self._due)

    def held_up(self, now: float) -> float:
        """For how many seconds the loop was held up until now, all lags together: it only grows."""
        return self._held_up + max(0.0, now - self._due)
