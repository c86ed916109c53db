"""Tells when each sample of a session arrived, so that `latency_ms` includes every delay of the server itself.

A message is stamped when the event loop reads it, which is late when the loop is blocked. But live audio is sent as it
is spoken. So the least delay between a message's time in the audio and its reading, over the last seconds, is the delay
of the client and the network. Everything above it is the server's. (The minimum filter of RTP jitter buffers and of
NTP's clock filter: RFC 5905, section 10.)
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import accumulate
from operator import add

from inference.segmenter import CUT_SEARCH_MS
from inference.worker_interfaces import AudioMessages
from protocol.pcm import BYTES_PER_SAMPLE, SAMPLE_RATE, samples_of

_KEPT_SAMPLES = samples_of(CUT_SEARCH_MS + 1_000)
"""Samples that are remembered: as far back as the point where an overlong utterance may be cut."""
_MAX_ENTRIES = 100
"""Most entries for the chunks of one record; more are merged, so that tiny messages cost no memory."""
_MIN_REMOVED = 64
"""Least number of entries that are removed at a time."""
_WINDOW_SECONDS = 5.0
"""Time over which the minimum of the delays is taken."""


class ArrivalTimes:
    """Maps sample positions to arrival times for the last 6 s. Used by one thread.

    Its entries are chunks of messages that were read together.
    """

    def __init__(self, channels: int = 1) -> None:
        self._sample_bytes = channels * BYTES_PER_SAMPLE
        """Bytes of one sample of all channels, interleaved."""
        self._bytes_per_second = SAMPLE_RATE * self._sample_bytes
        # Arrays: the garbage collector does not walk over their elements.
        self._ends = array("q", [0])
        """Bytes of the session up to each chunk's end."""
        self._sizes = array("q", [1])
        """Mean bytes of each chunk's messages."""
        self._first_ends = array("q", [0])
        """Bytes of the session up to the end of each chunk's first message."""
        self._reads = array("d", [0.0])
        """When each chunk was read, monotonic seconds."""
        self._live = array("b", [False])
        """Whether the client was live, not ahead of real time."""
        self._resumes = array("b", [False])
        """Whether the client paused before it. Delays before a pause say nothing about messages after it."""

    def record(self, messages: AudioMessages) -> None:
        """Record messages. Those of a client that is ahead of real time count as arrived when they were read."""
        offset, reads = messages.offset, messages.arrivals
        # Measured from the start of these messages, so that long ones evict nothing that is still needed.
        old = bisect_left(self._ends, offset - _KEPT_SAMPLES * self._sample_bytes)
        if old >= _MIN_REMOVED:
            for each in (self._ends, self._sizes, self._first_ends, self._reads, self._live, self._resumes):
                del each[:old]
        lengths, counts = list(map(len, messages.chunks)), messages.counts
        if len(lengths) > _MAX_ENTRIES:
            lengths, counts, reads = [sum(lengths)], [1], reads[-1:]
        sizes = [max(1, length // count) for length, count in zip(lengths, counts, strict=True)]
        ends = list(accumulate(lengths, initial=offset))
        self._ends.extend(ends[1:])
        self._sizes.extend(sizes)
        self._first_ends.extend(map(add, ends, sizes))
        self._reads.extend(reads)
        self._live.extend([messages.live] * len(lengths))
        self._resumes.extend([messages.resumes, *[False] * (len(lengths) - 1)])

    def at_sample(self, position: int) -> float:
        """When all samples before `position` had arrived, monotonic seconds."""
        byte = position * self._sample_bytes
        chunk = min(bisect_left(self._ends, byte), len(self._ends) - 1)
        read = self._reads[chunk]
        if not self._live[chunk]:
            return read
        end, size = self._ends[chunk], self._sizes[chunk]
        later_messages = max(0, end - byte) // size
        end_of_message = max(self._first_ends[chunk], end - later_messages * size)
        return min(read, end_of_message / self._bytes_per_second + self._least_delay(chunk))

    def _least_delay(self, chunk: int) -> float:
        """Least delay of the live chunks since the client's last pause before number `chunk`."""
        ends, reads, rate = self._ends, self._reads, self._bytes_per_second
        first = chunk
        while (
            first > 1
            and self._live[first - 1]
            and not self._resumes[first]
            and reads[chunk] - reads[first - 1] <= _WINDOW_SECONDS
        ):
            first -= 1
        return min(reads[each] - ends[each] / rate for each in range(first, len(ends)) if self._live[each])
