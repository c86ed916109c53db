"""When Python looks for garbage everywhere: seldom, as every speaker waits for it.

Reference counts free nearly all. Only circles are left, and Python walks over all objects to find them whenever those
that outlived its smaller looks are a quarter more: with live streams that is what is just on its way, so that it looked
every four seconds at 600 of them, for 130 ms, and found nothing. What leaves circles here are sockets that closed.
"""

from __future__ import annotations

import gc

LEAST_ENDED = 256
"""Closed sockets that are worth a look: 6 MB of circles, 60 MB if all broke the protocol in the worst way."""
SELDOM = 1_000
"""Middle looks between two full ones that Python starts itself (default 10): 7 minutes at 600 streams. Those find
circles that no closed socket accounts for."""


class Sweeper:
    """Has Python look for circles when as many sockets have closed as there are sessions."""

    def __init__(self) -> None:
        self._ended = 0
        self._thresholds: tuple[int, int, int] | None = None

    def begin(self) -> None:
        """All that a server is made of is loaded: never walk over it again. Any thread."""
        gc.collect()
        gc.freeze()
        self._thresholds = gc.get_threshold()
        gc.set_threshold(*self._thresholds[:2], SELDOM)

    def ended(self, still_open: int) -> None:
        """A socket closed. Holds up every thread if it is time for a look."""
        self._ended += 1
        if self._ended >= max(LEAST_ENDED, still_open):
            self._ended = 0
            gc.collect()

    def end(self) -> None:
        """Leave it to Python again, as before `begin`; idempotent."""
        if self._thresholds is not None:
            gc.set_threshold(*self._thresholds)
            gc.unfreeze()
            self._thresholds = None
