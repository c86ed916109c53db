"""Tells whether a client sends audio faster than real time, and when it pauses.

Pure: every `now` is monotonic seconds of the caller.
"""

from __future__ import annotations

AHEAD_SECONDS = 2.0
"""A client that has sent so much more audio than time has passed is ahead of real time. After a network stall no more
audio arrives than was spoken meanwhile, so such a burst does not count."""
IDLE_SECONDS = 1.0
"""A client that is ahead counts as live again when its socket was read and empty for so long."""
JITTER_SECONDS = 0.1
"""The client paused if a message comes later after the previous one than its own duration plus this."""


class ClientPace:
    """Compares one client's audio with the wall clock."""

    def __init__(self) -> None:
        self.ahead = False
        self.resumes = False
        """Whether the client paused before the newest audio. Delays measured before a pause say nothing about audio
        after it."""
        self._read = self._blocked_seconds = 0.0
        self._began: float | None = None
        """Start of the audio that is compared with the clock."""
        self._seconds = 0.0
        """Seconds of audio since then."""

    def received(self, seconds: float, now: float, waited: float, blocked_seconds: float) -> None:
        """Record `seconds` of audio read at `now`, after the socket had been empty for `waited` seconds.

        `blocked_seconds`: `LoopLag.blocked_seconds`; time in which the event loop was blocked is no pause of the
        client.
        """
        self.resumes = now - self._read - (blocked_seconds - self._blocked_seconds) > seconds + JITTER_SECONDS
        self._read, self._blocked_seconds = now, blocked_seconds
        if self._began is None or (self.ahead and waited >= IDLE_SECONDS):
            self.ahead, self._began, self._seconds = False, now, 0.0
            # The first message was spoken before it came.
            self._began -= min(seconds, AHEAD_SECONDS)
        self._seconds += seconds
        self.ahead = self.ahead or self._seconds - (now - self._began) > AHEAD_SECONDS
