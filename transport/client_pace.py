"""Whether a client sends audio faster than real time (a file sent unpaced, a backlog sent again), and when it pauses.

Pure: every `now` is monotonic seconds of the caller.
"""

from __future__ import annotations

AHEAD_SECONDS = 2.0
"""A client that has sent so much more audio than time has passed is ahead. A late network never delivers more than was
spoken meanwhile, so its bursts do not count."""
IDLE_SECONDS = 1.0
"""A client that is ahead counts as live again once nothing arrived for so long while its socket was being read."""
JITTER_SECONDS = 0.1
"""A message that comes later than its own length and this after the one before shows that the client paused."""


class ClientPace:
    """Compares one client's audio with the wall clock."""

    def __init__(self) -> None:
        self.ahead = False
        self.resumes = False
        """Whether the client paused before the newest audio, which makes delays from before the pause invalid."""
        self._read = self._held_up = 0.0
        self._began: float | None = None
        """When the audio that is compared began."""
        self._seconds = 0.0
        """Audio since then."""

    def received(self, seconds: float, now: float, waited: float, held_up: float) -> None:
        """So many `seconds` of audio were read at `now`, after the socket had been empty for `waited` seconds.

        `held_up`: for how long the event loop was held up until now, as `LoopLag` counts: that is no pause.
        """
        self.resumes = now - self._read - (held_up - self._held_up) > seconds + JITTER_SECONDS
        self._read, self._held_up = now, held_up
        if self._began is None or (self.ahead and waited >= IDLE_SECONDS):
            self.ahead, self._began, self._seconds = False, now, 0.0
            # The first message was spoken before it came.
            self._began -= min(seconds, AHEAD_SECONDS)
        self._seconds += seconds
        self.ahead = self.ahead or self._seconds - (now - self._began) > AHEAD_SECONDS
