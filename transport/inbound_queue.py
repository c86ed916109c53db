"""Audio and commands of one connection on their way to its worker: a janus queue, bounded in seconds and messages.

A client that sends ahead of real time is throttled and loses nothing. A live client loses the oldest audio beyond the
bound when the engine is slower than speech; the worker reports what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Literal

import janus

from inference.worker_interfaces import AudioMessages, CommandMessage, Inbound, NextDecision
from observability.connection_telemetry import ConnectionTelemetry
from protocol.errors import BadRequest, ServerOverloaded
from protocol.events import Command, Reason
from protocol.pcm import BYTES_PER_SAMPLE, BYTES_PER_SECOND
from transport.drop_oldest_queue import DropOldestQueue, audio_bytes
from transport.queue_options import DROP_UNIT_SECONDS, QueueOptions
from transport.worker_scheduler import WorkerScheduler

_MAX_TAKEN_SECONDS = 2.0
"""Most audio that the worker takes at a time. The rest stays in the queue, where it is bounded."""
_THROTTLE_FILL = 0.5
"""How full the queue is (0 to 1) when throttling begins."""
_MAX_THROTTLE = 4.0
"""Seconds to wait for each second of audio read, when the queue is nearly full."""


class InboundQueue:
    """One connection's audio and commands, in order. Satisfies `inference.worker_interfaces.AudioSource`.

    Audio gathers in a batch until it reaches the sample that the worker waits for, because waking a thread costs more
    than processing a message. The worker's thread calls `exhausted`, `take`, `wait` and `watch_for_stall`; any thread
    `wake`, `cancelled` and `must_finish`; only the event loop everything else.
    """

    def __init__(
        self,
        options: QueueOptions,
        telemetry: ConnectionTelemetry,
        scheduler: WorkerScheduler,
        watch_for_stall: Callable[[float | None], None],
        channels: int = 1,
    ) -> None:
        """`watch_for_stall` is called on the event loop with what the worker asks for. `channels` are interleaved."""
        self._options, self._telemetry, self._scheduler = options, telemetry, scheduler
        self._watch_for_stall = watch_for_stall
        self._channels = channels
        self._sample_bytes = channels * BYTES_PER_SAMPLE
        self._bytes_per_second = channels * BYTES_PER_SECOND
        self._loop = asyncio.get_running_loop()
        self._queue = DropOldestQueue(options, self._bytes_per_second)
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._ended: Literal["drain", "cancel"] | None = None
        self._batch = AudioMessages(0)
        self._received_bytes = self._due_bytes = 0
        self._end_bytes = sys.maxsize
        """Bytes of the session before which no utterance can end."""
        self._dropped_seconds = 0.0
        """Audio dropped since the queue was last empty."""
        self._error: ServerOverloaded | BadRequest | None = None
        self.must_finish = False
        self.end_reason = Reason.DRAIN
        scheduler.queues += 1

    def put_audio(self, data: bytes, read: float, *, live: bool, resumes: bool = False, messages: int = 1) -> None:
        """Take audio; a full queue drops its oldest live audio.

        Args:
            data: PCM.
            read: monotonic seconds.
            live: whether the client is not ahead of real time.
            resumes: whether the client paused before it.
            messages: how many messages `data` was sent in.

        Raises:
            ServerOverloaded: too much has been dropped since the queue was last empty.
            BadRequest: too many commands are waiting.
        """
        if data and self._ended is None:
            if resumes or self._batch.live is not live:
                self._flush()
                self._batch.live, self._batch.resumes = live, resumes
            self._batch.add(data, read, messages)
            self._received_bytes += len(data)
            if self._received_bytes - self._batch.offset >= self._bytes_per_second:
                self._flush()
            self._schedule_if_due()
        self._raise_error()

    def put_command(self, command: Command, read: float) -> None:
        """Queue a command read at `read`, monotonic seconds, and wake the worker at once.

        Raises:
            ServerOverloaded: too much audio has been dropped since the queue was last empty.
            BadRequest: too many commands are waiting.
        """
        self._flush()
        self._put(CommandMessage(command, read))
        self.wake()
        self._raise_error()

    def end(self, *, drain: bool, reason: Reason = Reason.DRAIN) -> None:
        """Accept nothing more. Idempotent.

        `drain`: the worker processes what is queued and ends the open utterance with `reason`; else it drops
        everything.
        """
        if self._ended == "cancel" or (drain and self._ended):
            return
        if self._ended is None:
            self._scheduler.queues -= 1
            self.end_reason = reason
        self._flush()
        self._ended = "drain" if drain else "cancel"
        self._queue.shutdown(immediate=not drain)
        self._scheduler.worker_sleeps(self)
        self.wake()

    def finish_now(self) -> None:
        """Make the worker stop waiting for finals; call it after `end(drain=True)`."""
        self.must_finish = True
        self.wake()

    def throttle_seconds(self, data: bytes) -> float:
        """Pause before the next read of a client that is ahead of real time, after its message `data`."""
        throttle = _MAX_THROTTLE * (min(self._queue.fill, 1) - _THROTTLE_FILL) / (1 - _THROTTLE_FILL)
        return max(0.0, throttle) * self.seconds_of(data)

    def seconds_of(self, data: bytes) -> float:
        """Duration of a message of this connection."""
        return len(data) / self._bytes_per_second

    @property
    def is_full(self) -> bool:
        """Whether a client that is ahead of real time must not be read; false after `end`."""
        return self._queue.fill >= 1 and self._ended is None

    @property
    def age_seconds(self) -> float:
        """How long the oldest message in the queue has waited."""
        oldest = self._queue.oldest
        if oldest is None:
            return 0.0
        read = oldest.arrivals[0] if isinstance(oldest, AudioMessages) else oldest.arrived
        return max(0.0, time.monotonic() - read)

    def read_later(self, resume: Callable[[], None]) -> None:
        """Call `resume`, which reads the socket again, no later than the worker needs what is in it."""
        self._scheduler.read_later(self, resume)

    @property
    def seconds_until_due(self) -> float:
        """See `WaitingQueue`."""
        return (self._due_bytes - self._received_bytes) / self._bytes_per_second

    @property
    def may_end_utterance(self) -> bool:
        """See `WaitingQueue`."""
        return self._received_bytes >= self._end_bytes

    def _flush(self) -> None:
        if self._batch.chunks:
            batch, self._batch = self._batch, AudioMessages(self._received_bytes, live=self._batch.live)
            self._put(batch)

    def _put(self, item: Inbound) -> None:
        if self._ended is not None:
            return
        queue = self._queue
        self._dropped_seconds = 0.0 if queue.async_q.empty() else self._dropped_seconds
        queue.async_q.put_nowait(item)
        self._telemetry.queued("in_queue", queue.messages)
        evicted, queue.evicted = queue.evicted, []  # filled by `_put` of the queue, which only this thread calls
        for each in evicted:
            seconds = self._seconds(each)
            self._dropped_seconds += seconds
            self._telemetry.dropped(sum(each.counts), seconds * self._channels)
        if self._dropped_seconds > self._options.max_drops * DROP_UNIT_SECONDS:
            self._error = ServerOverloaded(f"the engine is late: {self._dropped_seconds:.1f} s of audio were dropped")
        elif queue.messages > self._options.in_messages:
            self._error = BadRequest("overflow: too many messages are waiting")

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _schedule_if_due(self) -> None:
        if self._received_bytes >= self._due_bytes:
            self._due_bytes = sys.maxsize  # until the worker waits again
            self._flush()
            self._scheduler.schedule(self)

    @property
    def cancelled(self) -> bool:
        """Whether the worker must drop all work."""
        return self._ended == "cancel"

    @property
    def exhausted(self) -> bool:
        """Whether nothing is queued and nothing will come."""
        return self._ended is not None and self._queue.sync_q.empty()

    def take(self) -> list[Inbound]:
        """What is queued, in order, up to about 2 s of audio."""
        taken: list[Inbound] = []
        seconds = 0.0
        # `end(drain=False)` may empty the queue meanwhile.
        with contextlib.suppress(janus.SyncQueueEmpty, janus.SyncQueueShutDown):
            while self._queue.messages and seconds < _MAX_TAKEN_SECONDS:
                taken.append(self._queue.sync_q.get_nowait())
                seconds += self._seconds(taken[-1])
        return taken

    def wait(self, seconds: float, decision: NextDecision | None) -> None:
        """See `AudioSource`. Without audio it returns after twice the time that the audio should take."""
        due_bytes = sys.maxsize if decision is None else self._due_at(seconds, decision)
        self._end_bytes = sys.maxsize if decision is None else decision.end_sample * self._sample_bytes
        self._due_bytes = due_bytes
        # The event loop adds audio and then compares; this thread sets `_due_bytes` and then compares. So at least one
        # of the two sees that the audio is due.
        if self._received_bytes >= due_bytes:
            self._call_on_loop(self._schedule_if_due)
        self._scheduler.worker_sleeps(self)
        left = seconds if decision is None else (due_bytes - self._received_bytes) / self._bytes_per_second
        try:
            self._wake.get(timeout=2 * max(seconds, left))
        except Empty:
            if self._batch.chunks:
                self._call_on_loop(self._wake_with_batch)

    def _due_at(self, seconds: float, decision: NextDecision) -> int:
        """Bytes of the session at which the worker is woken."""
        audio = int(seconds * self._bytes_per_second)
        if self._scheduler.batches:
            return min(decision.end_sample * self._sample_bytes, decision.sample * self._sample_bytes + audio)
        return min(decision.sample * self._sample_bytes, self._batch.offset + audio)

    def _wake_with_batch(self) -> None:
        self._flush()
        self.wake()

    def watch_for_stall(self, seconds: float | None) -> None:
        """See `AudioSource`."""
        self._call_on_loop(self._watch_for_stall, seconds)

    def _call_on_loop(self, function: Callable[..., None], *arguments: float | None) -> None:
        with contextlib.suppress(RuntimeError):  # a closed loop means that the process ends
            self._loop.call_soon_threadsafe(function, *arguments)

    def wake(self) -> None:
        """End a `wait` now; any thread."""
        if self._wake.empty():  # one token is enough: the worker takes all that is queued
            self._wake.put(None)

    def _seconds(self, item: Inbound) -> float:
        return audio_bytes(item) / self._bytes_per_second

    def __len__(self) -> int:
        return self._queue.messages + sum(self._batch.counts)
