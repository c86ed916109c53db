"""Limits how often something happens, for one connection or for all. Pure: the caller tells the time."""

from __future__ import annotations


class RateLimit:
    """Permits at most `limit` actions in each window of `seconds`. Used by one thread."""

    def __init__(self, limit: int, seconds: float = 1.0) -> None:
        self._limit = limit
        self._seconds = seconds
        self._since = 0.0
        self._taken = 0

    def take(self, now: float) -> bool:
        """Whether one more action is permitted at `now`, in monotonic seconds; it is counted in any case."""
        if now - self._since >= self._seconds:
            self._since, self._taken = now, 0
        self._taken += 1
        return self._taken <= self._limit
