"""When each sample of a connection arrived, so that a late worker cannot hide its lateness."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from inference.segmenter import CUT_SEARCH_MS
from protocol.pcm import BYTES_PER_SAMPLE, samples_of

_MEMORY = samples_of(CUT_SEARCH_MS + 1_000) * BYTES_PER_SAMPLE
"""Bytes; the furthest back anyone asks is to where a too long utterance was cut."""
_MOST_ENTRIES = 100
"""Messages that came together beyond this number count as arrived with the last, so that tiny ones cost no memory."""


@dataclass(frozen=True, slots=True)
class _Together:
    """Messages that came one after another."""

    offset: int
    """Bytes of the connection before the first."""
    lengths: Sequence[int]
    """Bytes of each."""
    arrivals: Sequence[float]
    """Monotonic seconds, of each."""


class Arrivals:
    """Maps sample positions to arrival times for the last 6 s. Used by one thread."""

    def __init__(self) -> None:
        self._noted: deque[_Together] = deque([_Together(0, [0], [0.0])])

    def note(self, offset: int, chunks: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """These messages, of which the first starts at byte `offset`, arrived then, monotonic seconds."""
        noted = self._noted
        # Counted to these messages' beginning: however long they are, those before may not have been heard yet.
        while len(noted) > 1 and noted[1].offset < offset - _MEMORY:
            noted.popleft()
        lengths = list(map(len, chunks))
        if len(lengths) > _MOST_ENTRIES:
            lengths, arrivals = [sum(lengths)], arrivals[-1:]
        noted.append(_Together(offset, lengths, arrivals))

    def of(self, position: int) -> float:
        """When all samples before `position` had arrived, monotonic seconds."""
        arrived = self._noted[-1].arrivals[-1]
        for together in reversed(self._noted):
            end = together.offset + sum(together.lengths)
            for length, when in zip(reversed(together.lengths), reversed(together.arrivals), strict=True):
                if end // BYTES_PER_SAMPLE < position:
                    return arrived
                arrived, end = when, end - length
        return arrived
