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
from transport.reading import Reading

FRAME = bytes(640)
LATER = 1.0
"""Seconds after which every rest is over."""


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


@asynccontextmanager
async def a_socket() -> AsyncIterator[asyncio.ReadTransport]:
    """A real transport that is read from."""
    end, other_end = os.pipe()
    with os.fdopen(end, "rb") as pipe, os.fdopen(other_end, "wb"):
        socket, _ = await asyncio.get_running_loop().connect_read_pipe(asyncio.Protocol, pipe)
        try:
            yield socket
        finally:
            socket.close()


def reading(socket: asyncio.ReadTransport, needed_in: float = LATER) -> Reading:
    return Reading(Bell(lambda: True), lambda: needed_in, socket)


async def until(claim: Callable[[], bool]) -> None:
    while not claim():  # noqa: ASYNC110 - a transport tells nobody
        await asyncio.sleep(0.005)


def test_a_socket_rests_and_is_read_again() -> None:
    """However often; only once nothing had come in a rest is the next message as new as it looks."""

    async def conversation() -> None:
        async with a_socket() as socket:
            read = reading(socket)
            for _ in range(2):
                assert read.unread_since is None
                before = time.monotonic()
                read.rest()
                assert not socket.is_reading()
                await until(socket.is_reading)
                assert read.unread_since is not None
                assert read.unread_since >= before
                await until(lambda: read.unread_since is None)

    run(conversation)


def test_what_is_waited_for_ends_a_rest() -> None:
    """When a live client will have sent it, and otherwise after 60 ms."""

    async def conversation() -> None:
        async with a_socket() as socket:
            for needed_in, enough in ((0.02, 0.02), (LATER, REST_SECONDS)):
                read = reading(socket, needed_in)
                read.rest()
                assert read.unread_since is not None
                assert not read.rings(read.unread_since + enough - 0.001)
                assert not socket.is_reading()
                assert not read.rings(read.unread_since + enough)
                assert socket.is_reading()

    run(conversation)


def test_without_a_crowd_nobody_rests() -> None:
    """Nor goes on resting when others leave."""

    async def conversation() -> None:
        crowd = [True]
        async with a_socket() as socket:
            read = Reading(Bell(lambda: bool(crowd)), lambda: LATER, socket)
            read.rest()
            crowd.clear()
            read.rings(time.monotonic())
            assert socket.is_reading()
            read.rest()
            assert socket.is_reading()

    run(conversation)


def test_nothing_more_is_read_while_messages_are_held_back() -> None:
    """Otherwise they would pile up before the pump, where nothing bounds them; and nobody rests then."""

    async def conversation() -> None:
        async with a_socket() as socket:
            read = reading(socket)
            read.rest()
            read.held_back = True
            assert not read.rings(time.monotonic() + LATER)
            assert not socket.is_reading()
            read.held_back = False
            read.rings(time.monotonic() + LATER)
            assert socket.is_reading()
            read.held_back = True
            read.rest()
            assert socket.is_reading()

    run(conversation)


def test_the_end_of_a_connection_ends_its_rest() -> None:
    """The client's close is still to be read; a socket that is closed already is left alone."""

    async def conversation() -> None:
        async with a_socket() as socket:
            read = reading(socket)
            read.rest()
            read.over()
            await until(socket.is_reading)
            read.rest()
            assert socket.is_reading()
        async with a_socket() as socket:
            read = reading(socket)
            read.rest()
            socket.close()
            assert read.rings(time.monotonic())
            read.rest()

    run(conversation)


def test_what_lay_in_the_socket_did_not_come_when_it_was_read() -> None:
    """Audio came as fast as it is spoken; a commit may have come at any time of the rest."""

    async def conversation() -> None:
        async with a_socket() as socket:
            recorder = Recorder(Metrics(), structlog.get_logger(), "call")
            inbox = Inbox(QueueOptions(), recorder, Bell(lambda: True), Line(), socket)
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


def test_arrivals_go_back_by_what_each_message_takes_to_say() -> None:
    """But no further than the time before which nothing can have come; earlier messages are left alone."""
    messages = AudioMessages(0, [FRAME] * 5, [1.0, 9.0, 9.0, 9.0, 9.0])
    date_back(messages, 1, 8.95)
    assert [round(arrival, 3) for arrival in messages.arrivals] == [1.0, 8.95, 8.96, 8.98, 9.0]
