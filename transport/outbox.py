"""What a worker has to say and its client has not yet been sent: a janus queue in which finals come first.

End of stream is the queue's own state, never an item that a full queue could drop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

import janus

from inference.worker import SinkClosed
from observability.recorder import Recorder
from protocol.schema import Final, Partial, SpeechStarted
from transport.queues import QueueOptions

PARTIALS_UP_TO = 0.8
"""Fill of the out queue beyond which partials are dropped."""

Outbound = SpeechStarted | Partial | Final
"""What a worker has to say."""


class _Outbound(janus.Queue[Outbound]):
    """A final takes the place of the partials before it. The hook overridden is janus's own."""

    def _put(self, item: Outbound) -> None:
        if isinstance(item, Final):
            self._queue = deque(each for each in self._queue if not isinstance(each, Partial))
        self._queue.append(item)


class Outbox:
    """What the worker has to say and the client has not yet been sent. Satisfies `inference.worker.Sink`.

    `speech_started`, `partial` and `final` are called on the worker's thread, `get` and `end` on the event loop.
    """

    def __init__(self, options: QueueOptions, recorder: Recorder) -> None:
        self._recorder = recorder
        self._loop = asyncio.get_running_loop()
        self._queue = _Outbound(options.out_messages)
        self._ended = False
        # Partials alone must never fill the queue: a final would wait behind what it is to replace.
        self._partials_up_to = min(int(options.out_messages * PARTIALS_UP_TO), options.out_messages - 2)
        self._filled = asyncio.Event()

    def speech_started(self, message: SpeechStarted) -> None:
        """Queue it unless the queue is over 80 % full."""
        self._offer(message)

    def partial(self, message: Partial) -> bool:
        """Queue a partial unless the queue is over 80 % full; whether it was queued."""
        return self._offer(message)

    def _offer(self, message: SpeechStarted | Partial) -> bool:
        if len(self) > self._partials_up_to:
            return False
        try:
            self._queue.sync_q.put_nowait(message)
        except (janus.SyncQueueFull, janus.SyncQueueShutDown):
            return False
        self._tell()
        return True

    def final(self, message: Final) -> None:
        """Queue a final in place of any queued partials, waiting for room.

        Raises:
            SinkClosed: the connection ended first.
        """
        try:
            self._queue.sync_q.put(message)
        except janus.SyncQueueShutDown as error:
            raise SinkClosed from error
        self._tell()

    async def get(self) -> Outbound | None:
        """The next message; None when there will be no more."""
        while True:
            # Cleared before the look: what is put after it sets it again.
            self._filled.clear()
            try:
                return self._queue.async_q.get_nowait()
            except janus.AsyncQueueShutDown:
                return None
            except janus.AsyncQueueEmpty:
                await self._filled.wait()

    def end(self, *, at_once: bool = False) -> None:
        """Let nothing more in; what is queued is still sent, unless `at_once`. Idempotent; on the event loop."""
        if at_once or not self._ended:
            self._ended = True
            self._queue.shutdown(immediate=at_once)
            self._filled.set()

    def _tell(self) -> None:
        # One callback on the loop: a third of what a wait inside janus costs, which is a task for each message.
        self._recorder.queued("out_queue", len(self))
        with contextlib.suppress(RuntimeError):  # a closed loop means that the process ends
            self._loop.call_soon_threadsafe(self._filled.set)

    def __len__(self) -> int:
        return self._queue.sync_q.qsize()
