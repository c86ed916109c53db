"""A bound of the memory that many clients may use together."""

from __future__ import annotations


class ByteBudget:
    """Counts bytes in use. Used on the event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.bytes = 0

    @property
    def left(self) -> int:
        """How many more bytes fit."""
        return self._max_bytes - self.bytes

    def change(self, difference: int) -> bool:
        """Add `difference`, which may be negative, to the bytes in use; whether they all fit."""
        self.bytes += difference
        return self.bytes <= self._max_bytes
