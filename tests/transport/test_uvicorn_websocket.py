"""How uvicorn's WebSocket protocol, as corrected here, ends connections of clients that do not read."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from websockets.frames import CloseCode, Opcode

from bench.common.websocket_client import client_frame
from tests.patience import PATIENCE_SECONDS
from tests.transport.accepted_connection import accepted_connection
from transport.uvicorn_websocket import UvicornWebSocket

MORE_THAN_THE_SYSTEM_BUFFERS = "x" * 20_000_000


class Application:
    """Sends so much that a part stays with the server until its client reads; returns when the client is gone."""

    def __init__(self) -> None:
        self.has_sent = asyncio.Event()
        self.left: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": MORE_THAN_THE_SYSTEM_BUFFERS})
        self.has_sent.set()
        while (message := await receive())["type"] != "websocket.disconnect":
            pass
        self.left.set_result(message["code"])


@asynccontextmanager
async def unread_connection(**options: float) -> AsyncIterator[tuple[Application, UvicornWebSocket, socket.socket]]:
    """A connection whose client has read nothing; `options` are uvicorn's."""
    application = Application()
    config = Config(application, log_config=None, **options)  # type: ignore[arg-type] # of several types
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        accepted_connection(config, UvicornWebSocket) as (protocol, client),
    ):
        await application.has_sent.wait()
        assert protocol.transport.get_write_buffer_size() > 0
        yield application, protocol, client
        while not protocol.disconnected:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)


def test_the_server_stops_while_a_closing_handshake_is_unread() -> None:
    """uvicorn alone raises, and then neither closes other connections nor lets the application end."""

    async def conversation() -> None:
        async with unread_connection() as (application, protocol, client):
            close = client_frame(Opcode.CLOSE, CloseCode.GOING_AWAY.to_bytes(2))
            await asyncio.get_running_loop().sock_sendall(client, close)
            assert await application.left == CloseCode.GOING_AWAY
            protocol.shutdown()

    asyncio.run(conversation())


def test_a_client_that_neither_answers_a_ping_nor_reads_is_dropped() -> None:
    """uvicorn alone would wait until the client has read everything."""

    async def conversation() -> None:
        async with unread_connection(ws_ping_interval=0.05, ws_ping_timeout=0.05) as (application, *_):
            assert await application.left == CloseCode.NO_STATUS_RCVD

    asyncio.run(conversation())


def test_text_that_is_not_utf_8_is_no_error_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    """It ends the connection with 1007, and nothing is logged."""

    async def conversation() -> None:
        async with unread_connection() as (application, protocol, client):
            await asyncio.get_running_loop().sock_sendall(client, client_frame(Opcode.TEXT, b"\xff"))
            assert await application.left == CloseCode.INVALID_DATA
            protocol.transport.abort()

    with caplog.at_level(logging.WARNING):
        asyncio.run(conversation())
    assert not caplog.records
