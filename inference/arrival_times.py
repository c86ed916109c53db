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

from inference.segmenter import CUT_SEARCH_MS
from inference.worker_queues import AudioMessages
from protocol.pcm import BYTES_PER_SAMPLE, SAMPLE_RATE, samples_of

_KEPT_SAMPLES = samples_of(CUT_SEARCH_MS + 1_000)
"""Samples that are remembered: as far back as the point where an overlong utterance may be cut."""
_MAX_ENTRIES = 100
"""Most entries for messages read together; more are merged, so that tiny messages cost no memory."""
_MIN_REMOVED = 64
"""Least number of messages that are removed at a time."""
_WINDOW_SECONDS = 5.0
"""Time over which the minimum of the delays is taken."""


class ArrivalTimes:
    """Maps sample positions to arrival times for the last 6 s. Used by one thread."""

    def __init__(self, channels: int = 1) -> None:
        self._sample_bytes = channels * BYTES_PER_SAMPLE
        """Bytes of one sample of all channels, interleaved."""
        self._bytes_per_second = SAMPLE_RATE * self._sample_bytes
        # Arrays: the garbage collector does not walk over their elements.
        self._ends = array("q", [0])
        """Bytes of the session up to each message's end."""
        self._reads = array("d", [0.0])
        """When each message was read, monotonic seconds."""
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
            del self._ends[:old], self._reads[:old], self._live[:old], self._resumes[:old]
        lengths = list(map(len, messages.chunks))
        if len(lengths) > _MAX_ENTRIES:
            lengths, reads = [sum(lengths)], reads[-1:]
        lengths[0] += offset
        self._ends.extend(accumulate(lengths))
        self._reads.extend(reads)
        self._live.extend([messages.live] * len(lengths))
        self._resumes.extend([messages.resumes, *[False] * (len(lengths) - 1)])

    def at_sample(self, position: int) -> float:
        """When all samples before `position` had arrived, monotonic seconds."""
        message = min(bisect_left(self._ends, position * self._sample_bytes), len(self._ends) - 1)
        read = self._reads[message]
        if not self._live[message]:
            return read
        return min(read, self._ends[message] / self._bytes_per_second + self._least_delay(message))

    def _least_delay(self, message: int) -> float:
        """Least delay of the live messages since the client's last pause before number `message`."""
        ends, reads, rate = self._ends, self._reads, self._bytes_per_second
        first = message
        while (
            first > 1
            and self._live[first - 1]
            and not self._resumes[first]
            and reads[message] - reads[first - 1] <= _WINDOW_SECONDS
        ):
            first -= 1
        return min(reads[each] - ends[each] / rate for each in range(first, len(ends)) if self._live[each])
