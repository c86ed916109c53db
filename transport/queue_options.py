"""Bounds of the queues between a connection and its worker."""

from __future__ import annotations

from dataclasses import dataclass

DROP_UNIT_SECONDS = 0.02
"""Unit in which dropped audio is counted: the length of a message of most clients."""


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """Bounds of one connection's queues."""

    in_seconds: float = 30.0
    """Audio that may wait for the worker."""
    max_drops: int = 500
    """Units of 20 ms of audio that may be dropped since the inbound queue was last empty."""
    in_messages: int = 20_000
    """Messages that may wait for the worker, whatever their length. Bounds the memory."""
    out_messages: int = 50
    """Messages that may wait to be sent."""
