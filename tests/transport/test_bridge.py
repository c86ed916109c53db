"""The queue of what the worker sends, and the worker's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest
import structlog

from inference.worker import SinkClosed
from observability.metrics import Metrics
from observability.recorder import Recorder
from protocol.schema import Final, Partial, Reason
from transport.bridge import WorkerThread
from transport.outbox import Outbox
from transport.queues import QueueOptions


def recorder() -> Recorder:
    return Recorder(Metrics(), structlog.get_logger(), "call")


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(test())


def partial(text: str) -> Partial:
    return Partial(call_id="call", created_at=0, segment_seq=0, text=text)


def final(text: str) -> Final:
    return Final(
        call_id="call",
        created_at=0,
        segment_seq=0,
        text=text,
        first_token_ms=0,
        latency_ms=0,
        segment_duration_ms=0,
        start_ms=0,
        end_ms=0,
        reason=Reason.ENDPOINT,
        language="en",
    )


def _fail() -> None:
    raise ValueError


@pytest.mark.parametrize("size", [1, 2, 5, 50])
def test_a_final_takes_the_place_of_partials_and_never_waits_for_them(size: int) -> None:
    """Partials fill at most 80 % of the queue, and in a small one never all of it."""

    async def conversation() -> None:
        outbox = Outbox(QueueOptions(out_messages=size), recorder())
        queued = [outbox.partial(partial(str(number))) for number in range(2 * size)]
        assert not queued[-1]
        assert len(outbox) <= max(0, min(0.8 * size + 1, size - 1))
        outbox.final(final("all"))
        assert len(outbox) == 1
        message = await outbox.get()
        assert isinstance(message, Final)
        outbox.end()
        assert await outbox.get() is None
        assert not outbox.partial(partial("late"))
        with pytest.raises(SinkClosed):
            outbox.final(final("late"))

    run(conversation)


def test_a_final_waits_for_room_and_ends_with_the_connection() -> None:
    """A thread that waits behind other finals is let go when the outbox ends."""

    async def conversation() -> None:
        outbox = Outbox(QueueOptions(out_messages=1), recorder())
        outbox.final(final("first"))
        thread = WorkerThread("waiting", lambda: outbox.final(final("second")))
        outbox.end(at_once=True)
        assert isinstance(await asyncio.wait_for(thread.ended, 5), SinkClosed)

    run(conversation)


def test_a_worker_thread_tells_how_it_ended() -> None:
    """None, or what its work failed with."""

    async def conversation() -> None:
        good, bad = WorkerThread("good", lambda: None), WorkerThread("bad", _fail)
        assert await good.ended is None
        assert isinstance(await bad.ended, ValueError)

    run(conversation)
