"""A bound of what long messages take, of all connections of a server together."""

from __future__ import annotations

MAX_BYTES = 256 << 20
"""Of messages that are being received or read."""


class MessageMemory:
    """Counts the bytes of messages that are not read to their end. Used on the event loop."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self.bytes = 0

    def change(self, difference: int) -> bool:
        """Count so many more bytes, or fewer; whether they all fit."""
        self.bytes += difference
        return self.bytes <= self._max_bytes
