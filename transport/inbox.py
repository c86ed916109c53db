"""What a client sent and its worker has not yet heard: a janus queue that audio reaches in batches.

End of stream is the queue's own state, never an item that a full queue could drop.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import Literal

import janus

from inference.worker_queues import AudioMessages, CommandMessage, Inbound
from observability.connection_telemetry import ConnectionTelemetry
from protocol.errors import BadRequest
from protocol.events import Command, Reason
from protocol.pcm import BYTES_PER_SAMPLE, SAMPLE_RATE
from transport.bell import Bell
from transport.line import Line
from transport.queues import QueueOptions
from transport.reading import Reading

_BYTES_PER_SECOND = SAMPLE_RATE * BYTES_PER_SAMPLE
MAX_QUEUED_BYTES = 60 * _BYTES_PER_SECOND
"""Audio that may wait for a worker: 60 s."""
_MOST_TAKEN = 2 * _BYTES_PER_SECOND
AHEAD_SECONDS = 0.02
"""Without a crowd the audio for a worker's next look is there so long before it would look: a message, as most are."""
GATHER_SECONDS = 0.25
"""Longest time that audio waits for more audio before it is handed to the worker."""
GATHER_UP_TO = 0.25
"""Part of the in queue that audio may fill before it is handed over, so that a burst is heard and not dropped."""
MOST_GATHERED = _BYTES_PER_SECOND
"""Audio beyond which no more is waited for, in bytes: 1 s."""
PATIENCE_SECONDS = 0.2
"""In a crowd a look that nothing hangs on (a partial, a pause) gives way for so long to those that end an utterance."""
CROWDED_FROM = 0.5
"""Fill of the in queue from which a client that sends faster than speech is slowed down before audio is dropped."""
_CROWDED_BYTES = CROWDED_FROM * MAX_QUEUED_BYTES
_HOLD_BACK_SECONDS = 0.005
"""How long a burst waits between messages when the in queue fills: the interpreter's switch interval, in which the
worker's thread gets its turn. Live audio, 50 messages a second, would still pass."""


class _Inbound(janus.Queue[Inbound]):
    """Keeps the newest audio and every commit. The hooks overridden are janus's own, called under its lock."""

    def __init__(self, max_messages: int) -> None:
        self._max_messages = max_messages
        self._crowded_messages = CROWDED_FROM * max_messages
        self._bytes = 0
        self.crowded = False
        """Whether it is half full: of messages or of audio."""
        self.messages = 0
        """Messages in the queue: each commit and each chunk of audio."""
        self.evicted = 0
        self.evicted_bytes = 0
        super().__init__()

    def _put(self, item: Inbound) -> None:
        self._queue.append(item)
        self._count(item, 1)
        while (self.messages > self._max_messages or self._bytes > MAX_QUEUED_BYTES) and self._evict():
            pass

    def _get(self) -> Inbound:
        item = self._queue.popleft()
        self._count(item, -1)
        return item

    def _count(self, item: Inbound, sign: int) -> None:
        if isinstance(item, AudioMessages):
            self.messages += sign * len(item.chunks)
            self._bytes += sign * sum(map(len, item.chunks))
        else:
            self.messages += sign
        self.crowded = self.messages >= self._crowded_messages or self._bytes >= _CROWDED_BYTES

    def waiting(self) -> Iterable[Inbound]:
        """What is queued, oldest first."""
        return tuple(self._queue)

    def _evict(self) -> bool:
        oldest = next((item for item in self._queue if isinstance(item, AudioMessages)), None)
        if oldest is None:
            return False
        lost = oldest.chunks.pop(0)
        oldest.arrivals.pop(0)
        oldest.offset += len(lost)
        if not oldest.chunks:
            self._queue.remove(oldest)
        self.messages -= 1
        self._bytes -= len(lost)
        self.evicted += 1
        self.evicted_bytes += len(lost)
        return True


class Inbox:
    """What the client sent and the worker has not yet heard. Satisfies `inference.worker_queues.AudioSource`.

    Audio gathers on the event loop and is handed to the worker when it has reached the sample that the worker waits
    for, or without a crowd when it is time for a look: waking a thread costs more than all else that a message needs.
    In a crowd the socket rests in between.
    `exhausted`, `take`, `wait` and `end_turn` are the worker's, `wake` is for any thread, the rest for the event loop.
    """

    def __init__(
        self,
        options: QueueOptions,
        telemetry: ConnectionTelemetry,
        bell: Bell,
        line: Line,
        transport: asyncio.BaseTransport | None = None,
    ) -> None:
        """`transport`: what the messages are read from; None: it never rests."""
        self._options = options
        self._telemetry = telemetry
        self._bell = bell
        self._line = line
        self._reading = Reading(bell, self._needed_in, transport)
        self._loop = asyncio.get_running_loop()
        self._queue = _Inbound(options.in_messages)
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._ended: Literal["drain", "cancel"] | None = None
        self._gathered = AudioMessages(0)
        self._dated = 0
        """Messages gathered of which the arrival is settled."""
        self._burst = max(1, int(options.in_messages * GATHER_UP_TO))
        self._bytes_seen = 0
        self._bytes_wanted = 0
        self._decisive = True
        """Whether an utterance may end at what is wanted."""
        self._settles = False
        """Whether `_settle` is about to be called."""
        self._drops = 0
        self.end_reason = Reason.DRAIN
        """Why the utterance that is open at the end is ended."""
        self.must_finish = False
        """Whether the worker is to wait for no final."""
        self._overflow: BadRequest | None = None
        """Found while no message was being put: told with the next one."""

    @property
    def age_seconds(self) -> float:
        """Seconds that the oldest queued message has waited."""
        oldest = next(iter(self._queue.waiting()), None)
        if oldest is None:
            return 0.0
        arrived = oldest.arrivals[0] if isinstance(oldest, AudioMessages) else oldest.arrived
        return max(0.0, time.monotonic() - arrived)

    def put_audio(self, data: bytes, arrived: float) -> None:
        """Take a binary message that was read at `arrived`, monotonic seconds; makes room by dropping the oldest.

        Raises:
            BadRequest: too much has been dropped since the queue was last empty.
        """
        if self._overflow is not None:
            raise self._overflow
        if not data:
            return  # it would be remembered until audio follows
        gathered = self._gathered
        gathered.chunks.append(data)
        gathered.arrivals.append(arrived)
        self._bytes_seen += len(data)
        if len(gathered.chunks) >= self._burst or self._bytes_seen - gathered.offset >= MOST_GATHERED:
            self._hand_over()
        elif not self._settles:
            # Looked at once for all that is read in one go.
            self._settles = True
            self._loop.call_soon(self._settle)

    def put_command(self, command: Command, arrived: float) -> None:
        """Queue a command that was read at `arrived`, monotonic seconds, and wake the worker.

        Raises:
            BadRequest: the queue is full of commands, or too much has been dropped since it was last empty.
        """
        if self._overflow is not None:
            raise self._overflow
        self._hand_over()
        # It may have lain in the socket for all of its rest.
        since = self._reading.unread_since
        self._put(CommandMessage(command, arrived if since is None else since))
        self.wake()

    def _settle(self) -> None:
        """All that the socket had is here: hand it over if it is due, and let the socket rest in a crowd."""
        self._settles = False
        gathered, crowded = self._gathered, self._bell.crowded()
        if gathered.chunks:
            self._date()
            due, last = self._bytes_seen >= self._bytes_wanted, gathered.arrivals[-1]
            if due or last - gathered.arrivals[0] > GATHER_SECONDS:
                deadline = last if due and self._decisive else last + PATIENCE_SECONDS
                self._hand_over_asked(deadline if crowded else None)
        self._reading.rest()

    def _needed_in(self) -> float:
        return (self._bytes_wanted - self._bytes_seen) / _BYTES_PER_SECOND

    def _date(self) -> None:
        """Of what a socket had when it was read after a rest, say when it came.

        Audio comes as fast as it is spoken, so that each message came so long before the last, but not before the rest.
        The last may be that much older than it looks: by a message's length, and by a rest if the client stalled.
        """
        gathered, since = self._gathered, self._reading.unread_since
        if since is not None:
            date_back(gathered, self._dated, since)
        self._dated = len(gathered.chunks)

    def end(self, *, drain: bool, reason: Reason = Reason.DRAIN) -> None:
        """Let nothing more in: the worker hears what came and delivers its finals, or drops all; idempotent."""
        if drain:
            with contextlib.suppress(BadRequest):  # an overflow matters no more
                self._hand_over()
        self._reading.over()
        if self._ended is None:
            self.end_reason = reason
        if self._ended != "cancel":
            self._ended = "drain" if drain else "cancel"
            self._queue.shutdown(immediate=not drain)
            self.wake()

    def finish_now(self) -> None:
        """Have the worker wait for no final any more; after `end(drain=True)`."""
        self.must_finish = True
        self.wake()

    @property
    def throttled(self) -> bool:
        """Whether the recv pump is to `throttle`."""
        return self._queue.crowded

    async def throttle(self) -> None:
        """Let the worker have a moment, before the next message is put."""
        await asyncio.sleep(_HOLD_BACK_SECONDS)

    def _hand_over(self, deadline: float | None = None) -> None:
        """Give the worker what gathered; `deadline`: it has its turn in line. None: it is woken at once."""
        gathered = self._gathered
        if gathered.chunks:
            self._date()
            self._dated = 0
            # More gathers until the worker has taken this and waits again: one that is late is not made later still.
            # Set before the worker is woken, or its own wish would be overwritten.
            self._bytes_wanted = sys.maxsize
            self._gathered = AudioMessages(self._bytes_seen)
            self._put(gathered)
            if deadline is None:
                self.wake()
            else:
                self._line.line_up(deadline, self._take_turn)

    def _put(self, message: Inbound) -> None:
        if self._ended is not None:
            return
        if self._queue.async_q.empty():
            self._drops = 0
        self._queue.async_q.put_nowait(message)
        self._telemetry.queued("in_queue", self._queue.messages)
        if self._queue.evicted:
            self._count_drops()
        if self._queue.messages > self._options.in_messages:
            raise BadRequest("overflow: too many messages are waiting")

    def _count_drops(self) -> None:
        # Only this thread puts, and so evicts.
        dropped, lost_bytes = self._queue.evicted, self._queue.evicted_bytes
        self._queue.evicted = self._queue.evicted_bytes = 0
        self._drops += dropped
        self._telemetry.dropped(dropped, lost_bytes / _BYTES_PER_SECOND)
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
        """What is queued now, in order, and not much more than 2 s of audio at a time: the queue is the bound."""
        taken: list[Inbound] = []
        audio = 0
        # What is put after this look wakes the worker for another. Only this thread takes, so there is no less.
        while self._queue.messages and audio < _MOST_TAKEN:
            try:
                message = self._queue.sync_q.get_nowait()
            except (janus.SyncQueueEmpty, janus.SyncQueueShutDown):
                break  # an end at once emptied the queue
            audio += sum(map(len, message.chunks)) if isinstance(message, AudioMessages) else 0
            taken.append(message)
        return taken

    def wait(self, seconds: float, position: int | None, *, decisive: bool) -> None:
        """See `Source`: in a crowd it sleeps `seconds` longer than the audio takes to get there."""
        self._decisive = decisive
        wanted = sys.maxsize
        if position is not None:
            wanted = position * BYTES_PER_SAMPLE
            if self._bell.crowded():
                seconds += max(0, wanted - self._bytes_seen) / _BYTES_PER_SECOND
            else:
                # To be woken by the event loop just before `seconds` are over costs less than to ask it for the audio.
                wanted = min(wanted, self._gathered.offset + int((seconds - AHEAD_SECONDS) * _BYTES_PER_SECOND))
        self._bytes_wanted = wanted
        # The recv pump compares at each message: what reached the position before it was set would wait for the next.
        if self._bytes_seen >= wanted:
            self._ask()
        self.end_turn()
        try:
            self._wake.get(timeout=seconds)
        except Empty:
            if position is not None:
                self._ask()

    def _take_turn(self) -> bool:
        if self._ended == "cancel":
            return False
        self.wake()
        return True

    def end_turn(self) -> None:
        """Let the next worker of a crowd have its turn: this one waits, or has ended."""
        self._line.next(self._take_turn)

    def _ask(self) -> None:
        """Have the audio gathered so far handed over: the client may have paused."""
        # Read on the worker's thread while the loop may append: at worst it is asked for nothing, or once too often.
        if self._gathered.chunks:
            with contextlib.suppress(RuntimeError):  # a closed loop means that the process ends
                self._loop.call_soon_threadsafe(self._hand_over_asked)

    def _hand_over_asked(self, deadline: float | None = None) -> None:
        try:
            self._hand_over(deadline)
        except BadRequest as overflow:
            self._overflow = overflow.without_traceback()

    def wake(self) -> None:
        """End a `wait` now; any thread."""
        # One token is enough: whoever finds it looks at everything. Two at once cost a look that finds nothing.
        if self._wake.empty():
            self._wake.put(None)

    def __len__(self) -> int:
        return self._queue.messages + len(self._gathered.chunks)


def date_back(messages: AudioMessages, first: int, earliest: float) -> None:
    """Correct the arrivals of messages from number `first` on, which were read together: the last came when it did.

    Each came before the next by the time that the next takes to say, and none before `earliest`, monotonic seconds.
    """
    arrived = messages.arrivals[-1]
    for number in range(len(messages.chunks) - 1, first - 1, -1):
        messages.arrivals[number] = max(earliest, arrived)
        arrived -= len(messages.chunks[number]) / _BYTES_PER_SECOND
