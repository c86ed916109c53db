"""Limits the rate of messages that the dialect does not know."""

from __future__ import annotations

from protocol.errors import BadRequest

MAX_PER_SECOND = 200
"""Unknown messages allowed in a second. Gateways that wrap audio in text send 50."""


class MessageFlood:
    """Counts one connection's unknown messages. Used on the event loop."""

    def __init__(self) -> None:
        self.total = 0
        self._second = 0.0
        self._in_second = 0

    def count(self, now: float) -> int:
        """Count one more at `now`, monotonic seconds; how many there are.

        Raises:
            BadRequest: there are too many in one second.
        """
        if now - self._second >= 1.0:
            self._second, self._in_second = now, 0
        self.total += 1
        self._in_second += 1
        if self._in_second > MAX_PER_SECOND:
            raise BadRequest(f"flood: more than {MAX_PER_SECOND} unknown messages in a second")
        return self.total
