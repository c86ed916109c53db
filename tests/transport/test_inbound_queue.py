"""The queue of what the client sends: its bounds, its order, and when the worker is woken."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine

import pytest
import structlog

from inference.worker_interfaces import AudioMessages, CommandMessage, NextDecision
from observability.connection_telemetry import ConnectionTelemetry
from observability.metrics import Metrics
from protocol.errors import BadRequest, ServerOverloaded
from protocol.events import Commit
from tests.patience import PATIENCE_SECONDS
from tests.server import eventually
from transport import worker_scheduler
from transport.inbound_queue import InboundQueue
from transport.queue_options import QueueOptions
from transport.worker_scheduler import WorkerScheduler

SECOND = bytes(32_000)
FRAME = bytes(640)
LONG = 3600.0
"""Seconds of a wait that outlasts `ends`, so that only a wake-up ends it."""


def new_queue(
    options: QueueOptions | None = None,
    scheduler: WorkerScheduler | None = None,
    telemetry: ConnectionTelemetry | None = None,
    channels: int = 1,
) -> InboundQueue:
    telemetry = telemetry or ConnectionTelemetry(Metrics(), structlog.get_logger())
    scheduler = scheduler or WorkerScheduler()
    return InboundQueue(options or QueueOptions(), telemetry, scheduler, lambda _: None, channels)


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(test())


def taken(queue: InboundQueue) -> bytes:
    """All audio that the worker would get now."""
    audio = b""
    while items := queue.take():
        audio += b"".join(b"".join(each.chunks) for each in items if isinstance(each, AudioMessages))
    return audio


def woken(queue: InboundQueue) -> bool:
    """Whether the worker was woken since the last call."""
    found = not queue._wake.empty()  # noqa: SLF001
    if found:
        queue._wake.get()  # noqa: SLF001
    return found


async def waiting(queue: InboundQueue, seconds: float, decision: int, end: int = sys.maxsize) -> threading.Thread:
    """A worker's thread that waits; the event loop knows for what."""
    queue._due_bytes = sys.maxsize  # noqa: SLF001 - as while the worker works
    thread = threading.Thread(target=queue.wait, args=(seconds, NextDecision(decision, end)), daemon=True)
    thread.start()
    await asyncio.to_thread(eventually, lambda: not queue._wake.empty() or queue._due_bytes < sys.maxsize)  # noqa: SLF001
    return thread


async def ends(thread: threading.Thread) -> None:
    """Wait until the worker has been woken, or its own wait is over."""
    await asyncio.to_thread(thread.join, PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_audio_gathers_until_the_worker_needs_it() -> None:
    """Nothing is handed over before the sample that the worker waits for, and then everything is."""

    async def conversation() -> None:
        queue = new_queue()
        queue.put_audio(FRAME, 1.0, live=True)
        queue.take()
        await asyncio.to_thread(queue.wait, 0.0, None)  # takes the first message's wake-up
        thread = await waiting(queue, LONG, 320 + 960)
        queue.put_audio(FRAME, 1.0, live=True)
        queue.put_audio(FRAME, 1.01, live=True)
        assert queue.take() == []
        queue.put_audio(FRAME, 1.02, live=True)
        await ends(thread)
        (messages,) = queue.take()
        assert isinstance(messages, AudioMessages)
        assert (messages.offset, len(messages.chunks), messages.arrivals) == (640, 3, [1.0, 1.01, 1.02])

    run(conversation)


def test_audio_is_handed_over_after_the_poll_time() -> None:
    """When as much audio has come as the worker polls for, long before the sample that it waits for."""

    async def conversation() -> None:
        queue = new_queue()
        thread = await waiting(queue, 0.4, 1_000_000)
        for _ in range(19):
            queue.put_audio(FRAME, 1.0, live=True)
        assert queue.take() == []
        queue.put_audio(FRAME, 1.0, live=True)
        assert len(taken(queue)) == 20 * len(FRAME)
        await ends(thread)

    run(conversation)


def test_audio_that_stops_short_is_transcribed_all_the_same() -> None:
    """A client that pauses before the sample that the worker waits for is heard after the poll."""

    async def conversation() -> None:
        queue = new_queue()
        queue._due_bytes = sys.maxsize  # noqa: SLF001 - as while the worker works
        queue.put_audio(FRAME, 1.0, live=True)
        assert queue.take() == []
        await asyncio.to_thread(queue.wait, 0.04, NextDecision(5_000, 5_000))
        await asyncio.sleep(0)
        assert taken(queue) == FRAME

    run(conversation)


def test_a_commit_takes_the_audio_before_it_along_and_wakes_the_worker() -> None:
    """Audio that still gathers is handed over before the commit, in order, and so it is at a drain."""

    async def conversation() -> None:
        queue = new_queue()
        thread = await waiting(queue, LONG, 10_000)
        queue.put_audio(b"ab", 1.0, live=True)
        queue.put_command(Commit(), 2.0)
        await ends(thread)
        queue.put_audio(b"cd", 3.0, live=True)
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
            queue.put_audio(b"", 0.0, live=True)
        assert len(queue) == 0

    run(conversation)


def test_nothing_is_kept_of_what_comes_after_the_end() -> None:
    """A client that sends on while the server drains takes no memory."""

    async def conversation() -> None:
        queue = new_queue()
        queue.end(drain=True)
        for _ in range(1_000):
            queue.put_audio(SECOND, 0.0, live=True)
        queue.put_command(Commit(), 0.0)
        assert len(queue) == 0

    run(conversation)


def test_a_full_queue_drops_the_oldest_live_audio_and_counts_it() -> None:
    """By seconds, whatever the messages' length; what is left says where it belongs, and commands stay."""

    async def conversation() -> None:
        telemetry = ConnectionTelemetry(Metrics(), structlog.get_logger())
        queue = new_queue(QueueOptions(in_seconds=3), telemetry=telemetry)
        queue.put_command(Commit(), 0.0)
        for number in range(10):
            queue.put_audio(SECOND, float(number), live=True)
        commit, *audio = queue.take() + queue.take()
        assert commit == CommandMessage(Commit(), 0.0)
        assert [each.offset for each in audio if isinstance(each, AudioMessages)] == [
            7 * 32_000,
            8 * 32_000,
            9 * 32_000,
        ]
        assert telemetry._dropped == 7  # noqa: SLF001 - the metric has the same number, and no name here

    run(conversation)


@pytest.mark.parametrize("message", [640, 86, 32_000, 256_000])
def test_thirty_seconds_of_audio_wait(message: int) -> None:
    """However long the messages are, and however many."""

    async def conversation() -> None:
        queue = new_queue()
        for _ in range(30 * 32_000 // message):
            queue.put_audio(bytes(message), 1.0, live=True)
        queue.put_command(Commit(), 2.0)  # hands over what is still gathering
        assert len(taken(queue)) == 30 * 32_000 // message * message

    run(conversation)


def test_as_many_seconds_of_two_channels_wait() -> None:
    """The bound is of time: twice the bytes wait, and what is dropped counts in both channels."""

    async def conversation() -> None:
        metrics = Metrics()
        telemetry = ConnectionTelemetry(metrics, structlog.get_logger())
        queue = new_queue(QueueOptions(in_seconds=10), telemetry=telemetry, channels=2)
        for _ in range(11):
            queue.put_audio(2 * SECOND, 1.0, live=True)
        assert len(taken(queue)) == 10 * 2 * len(SECOND)
        assert metrics.registry.get_sample_value("stt_dropped_audio_seconds_total") == 2
        assert queue.seconds_of(SECOND) == 0.5

    run(conversation)


def test_audio_ahead_of_real_time_is_never_dropped() -> None:
    """Its client is throttled instead: slowly from half of the queue on, and completely when the queue is full."""

    async def conversation() -> None:
        queue = new_queue(QueueOptions(in_seconds=10))
        pauses = []
        for number in range(10):
            assert not queue.is_full
            queue.put_audio(SECOND, float(number), live=False)
            pauses.append(queue.throttle_seconds(SECOND))
        assert queue.is_full
        assert pauses[:5] == [0.0] * 5
        assert pauses == sorted(pauses)
        assert pauses[-1] == pytest.approx(4.0)
        assert len(taken(queue)) == 10 * len(SECOND)
        assert not queue.is_full

    run(conversation)


def test_an_end_lets_a_throttled_client_go_on() -> None:
    """Its close frame lies behind its audio."""

    async def conversation() -> None:
        queue = new_queue(QueueOptions(in_seconds=1))
        queue.put_audio(SECOND, 1.0, live=False)
        assert queue.is_full
        queue.end(drain=True)
        assert not queue.is_full

    run(conversation)


def test_too_much_dropped_audio_is_an_overload_until_the_queue_was_empty() -> None:
    """In units of 20 ms; the count begins again when the worker has taken everything."""

    async def conversation() -> None:
        queue = new_queue(QueueOptions(in_seconds=1, max_drops=150))
        for number in range(4):
            queue.put_audio(SECOND, float(number), live=True)
        taken(queue)
        for number in range(4):
            queue.put_audio(SECOND, float(number), live=True)
        with pytest.raises(ServerOverloaded, match=r"4\.0 s of audio were dropped"):
            queue.put_audio(SECOND, 9.0, live=True)

    run(conversation)


def test_the_oldest_message_tells_the_queues_age() -> None:
    """0 when the worker has taken everything."""

    async def conversation() -> None:
        queue = new_queue()
        assert queue.age_seconds == 0.0
        queue.put_audio(SECOND, time.monotonic() - 7, live=True)
        assert queue.age_seconds >= 7
        taken(queue)
        assert queue.age_seconds == 0.0

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


@pytest.mark.parametrize(("end", "frames"), [(6_400, 15), (4_160, 13)])
def test_with_many_sessions_a_worker_waits_for_more_audio(end: int, frames: int) -> None:
    """Until the poll time after a pause can be decided, but never beyond the sample at which an utterance can end."""

    async def conversation() -> None:
        scheduler = WorkerScheduler()
        queue, *_ = [new_queue(scheduler=scheduler) for _ in range(30)]
        thread = await waiting(queue, 0.1, 3_200, end)
        for _ in range(frames - 1):
            queue.put_audio(FRAME, 1.0, live=True)
        assert queue.take() == []
        queue.put_audio(FRAME, 1.0, live=True)
        assert len(taken(queue)) == frames * len(FRAME)
        await ends(thread)

    run(conversation)


def test_a_worker_whose_utterance_may_end_is_woken_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before all that only look for a pause or a hypothesis."""
    monkeypatch.setattr(worker_scheduler, "MAX_AWAKE", 0)

    async def conversation() -> None:
        scheduler = WorkerScheduler()
        queues = [new_queue(scheduler=scheduler) for _ in range(3)]
        for queue, end in zip(queues, (32_000, 320, 320), strict=True):
            thread = await waiting(queue, 0.02, 32_000, end)
            queue.put_audio(FRAME, 1.0, live=True)
            queue.wake()
            await ends(thread)
        monkeypatch.setattr(worker_scheduler, "MAX_AWAKE", 1)
        order: list[int] = []
        for _ in queues:
            scheduler.worker_sleeps(queues[order[-1]] if order else queues[0])
            order += [number for number, queue in enumerate(queues) if woken(queue)]
        assert order == [1, 2, 0]

    run(conversation)


def test_only_so_many_workers_are_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others follow in the order in which their audio came, one for each that waits again or has ended."""
    monkeypatch.setattr(worker_scheduler, "MAX_AWAKE", 2)
    monkeypatch.setattr(worker_scheduler, "TICK_SECONDS", 3600)

    async def conversation() -> None:
        scheduler = WorkerScheduler()
        queues = [new_queue(scheduler=scheduler) for _ in range(5)]
        for queue in queues:
            queue.put_audio(FRAME, 1.0, live=True)
        awake = [woken(queue) for queue in queues]
        assert awake == [True, True, False, False, False]
        queues[2].end(drain=False)
        scheduler.worker_sleeps(queues[1])
        assert woken(queues[3])
        queues[0].end(drain=True)
        assert woken(queues[4])
        assert scheduler.queues == 3

    run(conversation)


def test_a_worker_that_waits_for_its_client_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next tick wakes the others."""
    monkeypatch.setattr(worker_scheduler, "MAX_AWAKE", 1)

    async def conversation() -> None:
        scheduler = WorkerScheduler()
        queues = [new_queue(scheduler=scheduler) for _ in range(3)]
        for queue in queues:
            queue.put_audio(FRAME, 1.0, live=True)
        for queue in queues:
            await asyncio.to_thread(eventually, lambda queue=queue: woken(queue))

    run(conversation)


def test_with_many_sessions_a_socket_is_read_again_on_a_tick() -> None:
    """When the worker needs what will be there; a drain reads all sockets at once, and from then on always."""

    async def conversation() -> None:
        scheduler = WorkerScheduler()
        queues = [new_queue(scheduler=scheduler) for _ in range(30)]
        read: list[int] = []
        queues[0].read_later(lambda: read.append(0))
        assert not read
        await asyncio.to_thread(eventually, lambda: read == [0])
        queues[1].read_later(lambda: read.append(1))
        scheduler.read_at_once()
        assert read == [0, 1]
        queues[2].read_later(lambda: read.append(2))
        assert read == [0, 1, 2]

    run(conversation)


def test_with_few_sessions_a_socket_is_read_at_once() -> None:
    """A tick would only delay what it brings."""

    async def conversation() -> None:
        queue = new_queue()
        read: list[int] = []
        queue.read_later(lambda: read.append(0))
        assert read == [0]

    run(conversation)
