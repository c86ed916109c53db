"""A connection's socket, which is read as ever, or in a crowd left unread for a while after it was read.

The system is asked to tell nobody of less than a second of audio in it (SO_RCVLOWAT, see socket(7)). To pause the
transport instead would cost a wake-up all the same: uvloop stops watching a socket only when it next hears of it.
That a smaller number tells at once of what is there already needs Linux 4.18 or newer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Literal

from protocol.pcm import BYTES_PER_SAMPLE, SAMPLE_RATE
from transport.bell import REST_SECONDS, Bell

REST_BYTES = SAMPLE_RATE * BYTES_PER_SAMPLE
"""A socket that has so much is read even in its rest, in bytes: 1 s of audio. The system takes less where its buffer is
smaller than twice that."""


class Reading:
    """When a socket is read. Used on the event loop. Satisfies `transport.bell.Resting`."""

    def __init__(self, bell: Bell, needed_in: Callable[[], float], transport: asyncio.BaseTransport | None) -> None:
        """Read it as ever, until it is to rest.

        Args:
            bell: ends its rests.
            needed_in: seconds, counted from the last reading, until a live client will have sent what is waited for.
            transport: what is read; it never rests if it is not a TCP connection's, or None.
        """
        self._bell = bell
        self._needed_in = needed_in
        self._transport = transport
        self._socket = _tcp_socket(transport)
        self._is: Literal["watched", "resting", "opened"] = "watched"
        """Opened: read on since the last ring, so that what comes may have come in the rest."""
        self._rested_from = 0.0
        self._over = False

    @property
    def unread_since(self) -> float | None:
        """Time before which nothing came of what is read now, monotonic seconds; None: it came when it was read."""
        return None if self._is == "watched" else self._rested_from

    def rest(self) -> None:
        """All that the socket had is taken: leave it unread for a while, if there is a crowd."""
        if self._socket is None or self._over or not self._bell.crowded() or self._closing:
            return
        if self._is != "resting":
            self._tell_from(REST_BYTES)
        self._rested_from = time.monotonic()
        if self._is == "watched":
            self._bell.rest(self)
        self._is = "resting"

    def rings(self, now: float) -> bool:
        """See `Resting`: read on after a rest, or when what is waited for will be there."""
        if self._closing or self._is == "opened":
            # Of what was left unread all is here: what comes from now on is read when it comes.
            self._is = "watched"
            return True
        if self._ends_by(now) or self._over or not self._bell.crowded():
            self._is = "opened"
            self._tell_from(1)
        return False

    def over(self) -> None:
        """Rest no more: only the client's goodbye is waited for."""
        self._over = True

    @property
    def _closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _ends_by(self, now: float) -> bool:
        return now >= self._rested_from + min(REST_SECONDS, self._needed_in())

    def _tell_from(self, size: int) -> None:
        if self._socket is None:
            return
        with contextlib.suppress(OSError):  # closed: nothing is left to read, and a ring must reach everybody
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)


def _tcp_socket(transport: asyncio.BaseTransport | None) -> socket.socket | None:
    """The socket of a TCP connection. Any other tells of whatever is in it."""
    found: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    return found if found is not None and found.family in (socket.AF_INET, socket.AF_INET6) else None
