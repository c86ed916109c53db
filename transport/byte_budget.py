"""A bound of what many clients together may have the server keep."""

from __future__ import annotations


class ByteBudget:
    """Counts bytes that are kept. Used on the event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.bytes = 0

    @property
    def left(self) -> int:
        """How many more bytes fit."""
        return self._max_bytes - self.bytes

    def change(self, difference: int) -> bool:
        """Count so many more bytes, or fewer; whether they all fit."""
        self.bytes += difference
        return self.bytes <= self._max_bytes
