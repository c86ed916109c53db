"""Measures by how much callbacks of the event loop are late. Whatever blocks the loop delays every session."""

from __future__ import annotations

import asyncio
import time
from collections import deque

CHECK_SECONDS = 0.05
"""Time between two checks. A lag is underestimated by at most this."""
WINDOW_SECONDS = 60.0
"""How long a lag is remembered: longer than Prometheus waits between two scrapes."""


class LoopLag:
    """The lag of the event loop that `watch` runs on. Every `now` is monotonic seconds. Used on the event loop."""

    def __init__(self, now: float) -> None:
        self._due = now + CHECK_SECONDS
        self._blocked_seconds = 0.0
        self._lags: deque[tuple[float, float]] = deque()
        """(time, seconds) of lags. Each is longer than all after it, so the first is the longest."""

    async def watch(self) -> None:
        """Check until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.check(time.monotonic())

    def check(self, now: float) -> None:
        """Record a check that was due `CHECK_SECONDS` after the previous one."""
        lag = now - self._due
        while self._lags and self._lags[-1][1] <= lag:
            self._lags.pop()
        self._lags.append((now, lag))
        self._blocked_seconds += max(0.0, lag)
        self._due = now + CHECK_SECONDS

    def longest(self, now: float) -> float:
        """The longest lag of the last minute, in seconds. A check that is overdue now counts."""
        while self._lags and now - self._lags[0][0] > WINDOW_SECONDS:
            self._lags.popleft()
        longest = self._lags[0][1] if self._lags else 0.0
        return max(0.0, longest, now - self._due)

    def blocked_seconds(self, now: float) -> float:
        """Sum of all lags until now, in seconds. It only grows."""
        return self._blocked_seconds + max(0.0, now - self._due)
