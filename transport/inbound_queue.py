"""What a client sent and its worker thread has not yet taken: a janus queue, and what wakes the workers."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Literal

import janus

from inference.worker_queues import AudioMessages, CommandMessage, Inbound
from observability.connection_telemetry import ConnectionTelemetry
from protocol.errors import BadRequest
from protocol.events import Command, Reason
from protocol.pcm import BYTES_PER_SAMPLE, SAMPLE_RATE
from transport.queues import QueueOptions

_BYTES_PER_SECOND = SAMPLE_RATE * BYTES_PER_SAMPLE
MAX_QUEUED_BYTES = 60 * _BYTES_PER_SECOND
"""Audio that may wait for a worker: 60 s."""
MAX_AWAKE = 16
"""Workers that the scheduler has awake at once. docs/notes/waking-threads.md has the measurements."""
_TICK_SECONDS = 0.02
"""A worker that works longer (most take 0.2 ms) no longer counts as awake: it may wait for its client."""
_POLLS_PER_SECOND = 500
"""Of all workers together: with many sessions each polls less often, so that polls alone never fill a core."""
_BATCHES = 4
"""A batch of audio, which is dropped as a whole, holds at most 1 s and this part of the messages that may wait."""


class WorkerScheduler:
    """Wakes workers in the order in which their audio became due. One for all connections; on the event loop."""

    def __init__(self) -> None:
        self.queues = 0
        """Open queues."""
        self._due: deque[InboundQueue] = deque()
        self._awake: set[InboundQueue] = set()
        self._ticking = False

    def schedule(self, queue: InboundQueue) -> None:
        """Call the queue's `hand_over` when fewer than `MAX_AWAKE` workers are awake."""
        self._due.append(queue)
        self._dispatch()

    def asleep(self, queue: InboundQueue) -> None:
        """The queue's worker waits for audio, or has ended."""
        self._awake.discard(queue)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._due and len(self._awake) < MAX_AWAKE:
            queue = self._due.popleft()
            if not queue.cancelled:
                self._awake.add(queue)
                queue.hand_over()
        if self._due and not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        self._awake.clear()
        self._dispatch()


class _DropOldestQueue(janus.Queue[Inbound]):
    """Keeps the newest audio and every command. The hooks overridden are janus's own, called under its lock."""

    def __init__(self, max_messages: int) -> None:
        self._max_messages = max_messages
        self._bytes = self.messages = 0
        self.evicted: list[AudioMessages] = []
        super().__init__()

    @property
    def fill(self) -> float:
        """Of messages or of bytes; 1 is full."""
        return max(self.messages / self._max_messages, self._bytes / MAX_QUEUED_BYTES)

    def _put(self, item: Inbound) -> None:
        self._queue.append(item)
        self._count(item, 1)
        while self.fill > 1 and (oldest := next((i for i in self._queue if isinstance(i, AudioMessages)), None)):
            self._queue.remove(oldest)
            self._count(oldest, -1)
            self.evicted.append(oldest)

    def _get(self) -> Inbound:
        item = self._queue.popleft()
        self._count(item, -1)
        return item

    def _count(self, item: Inbound, sign: int) -> None:
        self.messages += sign * (len(item.chunks) if isinstance(item, AudioMessages) else 1)
        self._bytes += sign * _audio_bytes(item)


class InboundQueue:
    """One connection's audio and commands, in order. Satisfies `inference.worker_queues.AudioSource`.

    Audio gathers until it reaches the sample that the worker waits for: waking a thread is what costs most. For the
    worker's thread: `exhausted`, `take`, `wait`; any: `wake`, `cancelled`, `must_finish`; all else: the event loop.
    """

    def __init__(self, options: QueueOptions, telemetry: ConnectionTelemetry, scheduler: WorkerScheduler) -> None:
        self._options, self._telemetry, self._scheduler = options, telemetry, scheduler
        self._loop = asyncio.get_running_loop()
        self._queue = _DropOldestQueue(options.in_messages)
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._ended: Literal["drain", "cancel"] | None = None
        self._batch = AudioMessages(0)
        self._received_bytes = self._due_bytes = self._drops = 0
        self._overflow = ""
        self.must_finish = False
        self.end_reason = Reason.DRAIN
        scheduler.queues += 1

    def put_audio(self, data: bytes, arrived: float) -> None:
        """Take a message read at `arrived`, monotonic seconds; a full queue drops its oldest audio.

        Raises:
            BadRequest: too much has been dropped since the queue was last empty.
        """
        if data and self._ended is None:
            batch = self._batch
            batch.chunks.append(data)
            batch.arrivals.append(arrived)
            self._received_bytes += len(data)
            full = self._received_bytes - batch.offset >= _BYTES_PER_SECOND
            if full or len(batch.chunks) * _BATCHES >= self._options.in_messages:
                self._flush()
            self._schedule_if_due()
        self._check_overflow()

    def put_command(self, command: Command, arrived: float) -> None:
        """Queue a command read at `arrived` and wake the worker at once.

        Raises:
            BadRequest: too many are waiting, or too much audio has been dropped.
        """
        self._flush()
        self._put(CommandMessage(command, arrived))
        self.wake()
        self._check_overflow()

    def end(self, *, drain: bool, reason: Reason = Reason.DRAIN) -> None:
        """Take nothing more. The worker hears what came and delivers its finals, or drops all. Idempotent."""
        if self._ended == "cancel" or (drain and self._ended):
            return
        if self._ended is None:
            self._scheduler.queues -= 1
            self.end_reason = reason
        self._flush()
        self._ended = "drain" if drain else "cancel"
        self._queue.shutdown(immediate=not drain)
        self._scheduler.asleep(self)
        self.wake()

    def finish_now(self) -> None:
        """Have the worker wait for no final any more; after `end(drain=True)`."""
        self.must_finish = True
        self.wake()

    @property
    def throttled(self) -> bool:
        """Whether to `throttle` before the next message is read: the queue is half full."""
        return self._queue.fill >= 0.5

    async def throttle(self) -> None:
        """Give the worker a moment: Python's switch interval. Live audio still passes."""
        await asyncio.sleep(0.005)

    def hand_over(self) -> None:
        """Give the worker what gathered, and wake it; called by the scheduler."""
        self._flush()
        self.wake()

    def _flush(self) -> None:
        if self._batch.chunks:
            batch, self._batch = self._batch, AudioMessages(self._received_bytes)
            self._put(batch)

    def _put(self, item: Inbound) -> None:
        if self._ended is not None:
            return
        queue = self._queue
        self._drops = 0 if queue.async_q.empty() else self._drops
        queue.async_q.put_nowait(item)
        self._telemetry.queued("in_queue", queue.messages)
        evicted, queue.evicted = queue.evicted, []  # only this thread puts, and so evicts
        for each in evicted:
            self._drops += len(each.chunks)
            self._telemetry.dropped(len(each.chunks), _audio_bytes(each) / _BYTES_PER_SECOND)
        if self._drops > self._options.max_drops:
            self._overflow = f"more than {self._options.max_drops} audio messages came too fast to be heard"
        elif queue.messages > self._options.in_messages:
            self._overflow = "too many messages are waiting"

    def _check_overflow(self) -> None:
        if self._overflow:
            raise BadRequest(f"overflow: {self._overflow}")

    def _schedule_if_due(self) -> None:
        if self._received_bytes >= self._due_bytes:
            self._due_bytes = sys.maxsize  # until the worker waits again
            self._scheduler.schedule(self)

    @property
    def cancelled(self) -> bool:
        """Whether all work is to be dropped."""
        return self._ended == "cancel"

    @property
    def exhausted(self) -> bool:
        """Whether nothing is queued and nothing will come."""
        return self._ended is not None and self._queue.sync_q.empty()

    def take(self) -> list[Inbound]:
        """What is queued, in order; audio about 2 s at a time, so that the bound is the queue's."""
        taken: list[Inbound] = []
        # An end at once empties the queue in between.
        with contextlib.suppress(janus.SyncQueueEmpty, janus.SyncQueueShutDown):
            while self._queue.messages and sum(map(_audio_bytes, taken)) < 2 * _BYTES_PER_SECOND:
                taken.append(self._queue.sync_q.get_nowait())
        return taken

    def wait(self, seconds: float, position: int | None) -> None:
        """See `Source`. With many sessions `seconds` are more. Ends after twice so long if too little audio comes."""
        seconds = max(seconds, self._scheduler.queues / _POLLS_PER_SECOND)
        due = sys.maxsize if position is None else position * BYTES_PER_SAMPLE
        self._call_on_loop(self._sleep_until, due, int(seconds * _BYTES_PER_SECOND))
        try:
            self._wake.get(timeout=2 * seconds)
        except Empty:
            if self._batch.chunks:
                self._call_on_loop(self.hand_over)

    def _sleep_until(self, due: int, new_bytes: int) -> None:
        self._due_bytes = due if due == sys.maxsize else min(due, self._batch.offset + new_bytes)
        self._scheduler.asleep(self)
        self._schedule_if_due()

    def _call_on_loop(self, function: Callable[..., None], *arguments: int) -> None:
        with contextlib.suppress(RuntimeError):  # a closed loop means that the process ends
            self._loop.call_soon_threadsafe(function, *arguments)

    def wake(self) -> None:
        """End a `wait` now; any thread."""
        if self._wake.empty():  # one token is enough: whoever finds it looks at everything
            self._wake.put(None)

    def __len__(self) -> int:
        return self._queue.messages + len(self._batch.chunks)


def _audio_bytes(item: Inbound) -> int:
    return sum(map(len, item.chunks)) if isinstance(item, AudioMessages) else 0
