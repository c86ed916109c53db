"""Makes full garbage collections rare, because they pause every thread.

Reference counts free nearly all objects; only reference cycles need the collector. Python starts a full collection when
the objects that survived smaller ones have grown by a quarter. With live streams these are messages in queues: at 600
streams a full collection came every four seconds, took 130 ms, and found nothing. Here it is closed connections that
leave cycles, so they are counted instead.
"""

from __future__ import annotations

import gc

MIN_CLOSED = 256
"""Least number of closed connections and HTTP requests before a full collection."""
GEN2_THRESHOLD = 1_000
"""Collections of the middle generation before Python starts a full one itself (10 by default): 7 minutes at 600
streams. These find cycles that do not come from closed connections."""


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
