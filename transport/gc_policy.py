"""When Python's garbage collector walks over all objects: seldom, because every thread waits while it does.

Reference counts free nearly everything. Only reference cycles are left to the collector. Python starts a full
collection whenever the objects that survived the smaller ones have grown by a quarter; with live streams those are
messages on their way. At 600 streams a full collection came every four seconds, took 130 ms, and found nothing.
Connections that closed are what leaves cycles here, so they are counted instead.
"""

from __future__ import annotations

import gc

MIN_CLOSED = 256
"""Closed connections and HTTP requests that are worth a full collection."""
GEN2_THRESHOLD = 1_000
"""Collections of the middle generation between two full ones that Python starts itself (its default is 10): 7 minutes
at 600 streams. These find the cycles that no closed connection accounts for."""


class GcPolicy:
    """Runs a full collection when as many connections have closed as sessions are open."""

    def __init__(self) -> None:
        self._closed = 0
        self._thresholds: tuple[int, int, int] | None = None

    def freeze_startup(self) -> None:
        """Exempt all objects that exist now from collections, and make full ones rare; any thread."""
        gc.collect()
        gc.freeze()
        self._thresholds = gc.get_threshold()
        gc.set_threshold(*self._thresholds[:2], GEN2_THRESHOLD)

    def connection_closed(self, open_sessions: int) -> None:
        """Count a WebSocket or an HTTP request that has ended; stops every thread if a full collection is due."""
        self._closed += 1
        if self._closed >= max(MIN_CLOSED, open_sessions):
            self._closed = 0
            gc.collect()

    def restore(self) -> None:
        """Leave collections to Python again, as before `freeze_startup`; idempotent."""
        if self._thresholds is not None:
            gc.set_threshold(*self._thresholds)
            gc.unfreeze()
            self._thresholds = None
