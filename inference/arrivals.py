"""When each sample of a connection arrived, so that a late worker cannot hide its lateness."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from inference.segmenter import CUT_SEARCH_MS
from protocol.pcm import BYTES_PER_SAMPLE, samples_of

_MEMORY = samples_of(CUT_SEARCH_MS + 1_000)
"""The furthest back anyone asks is to where a too long utterance was cut."""
_MOST_ENTRIES = 100
"""Messages that came together beyond this number count as arrived with the last, so that tiny ones cost no memory."""


@dataclass(frozen=True, slots=True)
class _Together:
    """Messages that came one after another."""

    end: int
    """Sample before which all of them end."""
    ends: Sequence[int]
    """Bytes of the connection before which each ends."""
    arrivals: Sequence[float]
    """Monotonic seconds, of each."""


class Arrivals:
    """Maps sample positions to arrival times for the last 6 s. Used by one thread."""

    def __init__(self) -> None:
        self._noted: deque[_Together] = deque([_Together(0, [0], [0.0])])

    def note(self, offset: int, chunks: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """These messages, of which the first starts at byte `offset`, arrived then, monotonic seconds."""
        # Counted from the messages before these: however long these are, those may not have been heard yet.
        while self._noted[0].end < self._noted[-1].end - _MEMORY:
            self._noted.popleft()
        ends = list(accumulate(map(len, chunks), initial=offset))[1:]
        if len(ends) > _MOST_ENTRIES:
            ends, arrivals = ends[-1:], arrivals[-1:]
        self._noted.append(_Together(ends[-1] // BYTES_PER_SAMPLE, ends, arrivals))

    def of(self, position: int) -> float:
        """When all samples before `position` had arrived, monotonic seconds."""
        arrived = self._noted[-1].arrivals[-1]
        for together in reversed(self._noted):
            for end, when in zip(reversed(together.ends), reversed(together.arrivals), strict=True):
                if end // BYTES_PER_SAMPLE < position:
                    return arrived
                arrived = when
        return arrived
