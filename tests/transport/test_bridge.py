"""The queues between the pumps and the worker: their bounds, and who is woken."""

from __future__ import annotations

import asyncio
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
from transport.bell import Bell
from transport.bridge import WorkerThread
from transport.inbox import Inbox
from transport.line import Line
from transport.queues import QueueOptions

SECOND = bytes(32_000)


def recorder() -> ConnectionTelemetry:
    return ConnectionTelemetry(Metrics(), structlog.get_logger())


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(test())


def _fail() -> None:
    raise ValueError


def heard(inbox: Inbox) -> bytes:
    """All audio that a worker would take now."""
    taken = b""
    while messages := inbox.take():
        taken += b"".join(b"".join(each.chunks) for each in messages if isinstance(each, AudioMessages))
    return taken


def test_audio_gathers_until_the_worker_needs_it() -> None:
    """Nothing is handed over before the sample that the worker waits for, and then everything is."""

    async def conversation() -> None:
        inbox = Inbox(QueueOptions(), recorder(), Bell(lambda: True), Line())
        waiting = threading.Thread(target=inbox.wait, args=(5.0, 960), kwargs={"decisive": True})
        waiting.start()
        await asyncio.to_thread(eventually, lambda: inbox._bytes_wanted == 1920)  # noqa: SLF001 - the thread waits
        inbox.put_audio(bytes(640), 1.0)
        inbox.put_audio(bytes(640), 1.01)
        assert inbox.take() == []
        inbox.put_audio(bytes(640), 1.02)
        await asyncio.to_thread(waiting.join, 5)
        assert not waiting.is_alive()
        (messages,) = inbox.take()
        assert isinstance(messages, AudioMessages)
        assert (messages.offset, len(messages.chunks), messages.arrivals) == (0, 3, [1.0, 1.01, 1.02])

    run(conversation)


def test_without_a_crowd_audio_is_handed_over_for_the_next_look() -> None:
    """Long before the sample that matters, and without the worker's asking."""

    async def conversation() -> None:
        inbox = Inbox(QueueOptions(), recorder(), Bell(), Line())
        waiting = threading.Thread(target=inbox.wait, args=(0.92, 50_000), kwargs={"decisive": False})
        inbox.put_audio(bytes(640), 1.0)
        await asyncio.sleep(0)
        inbox.take()
        inbox._wake.get_nowait()  # noqa: SLF001 - it was for what was taken
        waiting.start()
        await asyncio.to_thread(eventually, lambda: inbox._bytes_wanted == 46 * 640)  # noqa: SLF001 - the thread waits
        for _ in range(44):
            inbox.put_audio(bytes(640), 1.0)
        await asyncio.sleep(0)
        assert inbox.take() == []
        inbox.put_audio(bytes(640), 1.0)
        await asyncio.sleep(0)
        assert len(heard(inbox)) == 45 * 640
        await asyncio.to_thread(waiting.join, 5)

    run(conversation)


def test_audio_that_stops_short_is_heard_all_the_same() -> None:
    """A client that pauses before the sample that the worker waits for is heard after the poll."""

    async def conversation() -> None:
        inbox = Inbox(QueueOptions(), recorder(), Bell(), Line())
        await asyncio.to_thread(inbox.wait, 0.01, 0, decisive=False)
        inbox._bytes_wanted = 10_000  # noqa: SLF001 - as a wait leaves it
        inbox.put_audio(bytes(640), 1.0)
        assert inbox.take() == []
        await asyncio.to_thread(inbox.wait, 0.01, 5_000, decisive=False)
        await asyncio.sleep(0)
        assert heard(inbox) == bytes(640)

    run(conversation)


def test_a_commit_takes_the_audio_before_it_along() -> None:
    """Audio still gathering is handed over before the commit, in order, and so it is at a drain."""

    async def conversation() -> None:
        inbox = Inbox(QueueOptions(), recorder(), Bell(), Line())
        inbox._bytes_wanted = 10_000  # noqa: SLF001 - as a wait leaves it
        inbox.put_audio(b"ab", 1.0)
        inbox.put_command(Commit(), 2.0)
        inbox.put_audio(b"cd", 3.0)
        inbox.end(drain=True)
        first, commit, last = inbox.take()
        assert isinstance(first, AudioMessages)
        assert isinstance(last, AudioMessages)
        assert (first.chunks, commit, last.chunks, last.offset) == ([b"ab"], CommandMessage(Commit(), 2.0), [b"cd"], 2)
        assert inbox.exhausted
        assert not inbox.cancelled

    run(conversation)


def test_an_empty_message_is_nothing() -> None:
    """A client that sends them for ever takes no memory."""

    async def client() -> int:
        inbox = Inbox(QueueOptions(), recorder(), Bell(), Line())
        for _ in range(1_000):
            inbox.put_audio(b"", 0.0)
        return len(inbox)

    assert asyncio.run(client()) == 0


def test_a_full_queue_drops_the_oldest_audio_and_counts_it() -> None:
    """By messages; what is left says where it belongs, and commits stay."""

    async def conversation() -> None:
        told = recorder()
        inbox = Inbox(QueueOptions(in_messages=4, max_drops=100), told, Bell(), Line())
        inbox.put_command(Commit(), 0.0)
        for number in range(10):
            inbox.put_audio(bytes([number]) * 2, float(number))
        commit, *audio = inbox.take()
        assert commit == CommandMessage(Commit(), 0.0)
        assert [each.offset for each in audio if isinstance(each, AudioMessages)] == [14, 16, 18]
        assert told._dropped == 7  # noqa: SLF001 - the metric has the same number, and no name here

    run(conversation)


def test_sixty_seconds_of_audio_are_the_other_bound() -> None:
    """However few the messages."""

    async def conversation() -> None:
        inbox = Inbox(QueueOptions(), recorder(), Bell(), Line())
        for number in range(70):
            inbox.put_audio(SECOND, float(number))
        assert len(inbox) == 60
        assert len(heard(inbox)) == 60 * len(SECOND)

    run(conversation)


def test_too_many_drops_are_an_overflow_until_the_queue_was_empty() -> None:
    """The count begins again when the worker has taken everything."""

    async def conversation() -> None:
        inbox = Inbox(QueueOptions(in_messages=2, max_drops=3), recorder(), Bell(), Line())
        for number in range(5):
            inbox.put_audio(b"ab", float(number))
        heard(inbox)
        for number in range(5):
            inbox.put_audio(b"ab", float(number))
        with pytest.raises(BadRequest, match="overflow"):
            inbox.put_audio(b"ab", 9.0)

    run(conversation)


def test_a_queue_full_of_commits_is_an_overflow() -> None:
    """Commits are never dropped, so they cannot be endless."""

    async def conversation() -> None:
        inbox = Inbox(QueueOptions(in_messages=3), recorder(), Bell(), Line())
        for _ in range(3):
            inbox.put_command(Commit(), 0.0)
        with pytest.raises(BadRequest, match="overflow"):
            inbox.put_command(Commit(), 0.0)

    run(conversation)


def test_a_worker_thread_tells_how_it_ended() -> None:
    """None, or what its work failed with."""

    async def conversation() -> None:
        good, bad = WorkerThread("good", lambda: None), WorkerThread("bad", _fail)
        assert await good.ended is None
        assert isinstance(await bad.ended, ValueError)

    run(conversation)


def test_a_burst_is_held_back_for_a_moment() -> None:
    """So that the worker's thread has its turn."""

    async def conversation() -> None:
        inbox = Inbox(QueueOptions(in_messages=2), recorder(), Bell(), Line())
        for number in range(2):
            inbox.put_audio(b"ab", float(number))
        assert inbox.throttled
        holding = asyncio.create_task(inbox.throttle())
        await asyncio.sleep(0)
        assert not holding.done()
        await holding
        heard(inbox)
        assert not inbox.throttled

    run(conversation)


def test_a_connection_that_ended_takes_nobodys_turn() -> None:
    """Audio and close that are read together: its worker is gone when its turn comes."""

    async def conversation() -> None:
        line, woken = Line(), list[str]()
        inbox = Inbox(QueueOptions(), recorder(), Bell(lambda: True), line)
        inbox.put_audio(SECOND[:640], 1.0)
        inbox.end(drain=False)
        await asyncio.sleep(0)

        def wake() -> bool:
            woken.append("other")
            return True

        line.line_up(9.0, wake)
        await asyncio.sleep(0)
        assert woken == ["other"]

    run(conversation)
