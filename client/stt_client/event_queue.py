"""Events that wait for the caller."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from stt_client.events import Event, Level, Partial, Reconnecting

MAX_EVENTS = 10_000
"""Most events that wait. With more the server is not read; it closes a stream that is not read for long."""


class EventQueue:
    """Bounded; a partial or a level replaces the one just before. One producer and one consumer, on one event loop."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._available = asyncio.Event()
        self._room = asyncio.Event()
        self._error: Exception | None = None
        self._ended = False

    async def put(self, events: Iterable[Event]) -> None:
        """Add events; waits while too many wait."""
        for event in events:
            while len(self._events) >= MAX_EVENTS:
                self._room.clear()
                await self._room.wait()
            if self._events and _replaces(event, self._events[-1]):
                self._events.pop()
            self._events.append(event)
            self._available.set()

    def end(self, error: Exception | None) -> None:
        """No event follows; the consumer gets `error` behind those that wait. The first call counts."""
        if not self._ended:
            self._ended, self._error = True, error
            self._available.set()

    async def get(self) -> Event | None:
        """The next event; None: there are no more.

        Raises:
            SttError: the stream has failed.
        """
        while not self._events and not self._ended:
            self._available.clear()
            await self._available.wait()
        if self._events:
            self._room.set()
            return self._events.popleft()
        if self._error is not None:
            raise self._error
        return None


def _replaces(event: Event, last: Event) -> bool:
    """Whether `event` makes the last waiting event unnecessary."""
    match event, last:
        case Partial(), Partial():
            return (event.channel, event.segment_seq) == (last.channel, last.segment_seq)
        case Level(), Level():
            return event.channel == last.channel
        case _:
            return isinstance(event, Reconnecting) and isinstance(last, Reconnecting)
