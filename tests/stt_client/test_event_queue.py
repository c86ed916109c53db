"""Events that wait to be read."""

from __future__ import annotations

import asyncio

from stt_client import Level, Partial
from stt_client.event_queue import EventQueue
from stt_client.events import Event


def test_only_a_newer_event_of_the_same_channel_replaces_one() -> None:
    """A partial or a level that waits gives way to the next of its channel, never to another channel's."""
    partials = [Partial(segment_seq=0, text=text, channel=channel) for text, channel in (("a", 0), ("ab", 0), ("x", 1))]
    levels = [Level(end_ms=end, rms=1, voiced=False, channel=channel) for end, channel in ((1, 0), (2, 0), (2, 1))]

    assert asyncio.run(_read_late([*partials, *levels])) == [*partials[1:], *levels[1:]]


async def _read_late(sent: list[Event]) -> list[Event]:
    queue = EventQueue()
    await queue.put(sent)
    queue.end(None)
    received = []
    while (event := await queue.get()) is not None:
        received.append(event)
    return received
