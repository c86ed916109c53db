"""A connection's socket, which is read as ever, or in a crowd left unread for a while after it was read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal

from transport.bell import REST_SECONDS, Bell


class Reading:
    """When a socket is read. Used on the event loop. Satisfies `transport.bell.Resting`."""

    def __init__(self, bell: Bell, needed_in: Callable[[], float], socket: asyncio.ReadTransport | None) -> None:
        """Read it as ever, until it is to rest.

        Args:
            bell: ends its rests.
            needed_in: seconds, counted from the last reading, until a live client will have sent what is waited for.
            socket: what is read; None: it never rests.
        """
        self._bell = bell
        self._needed_in = needed_in
        self._socket = socket
        self._is: Literal["watched", "resting", "opened"] = "watched"
        """Opened: read on since the last ring, so that what comes may have come in the rest."""
        self._rested_from = 0.0
        self._over = False
        self.held_back = False
        """Whether messages that were read may wait to be taken: uvicorn alone may then stop the socket, and read on."""

    @property
    def unread_since(self) -> float | None:
        """Time before which nothing came of what is read now, monotonic seconds; None: it came when it was read."""
        return None if self._is == "watched" else self._rested_from

    def rest(self) -> None:
        """All that the socket had is taken: leave it unread for a while, if there is a crowd."""
        if self._socket is None or self.held_back or self._over or not self._bell.crowded():
            return
        if self._socket.is_closing():
            return
        self._socket.pause_reading()
        self._rested_from = time.monotonic()
        if self._is == "watched":
            self._bell.rest(self)
        self._is = "resting"

    def rings(self, now: float) -> bool:
        """See `Resting`: read on after a rest, or when what is waited for will be there."""
        if self._socket is None or self._socket.is_closing() or self._is == "opened":
            # Of what was left unread all is here: what comes from now on is read when it comes.
            self._is = "watched"
            return True
        # Read on while messages are held back, uvicorn's queue of messages would have no bound.
        if not self.held_back and (self._ends_by(now) or self._over or not self._bell.crowded()):
            self._is = "opened"
            self._socket.resume_reading()
        return False

    def over(self) -> None:
        """Rest no more: only the client's goodbye is waited for."""
        self._over = True

    def _ends_by(self, now: float) -> bool:
        return now >= self._rested_from + min(REST_SECONDS, self._needed_in())
