"""When each sample of a session arrived, so that `latency_ms` counts a late worker's delay."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from inference.segmenter import CUT_SEARCH_MS
from protocol.pcm import BYTES_PER_SAMPLE, samples_of

_MEMORY = samples_of(CUT_SEARCH_MS + 1_000) * BYTES_PER_SAMPLE
"""Bytes; the furthest back anyone asks is to where a too long utterance was cut."""
_MOST_ENTRIES = 100
"""Messages that came together beyond this number count as arrived with the last, so that tiny ones cost no memory."""
_FORGET = 64
"""Messages that are forgotten at once, at least."""


class ArrivalTimes:
    """Maps sample positions to arrival times for the last 6 s. Used by one thread."""

    def __init__(self) -> None:
        # Arrays, as Python's search for cycles walks over all that are objects, and everybody waits for it.
        self._ends = array("q", [0])
        """Bytes of the connection up to each message's end."""
        self._times = array("d", [0.0])
        """Arrival of each, monotonic seconds."""

    def record(self, offset: int, chunks: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """These messages, of which the first starts at byte `offset`, arrived then, monotonic seconds."""
        # Counted to these messages' beginning: however long they are, those before may not have been heard yet.
        old = bisect_left(self._ends, offset - _MEMORY)
        if old >= _FORGET:
            del self._ends[:old], self._times[:old]
        lengths = list(map(len, chunks))
        if len(lengths) > _MOST_ENTRIES:
            lengths, arrivals = [sum(lengths)], arrivals[-1:]
        lengths[0] += offset
        self._ends.extend(accumulate(lengths))
        self._times.extend(arrivals)

    def at_sample(self, position: int) -> float:
        """When all samples before `position` had arrived, monotonic seconds."""
        message = bisect_left(self._ends, position * BYTES_PER_SAMPLE)
        return self._times[min(message, len(self._times) - 1)]
