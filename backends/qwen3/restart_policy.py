"""How long to wait before an engine that failed is started again, and when to stop trying. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Bounds of restarts. A failure is the death of an engine or a restart that did not succeed."""

    first_delay: float = 1.0
    """Seconds before the first restart; twice as long after each further failure."""
    max_delay: float = 30.0
    """Longest delay in seconds."""
    max_failures: int = 5
    """So many failures within `window_seconds` are the last."""
    window_seconds: float = 900.0
    """Failures longer ago do not count."""


DEFAULT_POLICY = RestartPolicy()


class FailureHistory:
    """Recent failures. Not thread-safe."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._failures: deque[float] = deque()

    def record(self, now: float) -> float | None:
        """Count a failure at `now` (monotonic seconds); the delay in seconds before the restart, None: give up."""
        self._failures.append(now)
        while now - self._failures[0] > self._policy.window_seconds:
            self._failures.popleft()
        count = len(self._failures)
        if count >= self._policy.max_failures:
            return None
        return float(min(self._policy.first_delay * 2 ** (count - 1), self._policy.max_delay))
