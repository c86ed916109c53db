"""How busy the engine is, and how far apart refreshes must be so that no final waits for them. Pure."""

from __future__ import annotations

from protocol.pcm import SAMPLE_RATE

REFRESH_SHARE = 0.75
"""Part of the engine's sequences that refreshes may fill; the rest is for finals and files."""

_SMOOTHING = 0.2
"""Weight of the newest refresh in the running mean of their lengths."""


class Load:
    """Decodes in flight and how long refreshes take. Not thread-safe."""

    def __init__(self, seats: int, refresh_seconds: float, spread: float) -> None:
        """`seats`: decodes in the engine at once; `refresh_seconds`: the spacing when there is capacity.

        `spread`: the spacing is at least so many times as long as refreshes take.
        """
        self._refresh_seats = max(1, int(seats * REFRESH_SHARE))
        self._least = round(refresh_seconds * SAMPLE_RATE)
        self._spread = spread
        self._taken = 0
        self._seconds = 0.0

    @property
    def taken(self) -> int:
        """Decodes in flight."""
        return self._taken

    @property
    def refresh_seconds(self) -> float:
        """How long refreshes take these days."""
        return self._seconds

    def spacing(self) -> int | None:
        """Least number of new samples for which a refresh may begin now; None: there is no room for one."""
        if self._taken >= self._refresh_seats:
            return None
        return max(self._least, round(self._spread * self._seconds * SAMPLE_RATE))

    def begun(self) -> None:
        """A decode is in flight."""
        self._taken += 1

    def ended(self) -> None:
        """A decode is not in flight any more."""
        self._taken -= 1

    def refreshed(self, seconds: float) -> None:
        """A refresh took so long."""
        self._seconds += (seconds - self._seconds) * (_SMOOTHING if self._seconds else 1.0)
