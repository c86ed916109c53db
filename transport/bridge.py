"""The two janus queues between a connection's pumps and its worker thread, and that thread.

End of stream is the queues' own state, never an item that a full queue could drop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import janus

from inference.worker import AudioMessage, CommitMessage, Inbound, SinkClosed
from observability.recorder import Recorder
from protocol.errors import BadRequest
from protocol.pcm import BYTES_PER_SAMPLE, SAMPLE_RATE
from protocol.schema import Final, Partial

_BYTES_PER_SECOND = SAMPLE_RATE * BYTES_PER_SAMPLE
MAX_QUEUED_BYTES = 60 * _BYTES_PER_SECOND
"""Audio that may wait for a worker: 60 s."""
WAKE_FROM = 0.25
"""Fill of the in queue that wakes the worker before its time, so that a burst is heard and not dropped."""
CROWDED_FROM = 0.5
"""Fill of the in queue from which a client that sends faster than speech is slowed down before audio is dropped."""
PARTIALS_UP_TO = 0.8
"""Fill of the out queue beyond which partials are dropped."""


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """Bounds of one connection's queues."""

    in_messages: int = 200
    """Messages that may wait for the worker."""
    max_drops: int = 500
    """Audio messages that may be dropped since the in queue was last empty."""
    out_messages: int = 50
    """Messages that may wait to be sent."""


class _Inbound(janus.Queue[Inbound]):
    """Keeps the newest audio and every commit. The hooks overridden are janus's own, called under its lock."""

    def __init__(self, max_messages: int) -> None:
        self._max_messages = max_messages
        self._bytes = 0
        self.evicted: list[AudioMessage] = []
        super().__init__()

    @property
    def fill(self) -> float:
        """How full the queue is, 0 to 1: of messages or of audio, whichever is more."""
        return max(len(self._queue) / self._max_messages, self._bytes / MAX_QUEUED_BYTES)

    def _put(self, item: Inbound) -> None:
        self._queue.append(item)
        if isinstance(item, AudioMessage):
            self._bytes += len(item.data)
        while len(self._queue) > self._max_messages or self._bytes > MAX_QUEUED_BYTES:
            if not self._evict():
                break

    def _get(self) -> Inbound:
        item = self._queue.popleft()
        if isinstance(item, AudioMessage):
            self._bytes -= len(item.data)
        return item

    def _evict(self) -> bool:
        for index, item in enumerate(self._queue):
            if isinstance(item, AudioMessage):
                del self._queue[index]
                self._bytes -= len(item.data)
                self.evicted.append(item)
                return True
        return False


class Inbox:
    """What the client sent and the worker has not yet heard. Satisfies `inference.worker.Source`.

    The `put_*` methods and `end` are called on the event loop, the others on the worker's thread.
    """

    def __init__(self, options: QueueOptions, recorder: Recorder) -> None:
        self._options = options
        self._recorder = recorder
        self._queue = _Inbound(options.in_messages)
        self._wake = threading.Event()
        self._ended: Literal["drain", "cancel"] | None = None
        self._bytes_seen = 0
        self._drops = 0

    def put_audio(self, data: bytes, arrived: float) -> None:
        """Queue a binary message that arrived at `arrived`, monotonic seconds; makes room by dropping the oldest.

        Raises:
            BadRequest: too much has been dropped since the queue was last empty.
        """
        self._put(AudioMessage(self._bytes_seen, data, arrived))
        self._bytes_seen += len(data)

    def put_commit(self, arrived: float) -> None:
        """Queue a commit and wake the worker.

        Raises:
            BadRequest: the queue is full of commits.
        """
        self._put(CommitMessage(arrived))
        self._wake.set()

    def end(self, *, drain: bool) -> None:
        """Let nothing more in: the worker hears what is queued and delivers its finals, or drops all; idempotent."""
        if self._ended != "cancel":
            self._ended = "drain" if drain else "cancel"
        self._queue.shutdown(immediate=not drain)
        self._wake.set()

    @property
    def crowded(self) -> bool:
        """Whether the recv pump should let the worker have a moment."""
        return self._queue.fill >= CROWDED_FROM

    def _put(self, message: Inbound) -> None:
        if self._ended is not None:
            return
        if self._queue.async_q.empty():
            self._drops = 0
        self._queue.async_q.put_nowait(message)
        self._recorder.queued("in_queue", len(self))
        if self._queue.fill >= WAKE_FROM:
            self._wake.set()
        if self._queue.evicted:
            self._count_drops()
        if len(self) > self._options.in_messages:
            raise BadRequest("overflow: too many commits are waiting")

    def _count_drops(self) -> None:
        evicted, self._queue.evicted = self._queue.evicted, []
        self._drops += len(evicted)
        self._recorder.dropped(len(evicted), sum(len(each.data) for each in evicted) / _BYTES_PER_SECOND)
        if self._drops > self._options.max_drops:
            raise BadRequest(f"overflow: more than {self._options.max_drops} audio messages came too fast to be heard")

    @property
    def cancelled(self) -> bool:
        """Whether all work is to be dropped."""
        return self._ended == "cancel"

    @property
    def exhausted(self) -> bool:
        """Whether nothing is queued and nothing will come."""
        return self._ended is not None and self._queue.sync_q.empty()

    def take(self) -> list[Inbound]:
        """Everything queued now, in order."""
        taken: list[Inbound] = []
        try:
            while True:
                taken.append(self._queue.sync_q.get_nowait())
        except (janus.SyncQueueEmpty, janus.SyncQueueShutDown):
            return taken

    def wait(self, seconds: float) -> None:
        """Sleep for `seconds`, or until a commit, an end or `wake`."""
        # Cleared after the wait and before the next take: what was put in between is in that take.
        self._wake.wait(seconds)
        self._wake.clear()

    def wake(self) -> None:
        """End a `wait` now; any thread."""
        self._wake.set()

    def __len__(self) -> int:
        return self._queue.sync_q.qsize()

    async def aclose(self) -> None:
        """Release janus's own waiters; after this only `len` may be asked."""
        await self._queue.aclose()


class _Outbound(janus.Queue[Partial | Final]):
    """A final takes the place of the partials before it. The hook overridden is janus's own."""

    def _put(self, item: Partial | Final) -> None:
        if isinstance(item, Final):
            self._queue = deque(each for each in self._queue if isinstance(each, Final))
        self._queue.append(item)


class Outbox:
    """What the worker has to say and the client has not yet been sent. Satisfies `inference.worker.Sink`.

    `partial` and `final` are called on the worker's thread, `get` on the event loop, `end` on either.
    """

    def __init__(self, options: QueueOptions, recorder: Recorder) -> None:
        self._recorder = recorder
        self._queue = _Outbound(options.out_messages)
        self._partials_up_to = int(options.out_messages * PARTIALS_UP_TO)

    def partial(self, message: Partial) -> bool:
        """Queue a partial unless the queue is over 80 % full; whether it was queued."""
        if len(self) > self._partials_up_to:
            return False
        try:
            self._queue.sync_q.put_nowait(message)
        except (janus.SyncQueueFull, janus.SyncQueueShutDown):
            return False
        self._recorder.queued("out_queue", len(self))
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
        self._recorder.queued("out_queue", len(self))

    async def get(self) -> Partial | Final | None:
        """The next message; None when there will be no more."""
        try:
            return await self._queue.async_q.get()
        except janus.AsyncQueueShutDown:
            return None

    def end(self, *, at_once: bool = False) -> None:
        """Let nothing more in; what is queued is still sent, unless `at_once`. Idempotent."""
        self._queue.shutdown(immediate=at_once)

    def __len__(self) -> int:
        return self._queue.sync_q.qsize()

    async def aclose(self) -> None:
        """Release janus's own waiters; after this only `len` may be asked."""
        await self._queue.aclose()


class WorkerThread:
    """A thread of its own for one connection, whose end can be awaited. Created and awaited on the event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[BaseException | None] = self._loop.create_future()

    def start(self, work: Callable[[], None]) -> None:
        """Run `work` in the thread."""
        # A daemon, so that a second signal can end the process while an engine is stuck.
        threading.Thread(target=self._run, args=(work,), name=self._name, daemon=True).start()

    async def ended(self) -> BaseException | None:
        """Wait for the thread's end: None, or what its work failed with."""
        return await asyncio.shield(self._ended)

    def _run(self, work: Callable[[], None]) -> None:
        failure: BaseException | None = None
        try:
            work()
        except Exception as error:  # noqa: BLE001 - handed to the connection, which logs it and closes with 1011
            failure = error
        # A closed loop means that the process ends, and nobody waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ended.set_result, failure)
