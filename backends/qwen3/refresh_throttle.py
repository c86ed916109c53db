"""How far apart refreshes must be, so that finals do not wait for refreshes. Pure."""

from __future__ import annotations

from protocol.pcm import SAMPLE_RATE

REFRESH_SHARE = 0.75
"""Part of the engine's sequences that refreshes may take; the rest is for finals and files."""

_SMOOTHING = 0.2
"""Weight of the newest refresh in the running mean of their durations."""


class RefreshThrottle:
    """Counts the decodes in flight and averages how long refreshes take. Not thread-safe."""

    def __init__(self, max_decodes: int, refresh_seconds: float, spread: float) -> None:
        """Start with no load.

        Args:
            max_decodes: decodes in the engine at once.
            refresh_seconds: least seconds of speech between two refreshes of an utterance.
            spread: refreshes are at least so many times as far apart as they take.
        """
        self._max_refresh_load = max(1, int(max_decodes * REFRESH_SHARE))
        self._min_spacing = round(refresh_seconds * SAMPLE_RATE)
        self._spread = spread
        self._in_flight = 0
        self._mean_seconds = 0.0

    @property
    def in_flight(self) -> int:
        """Decodes in flight."""
        return self._in_flight

    @property
    def mean_refresh_seconds(self) -> float:
        """Running mean of the seconds that refreshes take."""
        return self._mean_seconds

    def spacing(self) -> int | None:
        """Least number of new samples with which a refresh may start now; None: the engine has no room for one."""
        if self._in_flight >= self._max_refresh_load:
            return None
        return max(self._min_spacing, round(self._spread * self._mean_seconds * SAMPLE_RATE))

    def decode_started(self) -> None:
        """Count a decode."""
        self._in_flight += 1

    def decode_ended(self) -> None:
        """Stop counting a decode, whatever became of it."""
        self._in_flight -= 1

    def refresh_took(self, seconds: float) -> None:
        """Include a finished refresh in the mean."""
        self._mean_seconds += (seconds - self._mean_seconds) * (_SMOOTHING if self._mean_seconds else 1.0)
