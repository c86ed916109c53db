"""The queue of what the client sends: its bounds, its order, and when the worker is woken."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine

import pytest
import structlog

from inference.worker_queues import AudioMessages, CommandMessage
from observability.connection_telemetry import ConnectionTelemetry
from observability.metrics import Metrics
from protocol.errors import BadRequest
from protocol.events import Commit
from tests.server import eventually
from transport import inbound_queue
from transport.inbound_queue import InboundQueue, WorkerScheduler
from transport.queues import QueueOptions

SECOND = bytes(32_000)
FRAME = bytes(640)


def new_queue(
    options: QueueOptions | None = None,
    scheduler: WorkerScheduler | None = None,
    telemetry: ConnectionTelemetry | None = None,
) -> InboundQueue:
    telemetry = telemetry or ConnectionTelemetry(Metrics(), structlog.get_logger())
    return InboundQueue(options or QueueOptions(), telemetry, scheduler or WorkerScheduler())


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(test())


def taken(queue: InboundQueue) -> bytes:
    """All audio that the worker would get now."""
    audio = b""
    while items := queue.take():
        audio += b"".join(b"".join(each.chunks) for each in items if isinstance(each, AudioMessages))
    return audio


async def waiting(queue: InboundQueue, seconds: float, position: int | None) -> threading.Thread:
    """A worker's thread that waits; the event loop knows for what."""
    thread = threading.Thread(target=queue.wait, args=(seconds, position), daemon=True)
    thread.start()
    await asyncio.to_thread(eventually, lambda: not queue._wake.empty() or queue._due_bytes < sys.maxsize)  # noqa: SLF001
    return thread


async def ends(thread: threading.Thread) -> None:
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


def test_audio_gathers_until_the_worker_needs_it() -> None:
    """Nothing is handed over before the sample that the worker waits for, and then everything is."""

    async def conversation() -> None:
        queue = new_queue()
        queue.put_audio(FRAME, 1.0)
        queue.take()
        await asyncio.to_thread(queue.wait, 0.0, None)  # takes the first message's wake-up
        thread = await waiting(queue, 60.0, 320 + 960)
        queue.put_audio(FRAME, 1.0)
        queue.put_audio(FRAME, 1.01)
        assert queue.take() == []
        queue.put_audio(FRAME, 1.02)
        await ends(thread)
        (messages,) = queue.take()
        assert isinstance(messages, AudioMessages)
        assert (messages.offset, len(messages.chunks), messages.arrivals) == (640, 3, [1.0, 1.01, 1.02])

    run(conversation)


def test_audio_is_handed_over_after_the_poll_time() -> None:
    """When as much audio has come as the worker polls for, long before the sample that it waits for."""

    async def conversation() -> None:
        queue = new_queue()
        queue._due_bytes = sys.maxsize  # noqa: SLF001 - as while the worker works
        thread = await waiting(queue, 0.4, 1_000_000)
        for _ in range(19):
            queue.put_audio(FRAME, 1.0)
        assert queue.take() == []
        queue.put_audio(FRAME, 1.0)
        assert len(taken(queue)) == 20 * len(FRAME)
        await ends(thread)

    run(conversation)


def test_audio_that_stops_short_is_heard_all_the_same() -> None:
    """A client that pauses before the sample that the worker waits for is heard after the poll."""

    async def conversation() -> None:
        queue = new_queue()
        queue._due_bytes = sys.maxsize  # noqa: SLF001 - as while the worker works
        queue.put_audio(FRAME, 1.0)
        assert queue.take() == []
        await asyncio.to_thread(queue.wait, 0.04, 5_000)
        await asyncio.sleep(0)
        assert taken(queue) == FRAME

    run(conversation)


def test_a_commit_takes_the_audio_before_it_along_and_wakes_the_worker() -> None:
    """Audio that still gathers is handed over before the commit, in order, and so it is at a drain."""

    async def conversation() -> None:
        queue = new_queue()
        thread = await waiting(queue, 60.0, 10_000)
        queue.put_audio(b"ab", 1.0)
        queue.put_command(Commit(), 2.0)
        await ends(thread)
        queue.put_audio(b"cd", 3.0)
        queue.end(drain=True)
        first, commit, last = queue.take()
        assert isinstance(first, AudioMessages)
        assert isinstance(last, AudioMessages)
        assert (first.chunks, commit, last.chunks, last.offset) == ([b"ab"], CommandMessage(Commit(), 2.0), [b"cd"], 2)
        assert queue.exhausted
        assert not queue.cancelled

    run(conversation)


def test_an_empty_message_is_nothing() -> None:
    """A client that sends them for ever takes no memory."""

    async def conversation() -> None:
        queue = new_queue()
        for _ in range(1_000):
            queue.put_audio(b"", 0.0)
        assert len(queue) == 0

    run(conversation)


def test_nothing_is_kept_of_what_comes_after_the_end() -> None:
    """A client that sends on while the server drains takes no memory."""

    async def conversation() -> None:
        queue = new_queue()
        queue.end(drain=True)
        for _ in range(1_000):
            queue.put_audio(SECOND, 0.0)
        queue.put_command(Commit(), 0.0)
        assert len(queue) == 0

    run(conversation)


def test_a_full_queue_drops_the_oldest_audio_and_counts_it() -> None:
    """By messages; what is left says where it belongs, and commits stay."""

    async def conversation() -> None:
        telemetry = ConnectionTelemetry(Metrics(), structlog.get_logger())
        queue = new_queue(QueueOptions(in_messages=4, max_drops=100), telemetry=telemetry)
        queue.put_command(Commit(), 0.0)
        for number in range(10):
            queue.put_audio(bytes([number]) * 2, float(number))
        commit, *audio = queue.take()
        assert commit == CommandMessage(Commit(), 0.0)
        assert [each.offset for each in audio if isinstance(each, AudioMessages)] == [14, 16, 18]
        assert telemetry._dropped == 7  # noqa: SLF001 - the metric has the same number, and no name here

    run(conversation)


def test_sixty_seconds_of_audio_are_the_other_bound() -> None:
    """However few the messages."""

    async def conversation() -> None:
        queue = new_queue()
        for number in range(70):
            queue.put_audio(SECOND, float(number))
        assert len(queue) == 60
        assert len(taken(queue)) == 60 * len(SECOND)

    run(conversation)


def test_too_many_drops_are_an_overflow_until_the_queue_was_empty() -> None:
    """The count begins again when the worker has taken everything."""

    async def conversation() -> None:
        queue = new_queue(QueueOptions(in_messages=2, max_drops=3))
        for number in range(5):
            queue.put_audio(b"ab", float(number))
        taken(queue)
        for number in range(5):
            queue.put_audio(b"ab", float(number))
        with pytest.raises(BadRequest, match="overflow"):
            queue.put_audio(b"ab", 9.0)

    run(conversation)


def test_a_queue_full_of_commits_is_an_overflow() -> None:
    """Commits are never dropped, so they cannot be endless."""

    async def conversation() -> None:
        queue = new_queue(QueueOptions(in_messages=3))
        for _ in range(3):
            queue.put_command(Commit(), 0.0)
        with pytest.raises(BadRequest, match="overflow"):
            queue.put_command(Commit(), 0.0)

    run(conversation)


def test_a_client_that_sends_too_fast_is_throttled() -> None:
    """From half of the queue on, until the worker has taken it."""

    async def conversation() -> None:
        queue = new_queue(QueueOptions(in_messages=2))
        queue.put_audio(b"ab", 0.0)
        assert queue.throttled
        throttling = asyncio.create_task(queue.throttle())
        await asyncio.sleep(0)
        assert not throttling.done()
        await throttling
        taken(queue)
        assert not queue.throttled

    run(conversation)


def test_only_so_many_workers_are_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others follow in the order in which their audio came, one for each that waits again or has ended."""
    monkeypatch.setattr(inbound_queue, "MAX_AWAKE", 2)
    monkeypatch.setattr(inbound_queue, "_TICK_SECONDS", 3600)

    async def conversation() -> None:
        scheduler = WorkerScheduler()
        queues = [new_queue(scheduler=scheduler) for _ in range(5)]
        for queue in queues:
            queue.put_audio(FRAME, 1.0)
        awake = [bool(taken(queue)) for queue in queues]
        assert awake == [True, True, False, False, False]
        queues[2].end(drain=False)
        scheduler.asleep(queues[1])
        assert bool(taken(queues[3]))
        queues[0].end(drain=True)
        assert bool(taken(queues[4]))
        assert scheduler.queues == 3

    run(conversation)


def test_a_worker_that_waits_for_its_client_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next tick wakes the others."""
    monkeypatch.setattr(inbound_queue, "MAX_AWAKE", 1)

    async def conversation() -> None:
        scheduler = WorkerScheduler()
        queues = [new_queue(scheduler=scheduler) for _ in range(3)]
        for queue in queues:
            queue.put_audio(FRAME, 1.0)
        for queue in queues:
            await asyncio.to_thread(eventually, lambda queue=queue: taken(queue))

    run(conversation)
