"""Limits how often refreshes start, so that finals do not wait for them. Pure: callers pass the time."""

from __future__ import annotations

import statistics
from collections import deque

from backends.qwen3.options import Qwen3Options
from backends.qwen3.schedule import Purpose
from protocol.pcm import SAMPLE_RATE

REFRESH_SHARE = 0.75
"""Part of the engine's sequences that may be taken when a refresh starts; the rest is for finals."""

RECENT_SECONDS = 3.0
"""Refreshes that ended longer ago say nothing about the load now."""

_MAX_RECENT = 256
"""Refreshes remembered at most."""


class RefreshThrottle:
    """Counts the decodes in flight, and knows how long refreshes take. Not thread-safe."""

    def __init__(self, options: Qwen3Options) -> None:
        self._max_load = max(1, int(options.max_num_seqs * REFRESH_SHARE))
        self._batch_slots = options.batch_slots
        self._min_spacing = round(options.refresh_seconds * SAMPLE_RATE)
        self._spread = options.refresh_spread
        self._in_flight = dict.fromkeys(Purpose, 0)
        self._recent: deque[tuple[float, float]] = deque(maxlen=_MAX_RECENT)
        """When a refresh ended, and the seconds that it took."""
        self._typical_seconds = 0.0
        """Median over the recent refreshes."""

    @property
    def in_flight(self) -> int:
        """Decodes in flight, pieces of files that wait for a slot included."""
        return sum(self._in_flight.values())

    def in_flight_for(self, purpose: Purpose) -> int:
        """Decodes in flight for one purpose."""
        return self._in_flight[purpose]

    def spacing(self, now: float) -> int | None:
        """Least number of new samples with which a refresh may start now; None: the engine has no room for one.

        Args:
            now: monotonic seconds.
        """
        batch = min(self._in_flight[Purpose.BATCH], self._batch_slots)
        if self._in_flight[Purpose.FINAL] + self._in_flight[Purpose.REFRESH] + batch >= self._max_load:
            return None
        if not self._recent or now - self._recent[-1][0] > RECENT_SECONDS:
            return self._min_spacing
        return max(self._min_spacing, round(self._spread * self._typical_seconds * SAMPLE_RATE))

    def decode_started(self, purpose: Purpose) -> None:
        """Count a decode."""
        self._in_flight[purpose] += 1

    def decode_ended(self, purpose: Purpose) -> None:
        """Stop counting a decode, whatever its outcome."""
        self._in_flight[purpose] -= 1

    def refresh_took(self, seconds: float, now: float) -> None:
        """Remember how long a refresh took that ends now (monotonic seconds)."""
        self._recent.append((now, seconds))
        while now - self._recent[0][0] > RECENT_SECONDS:
            self._recent.popleft()
        self._typical_seconds = statistics.median(took for _, took in self._recent)
