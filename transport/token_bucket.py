"""Spreads work that many connections bring at once. Pure: the caller tells the time."""

from __future__ import annotations


class TokenBucket:
    """Permits an action at most `rate` times a second, and `burst` times at once. Used by one thread.

    A token bucket (Turner 1986, "New directions in communications"), shared by all connections.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = 0.0

    def take(self, now: float) -> bool:
        """Whether the action is permitted at `now`, in monotonic seconds; if so, it is counted."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
