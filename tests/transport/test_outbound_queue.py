"""The queue between a session's worker and the send loop: its bounds, and which events leave it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest
import structlog

from inference.worker_interfaces import SinkClosed
from observability.connection_telemetry import ConnectionTelemetry
from observability.metrics import Metrics
from protocol.events import Cleared, Event, Final, Hypothesis, Reason, SpeechStopped
from tests.patience import PATIENCE_SECONDS
from transport.bridge import WorkerThread
from transport.outbound_queue import OutboundQueue
from transport.queue_options import QueueOptions


def queue_of(size: int) -> OutboundQueue:
    return OutboundQueue(QueueOptions(out_messages=size), ConnectionTelemetry(Metrics(), structlog.get_logger()))


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(test())


def partial(text: str) -> Hypothesis:
    return Hypothesis(0, text, 0)


def final(text: str) -> Final:
    return Final(0, text, 0, 0, Reason.ENDPOINT, "en", 0, 0.0)


@pytest.mark.parametrize("size", [1, 2, 5, 50])
def test_a_final_replaces_partials_and_never_waits_for_them(size: int) -> None:
    """Partials fill at most 80 % of the queue, and in a small one never all of it."""

    async def conversation() -> None:
        queue = queue_of(size)
        queued = [queue.offer(partial(str(number))) for number in range(2 * size)]
        assert not queued[-1]
        assert len(queue) <= max(0, min(0.8 * size + 1, size - 1))
        queue.put(final("all"))
        assert len(queue) == 1
        assert await queue.get() == final("all")
        queue.end()
        assert await queue.get() is None
        assert not queue.offer(partial("late"))
        with pytest.raises(SinkClosed):
            queue.put(final("late"))

    run(conversation)


def test_a_cleared_utterance_takes_its_partials_along() -> None:
    """What the client is sent after `cleared` belongs to no cleared utterance; speech events and finals stay."""

    async def conversation() -> None:
        queue, sent = queue_of(50), list[Event | None]()
        queue.put(final("before"))
        queue.offer(SpeechStopped(10))
        queue.offer(partial("dropped"))
        queue.put(Cleared())
        queue.end()
        while (event := await queue.get()) is not None:
            sent.append(event)
        assert sent == [final("before"), SpeechStopped(10), Cleared()]

    run(conversation)


def test_a_final_leaves_the_partials_of_the_other_channel() -> None:
    """The other channel's utterance is still open; `cleared` drops the utterances of both."""

    async def conversation() -> None:
        queue, sent = queue_of(50), list[Event | None]()
        queue.offer(Hypothesis(0, "replaced", 0, channel=0))
        queue.offer(Hypothesis(0, "open", 0, channel=1))
        queue.put(final("first"))
        sent += [await queue.get(), await queue.get()]
        queue.offer(Hypothesis(1, "dropped", 0, channel=0))
        queue.offer(Hypothesis(0, "dropped", 0, channel=1))
        queue.put(Cleared())
        sent.append(await queue.get())
        assert sent == [Hypothesis(0, "open", 0, channel=1), final("first"), Cleared()]

    run(conversation)


def test_a_final_waits_for_room_and_ends_with_the_session() -> None:
    """A thread that waits behind other finals goes on when the queue ends."""

    async def conversation() -> None:
        queue = queue_of(1)
        queue.put(final("first"))
        thread = WorkerThread("waiting", lambda: queue.put(final("second")))
        queue.end(at_once=True)
        assert isinstance(await asyncio.wait_for(thread.ended, PATIENCE_SECONDS), SinkClosed)

    run(conversation)
