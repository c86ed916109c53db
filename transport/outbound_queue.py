"""Events of one session on their way to the client: a bounded janus queue that drops hypotheses rather than finals.

The end of the stream is a state of the queue, never an item that a full queue could drop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

import janus

from inference.worker_interfaces import SinkClosed
from observability.connection_telemetry import ConnectionTelemetry
from protocol.events import Cleared, Event, Final, Hypothesis, Level, SpeechStarted, SpeechStopped
from transport.queue_options import QueueOptions

OFFERED_UP_TO = 0.8
"""How full the queue may be (0 to 1) before hypotheses and speech events are dropped."""
LEVELS_UP_TO = 0.4
"""The same for levels, which matter less."""


class _Queue(janus.Queue[Event]):
    """A final removes the earlier hypotheses of its channel, `Cleared` those of all. Overrides a hook of janus."""

    def _put(self, item: Event) -> None:
        if isinstance(item, Final):
            self._remove_hypotheses(lambda channel: channel == item.channel)
        elif isinstance(item, Cleared):
            self._remove_hypotheses(lambda _: True)
        self._queue.append(item)

    def _remove_hypotheses(self, of_channel: Callable[[int], bool]) -> None:
        self._queue = deque(
            each for each in self._queue if not (isinstance(each, Hypothesis) and of_channel(each.channel))
        )


class OutboundQueue:
    """Satisfies `inference.worker_interfaces.EventSink`.

    `offer` and `put` are called on the worker's thread, `get` and `end` on the event loop.
    """

    def __init__(self, options: QueueOptions, telemetry: ConnectionTelemetry) -> None:
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._queue = _Queue(options.out_messages)
        self._ended = False
        # Hypotheses must never fill the queue: a final would wait behind the hypotheses that it replaces.
        self._offered_up_to = min(int(options.out_messages * OFFERED_UP_TO), options.out_messages - 2)
        self._levels_up_to = int(options.out_messages * LEVELS_UP_TO)
        self._filled = asyncio.Event()

    def offer(self, event: SpeechStarted | SpeechStopped | Level | Hypothesis) -> bool:
        """Queue an event unless the queue is over 80 % full (for a level: 40 %). Returns whether it was queued."""
        if len(self) > (self._levels_up_to if isinstance(event, Level) else self._offered_up_to):
            return False
        try:
            self._queue.sync_q.put_nowait(event)
        except (janus.SyncQueueFull, janus.SyncQueueShutDown):
            return False
        self._notify()
        return True

    def put(self, event: Event) -> None:
        """Queue an event. Blocks until there is room.

        Raises:
            SinkClosed: the session ended first.
        """
        try:
            self._queue.sync_q.put(event)
        except janus.SyncQueueShutDown as error:
            raise SinkClosed from error
        self._notify()

    async def get(self) -> Event | None:
        """The next event; None when there will be no more."""
        while True:
            # Clear the flag before reading the queue: an event that is put later sets it again.
            self._filled.clear()
            try:
                return self._queue.async_q.get_nowait()
            except janus.AsyncQueueShutDown:
                return None
            except janus.AsyncQueueEmpty:
                await self._filled.wait()

    def end(self, *, at_once: bool = False) -> None:
        """Accept nothing more. Unless `at_once`, what is queued is still sent. Idempotent. On the event loop."""
        if at_once or not self._ended:
            self._ended = True
            self._queue.shutdown(immediate=at_once)
            self._filled.set()

    def _notify(self) -> None:
        # One callback on the loop costs a third of a wait inside janus, which makes a task for each event.
        self._telemetry.queued("out_queue", len(self))
        with contextlib.suppress(RuntimeError):  # a closed loop means that the process ends
            self._loop.call_soon_threadsafe(self._filled.set)

    @property
    def is_full(self) -> bool:
        """Whether the worker waits for the client to read."""
        return self._queue.sync_q.full()

    def __len__(self) -> int:
        return self._queue.sync_q.qsize()
