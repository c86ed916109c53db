"""How much may wait between a connection's pumps and its worker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """Bounds of one connection's queues."""

    in_messages: int = 200
    """Messages that may wait for the worker."""
    max_drops: int = 500
    """Audio messages that may be dropped since the in queue was last empty."""
    out_messages: int = 50
    """Messages that may wait to be sent."""
