"""Detects that a client has stopped sending audio in the middle of an utterance, because it mutes or sends speech only.

A slow network looks the same at first. But a pong cannot overtake audio that was sent before it. So if a ping is
answered and no audio came before its pong, no audio is on its way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PING_PREFIX = b"audio "
"""Start of the payload of these pings."""


class StallWatch:
    """Sends pings on one connection, and evaluates their pongs. Used on the event loop."""

    def __init__(self, ping: Callable[[bytes], None], frame_ms: int) -> None:
        """`ping` sends a ping with a payload.

        `frame_ms`: least time in ms after a message until the next one is due.
        """
        self._ping = ping
        self._frame_seconds = frame_ms / 1000
        self._messages = 0
        self._read = self._read_seconds = 0.0
        """When the newest message was read (monotonic seconds), and the seconds of audio in it so far."""
        self._expected = time.monotonic()
        """When the next message is due."""
        self._seconds: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    def received(self, seconds: float, now: float) -> None:
        """Record a message, or its next part, of `seconds` of audio, read at `now`, monotonic seconds."""
        self._messages += 1
        self._read_seconds = seconds + (self._read_seconds if now == self._read else 0.0)
        self._read = now
        self._expected = now + max(self._read_seconds, self._frame_seconds)

    def watch(self, seconds: float | None) -> None:
        """Send a ping when audio is late by so many seconds; None: send no more. Does nothing after `end`."""
        self._seconds = None if self._ended else seconds
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._seconds is not None:
            self._check(self._seconds)

    def end(self) -> None:
        """Send no more pings. Idempotent."""
        self._ended = True
        self.watch(None)

    def shows_stall(self, payload: bytes) -> bool:
        """Whether a pong with this payload shows that no audio is on its way."""
        return self._seconds is not None and payload == self._payload

    @property
    def _payload(self) -> bytes:
        return PING_PREFIX + str(self._messages).encode()

    def _check(self, seconds: float) -> None:
        left = self._expected + seconds - time.monotonic()
        if left <= 0:
            self._ping(self._payload)
            left = seconds
        self._timer = asyncio.get_running_loop().call_later(left, self._check, seconds)
