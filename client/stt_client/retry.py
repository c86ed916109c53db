"""When to connect again, and when to stop trying: pure decisions."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

NO_CLOSE_FRAME = 1006
SERVER_FAILED = 1011
RETRIED_CODES = frozenset({NO_CLOSE_FRAME, SERVER_FAILED, 1012, 1013})
"""Close codes after which the same stream may succeed."""
RETRIED_STATUSES = frozenset({502, 503, 504})
"""HTTP answers after which the same request may succeed."""
MAX_FAILURES = 3
"""Times that 1011 is retried within `FAILURE_SECONDS`: the stream itself may be what the server fails on."""
FAILURE_SECONDS = 60.0
FIRST_DELAY = 0.25
"""Seconds before the second attempt; the first is made at once. Each is twice the one before, less a random half."""
LONGEST_DELAY = 8.0
STEADY_SECONDS = 5.0
"""After a connection that lasted so long the delays start from the beginning."""


class RetrySchedule:
    """The attempts of one stream. Times are monotonic seconds, given by the caller."""

    def __init__(
        self,
        now: float,
        connect_seconds: float,
        reconnect_seconds: float,
        fraction: Callable[[], float] = random.random,
    ) -> None:
        self._reconnect_seconds = reconnect_seconds
        self._deadline = now + connect_seconds
        self._fraction = fraction
        self._attempts = 0
        """Attempts since the connection was last steady."""
        self._taken_at: float | None = None
        self._failures: deque[float] = deque(maxlen=MAX_FAILURES)

    def remaining(self, now: float) -> float:
        """Seconds until the stream fails if no server takes it."""
        return max(0.0, self._deadline - now)

    def taken(self, now: float) -> None:
        """A server has taken the stream."""
        self._taken_at = now

    def closed(self, code: int, now: float) -> float | None:
        """Seconds to wait after a close, or None: connect no more."""
        if code not in RETRIED_CODES or (code == SERVER_FAILED and not self._may_fail(now)):
            return None
        if self._taken_at is not None:
            self._deadline = now + self._reconnect_seconds
            if now - self._taken_at >= STEADY_SECONDS:
                self._attempts = 0
            self._taken_at = None
        return self._delay(now)

    def refused(self, status: int | None, retry_after: float | None, now: float) -> float | None:
        """Seconds to wait after an attempt that failed, or None: connect no more.

        `status`: the HTTP answer; None: there was none. `retry_after`: what it asked for, in seconds.
        """
        if status is not None and status not in RETRIED_STATUSES:
            return None
        self._attempts = max(self._attempts, 1)
        delay = self._delay(now)
        if delay is None or retry_after is None:
            return delay
        return None if now + retry_after > self._deadline else max(delay, retry_after)

    def _delay(self, now: float) -> float | None:
        if now >= self._deadline:
            return None
        self._attempts += 1
        if self._attempts == 1:
            return 0.0
        longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (self._attempts - 2))
        return min(longest * (1 - self._fraction() / 2), self._deadline - now)

    def _may_fail(self, now: float) -> bool:
        if len(self._failures) == MAX_FAILURES and now - self._failures[0] < FAILURE_SECONDS:
            return False
        self._failures.append(now)
        return True
