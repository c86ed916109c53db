"""When each sample of a connection arrived, so that a late worker cannot hide its lateness."""

from __future__ import annotations

from collections import deque

from inference.segmenter import CUT_SEARCH_MS
from protocol.pcm import samples_of

_GRAIN = samples_of(10)
"""Messages shorter than 10 ms share an entry, the newest arrival winning, so that tiny ones cost no memory."""
_MEMORY = samples_of(CUT_SEARCH_MS + 1_000)
"""The furthest back anyone asks is to where a too long utterance was cut."""


class Arrivals:
    """Maps sample positions to arrival times for the last 6 s. Used by one thread."""

    def __init__(self) -> None:
        self._entries: deque[tuple[int, float]] = deque([(0, 0.0)])

    def note(self, end: int, arrived: float) -> None:
        """The samples up to `end` had arrived at `arrived`, monotonic seconds."""
        # Counted from the entry before this one: however long this message is, what came before it may not have been
        # heard yet.
        while self._entries[0][0] < self._entries[-1][0] - _MEMORY:
            self._entries.popleft()
        before = self._entries[-2][0] if len(self._entries) > 1 else 0
        if end - before < _GRAIN:
            self._entries.pop()
        self._entries.append((end, arrived))

    def of(self, position: int) -> float:
        """When all samples before `position` had arrived, monotonic seconds."""
        arrived = self._entries[-1][1]
        for end, when in reversed(self._entries):
            if end < position:
                break
            arrived = when
        return arrived
