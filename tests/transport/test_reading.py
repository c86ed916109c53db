"""In a crowd a socket is left unread in between, and nobody is told a later arrival than the true one."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import cast

import pytest
import structlog
import uvloop

from inference.worker_queues import AudioMessages, CommandMessage
from observability.connection_telemetry import ConnectionTelemetry
from observability.metrics import Metrics
from protocol.events import Commit
from transport.bell import REST_SECONDS, Bell, Resting
from transport.inbox import Inbox, date_back
from transport.line import Line
from transport.queues import QueueOptions
from transport.reading import REST_BYTES, Reading

FRAME = bytes(640)
LATER = 1.0
"""Seconds after which every rest is over."""


Test = Callable[[], Coroutine[None, None, None]]
Run = Callable[[Test], None]


def run(test: Test) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


def run_on_uvloop(test: Test) -> None:
    uvloop.run(asyncio.wait_for(test(), 10))


on_each_loop = pytest.mark.parametrize("run", [run, run_on_uvloop])


class _Connection(asyncio.Protocol):
    """The server's end of a TCP connection, and what it was told of it."""

    def __init__(self) -> None:
        self.heard = 0
        """Bytes."""
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self.socket: socket.socket = transport.get_extra_info("socket")

    def data_received(self, data: bytes) -> None:
        self.heard += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True

    @property
    def rests(self) -> bool:
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) > 1


@asynccontextmanager
async def a_connection() -> AsyncIterator[tuple[_Connection, socket.socket]]:
    """A real one, and its client."""
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        transport, connection = await asyncio.get_running_loop().connect_accepted_socket(_Connection, accepted)
        try:
            yield connection, client
        finally:
            transport.close()


class _Mute(Bell):
    """Never rings: a rest lasts for good."""

    def rest(self, resting: Resting) -> None:
        pass


def reading(connection: _Connection, needed_in: float = LATER, bell: type[Bell] = Bell) -> Reading:
    return Reading(bell(lambda: True), lambda: needed_in, connection.transport)


async def until(claim: Callable[[], bool]) -> None:
    while not claim():  # noqa: ASYNC110 - a transport tells nobody
        await asyncio.sleep(0.005)


async def passes() -> None:
    """Of the event loop, enough for what a socket holds to reach its connection."""
    for _ in range(10):
        await asyncio.sleep(0)


@on_each_loop
def test_a_socket_rests_and_is_read_again(run: Run) -> None:
    """However often; only once nothing had come in a rest is the next message as new as it looks."""

    async def conversation() -> None:
        async with a_connection() as (connection, client):
            read = reading(connection)
            for number in range(2):
                assert read.unread_since is None
                before = time.monotonic()
                read.rest()
                client.sendall(FRAME)
                await passes()
                assert connection.heard == number * len(FRAME)
                await until(lambda: connection.heard > number * len(FRAME))  # noqa: B023 - awaited here
                assert read.unread_since is not None
                assert read.unread_since >= before
                await until(lambda: read.unread_since is None)

    run(conversation)


def test_what_is_waited_for_ends_a_rest() -> None:
    """When a live client will have sent it, and otherwise after 80 ms."""

    async def conversation() -> None:
        async with a_connection() as (connection, _):
            for needed_in, enough in ((0.02, 0.02), (LATER, REST_SECONDS)):
                read = reading(connection, needed_in)
                read.rest()
                assert read.unread_since is not None
                assert not read.rings(read.unread_since + enough - 0.001)
                assert connection.rests
                assert not read.rings(read.unread_since + enough)
                assert not connection.rests

    run(conversation)


@on_each_loop
def test_a_burst_is_read_at_once(run: Run) -> None:
    """Little piles up in the system's buffer; and the socket rests on."""

    async def conversation() -> None:
        async with a_connection() as (connection, client):
            read = reading(connection, bell=_Mute)
            read.rest()
            client.sendall(bytes(REST_BYTES - 1))
            await passes()
            assert connection.heard == 0
            client.sendall(FRAME)
            await until(lambda: connection.heard >= REST_BYTES)
            read.rest()
            assert connection.rests

    run(conversation)


@on_each_loop
def test_a_client_that_leaves_is_noticed_in_its_rest(run: Run) -> None:
    """With what it said last."""

    async def conversation() -> None:
        async with a_connection() as (connection, client):
            read = reading(connection, bell=_Mute)
            read.rest()
            client.sendall(FRAME)
            client.close()
            await until(lambda: connection.gone)
            assert connection.heard == len(FRAME)

    run(conversation)


@on_each_loop
def test_nothing_more_is_read_while_messages_are_held_back(run: Run) -> None:
    """uvicorn paused the transport: no ring reads on, or they would pile up before the pump, unbounded."""

    async def conversation() -> None:
        async with a_connection() as (connection, client):
            read = reading(connection, bell=_Mute)
            connection.transport.pause_reading()
            read.rest()
            client.sendall(FRAME)
            read.rings(time.monotonic() + LATER)
            await passes()
            assert connection.heard == 0
            connection.transport.resume_reading()
            await until(lambda: connection.heard == len(FRAME))

    run(conversation)


def test_without_a_crowd_nobody_rests() -> None:
    """Nor goes on resting when others leave."""

    async def conversation() -> None:
        crowd = [True]
        async with a_connection() as (connection, _):
            read = Reading(Bell(lambda: bool(crowd)), lambda: LATER, connection.transport)
            read.rest()
            assert connection.rests
            crowd.clear()
            read.rings(time.monotonic())
            assert not connection.rests
            read.rest()
            assert not connection.rests

    run(conversation)


def test_only_a_tcp_connection_rests() -> None:
    """A Unix socket would tell of each message all the same, and their arrivals would be taken for older."""

    async def conversation() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, ours)
            for other in (transport, None):
                read = Reading(Bell(lambda: True), lambda: LATER, other)
                read.rest()
                assert read.unread_since is None
            transport.close()

    run(conversation)


def test_the_end_of_a_connection_ends_its_rest() -> None:
    """The client's close is still to be read; a socket that is closed already is left alone."""

    async def conversation() -> None:
        async with a_connection() as (connection, _):
            read = reading(connection)
            read.rest()
            read.over()
            await until(lambda: not connection.rests)
            read.rest()
            assert not connection.rests
        async with a_connection() as (connection, _):
            read = reading(connection)
            read.rest()
            connection.transport.close()
            assert read.rings(time.monotonic())
            read.rest()

    run(conversation)


def test_what_lay_in_the_socket_did_not_come_when_it_was_read() -> None:
    """Audio came as fast as it is spoken; a commit may have come at any time of the rest."""

    async def conversation() -> None:
        async with a_connection() as (connection, _):
            recorder = ConnectionTelemetry(Metrics(), structlog.get_logger())
            inbox = Inbox(QueueOptions(), recorder, Bell(lambda: True), Line(), connection.transport)
            began = time.monotonic()
            inbox.put_audio(FRAME, began)
            await until(lambda: connection.rests)
            await until(lambda: not connection.rests)
            read = time.monotonic()
            for _ in range(3):
                inbox.put_audio(FRAME, read)
            inbox.put_command(Commit(), read)
            earlier, audio, commit = inbox.take()
            assert isinstance(earlier, AudioMessages)
            assert isinstance(audio, AudioMessages)
            assert isinstance(commit, CommandMessage)
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
