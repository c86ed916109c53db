"""In a crowd a socket is left unread in between, and nobody is told a later arrival than the true one."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import structlog

from inference.worker import AudioMessages, CommitMessage
from observability.metrics import Metrics
from observability.recorder import Recorder
from transport.bell import REST_SECONDS, Bell
from transport.inbox import Inbox, date_back
from transport.line import Line
from transport.queues import QueueOptions

FRAME = bytes(640)


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


@asynccontextmanager
async def crowd() -> AsyncIterator[tuple[Inbox, asyncio.ReadTransport]]:
    """A connection's inbox in a crowd, and a real transport that it reads from."""
    end, other_end = os.pipe()
    with os.fdopen(end, "rb") as pipe, os.fdopen(other_end, "wb"):
        socket, _ = await asyncio.get_running_loop().connect_read_pipe(asyncio.Protocol, pipe)
        recorder = Recorder(Metrics(), structlog.get_logger(), "call")
        try:
            yield Inbox(QueueOptions(), recorder, Bell(lambda: True), Line(), socket), socket
        finally:
            socket.close()


async def until(claim: Callable[[], bool]) -> None:
    while not claim():  # noqa: ASYNC110 - a transport tells nobody
        await asyncio.sleep(0.005)


def test_a_socket_rests_after_it_was_read_and_is_read_again() -> None:
    """Whether or not anything was due."""

    async def conversation() -> None:
        async with crowd() as (inbox, socket):
            for _ in range(2):
                inbox.put_audio(FRAME, time.monotonic())
                assert socket.is_reading()  # there may be more
                await asyncio.sleep(0)
                assert not socket.is_reading()
                await until(socket.is_reading)

    run(conversation)


def test_what_the_worker_waits_for_ends_the_rest() -> None:
    """When a live client will have sent it, and otherwise after 60 ms."""

    async def conversation() -> None:
        async with crowd() as (inbox, socket):
            for wanted, enough in ((2 * len(FRAME), 0.02), (1_000_000, REST_SECONDS)):
                now = time.monotonic()
                inbox.put_audio(FRAME, now)
                await asyncio.sleep(0)
                inbox._bytes_wanted = inbox._bytes_seen + wanted - len(FRAME)  # noqa: SLF001 - as a wait leaves it
                inbox.rings(now + enough / 2)
                assert not socket.is_reading()
                inbox.rings(time.monotonic() + enough)
                assert socket.is_reading()

    run(conversation)


def test_nothing_more_is_read_while_the_pump_holds_back() -> None:
    """Otherwise messages would pile up before the pump, where nothing bounds them."""

    async def conversation() -> None:
        async with crowd() as (inbox, socket):
            inbox.put_audio(FRAME, time.monotonic())
            await asyncio.sleep(0)
            assert not socket.is_reading()
            holding = asyncio.create_task(inbox.hold_back())
            await asyncio.sleep(0)
            assert not inbox.rings(time.monotonic() + 1)
            assert not socket.is_reading()
            await holding
            inbox.rings(time.monotonic() + 1)
            assert socket.is_reading()

            holding = asyncio.create_task(_flood(inbox))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert socket.is_reading()  # it is left to uvicorn
            holding.cancel()
            await asyncio.wait([holding])
            inbox.put_audio(FRAME, time.monotonic())
            await asyncio.sleep(0)
            assert not socket.is_reading()

    run(conversation)


async def _flood(inbox: Inbox) -> None:
    """As the recv pump does when the in queue fills."""
    inbox.put_audio(FRAME, time.monotonic())
    await inbox.hold_back()


def test_the_end_of_a_connection_ends_its_rest() -> None:
    """The client's close is still to be read; a socket that is closed already is left alone."""

    async def conversation() -> None:
        async with crowd() as (inbox, socket):
            inbox.put_audio(FRAME, time.monotonic())
            await asyncio.sleep(0)
            inbox.end(drain=True)
            await until(socket.is_reading)
        async with crowd() as (inbox, socket):
            inbox.put_audio(FRAME, time.monotonic())
            await asyncio.sleep(0)
            socket.close()
            assert inbox.rings(time.monotonic())

    run(conversation)


def test_what_lay_in_the_socket_did_not_come_when_it_was_read() -> None:
    """Audio came as fast as it is spoken; a commit may have come at any time of the rest."""

    async def conversation() -> None:
        async with crowd() as (inbox, socket):
            began = time.monotonic()
            inbox.put_audio(FRAME, began)
            await until(lambda: not socket.is_reading())
            await until(socket.is_reading)
            read = time.monotonic()
            for _ in range(3):
                inbox.put_audio(FRAME, read)
            inbox.put_commit(read)
            earlier, audio, commit = inbox.take()
            assert isinstance(earlier, AudioMessages)
            assert isinstance(audio, AudioMessages)
            assert isinstance(commit, CommitMessage)
            first, second, third = audio.arrivals
            assert (earlier.arrivals, third) == ([began], read)
            assert began <= commit.arrived <= first <= second < read - 0.019
            assert commit.arrived < read - REST_SECONDS / 2

    run(conversation)


def test_what_comes_long_after_a_rest_came_when_it_was_read() -> None:
    """A commit after a silence is not taken for one that waited."""

    async def conversation() -> None:
        async with crowd() as (inbox, socket):
            inbox.put_audio(FRAME, time.monotonic())
            await until(lambda: not socket.is_reading())
            await until(socket.is_reading)
            await until(lambda: inbox._socket_is == "watched")  # noqa: SLF001 - at the next ring
            inbox.put_commit(now := time.monotonic())
            assert inbox.take()[-1] == CommitMessage(now)

    run(conversation)


def test_arrivals_go_back_by_what_each_message_takes_to_say() -> None:
    """But no further than the time before which nothing can have come; earlier messages are left alone."""
    messages = AudioMessages(0, [FRAME] * 5, [1.0, 9.0, 9.0, 9.0, 9.0])
    date_back(messages, 1, 8.95)
    assert [round(arrival, 3) for arrival in messages.arrivals] == [1.0, 8.95, 8.96, 8.98, 9.0]
