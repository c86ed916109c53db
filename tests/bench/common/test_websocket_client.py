from __future__ import annotations

import asyncio
import http
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import Opcode
from websockets.http11 import Request, Response

from bench.common.paced_sender import PacedSender, sending
from bench.common.websocket_client import ConnectionRefused, client_frame, commit_all, connect, connected
from tests.patience import PATIENCE_SECONDS

FRAMES = [client_frame(Opcode.BINARY, bytes([number]) * 640) for number in range(20)]


def on_a_loop(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


@asynccontextmanager
async def listening(
    handler: Callable[[ServerConnection], object], refuse: Callable[..., Response | None] = lambda *_: None
) -> AsyncIterator[int]:
    server: Server
    async with serve(handler, "127.0.0.1", 0, process_request=refuse) as server:  # type: ignore[arg-type]
        yield next(iter(server.sockets)).getsockname()[1]


@on_a_loop
async def test_everything_that_is_sent_arrives() -> None:
    """Messages arrive in order and complete. Pings are answered, and the final of a commit ends the wait."""
    received: list[str | bytes] = []

    async def echo(connection: ServerConnection) -> None:
        await connection.send('{"type":"ready"}')
        await (await connection.ping())
        async for message in connection:
            received.append(message)
            if isinstance(message, str):
                await connection.send('{"reason":"commit"}')

    async with (
        listening(echo) as port,
        connected(port, [iter(FRAMES), iter(())], wait_for_message=True) as (one, other),
        sending(PacedSender([one], 0, 50)) as all_sent,
    ):
        await all_sent
        assert await commit_all([one], 10) == 0
        assert await commit_all([other], 0) == 1
    assert [message for message in received if isinstance(message, bytes)] == [
        bytes([each]) * 640 for each in range(20)
    ]
    assert len(one.sent) == 20
    assert [json.loads(raw) for _, raw in one.received] == [{"type": "ready"}, {"reason": "commit"}]
    assert one.close_code == 1000


@on_a_loop
async def test_close_code_is_kept() -> None:
    """The client keeps the close code of the server, and closes too."""

    async def leave(connection: ServerConnection) -> None:
        await connection.close(1013)

    async with listening(leave) as port:
        client = await connect(port, iter(()), wait_for_message=False)
        await asyncio.wait_for(client.closed, PATIENCE_SECONDS)
        await client.close()
    assert client.close_code == 1013


@on_a_loop
async def test_a_refusal_names_its_status() -> None:
    """A handshake that is refused, and a connection that ends before its first message, are errors."""

    def refuse(connection: ServerConnection, _: Request) -> Response:
        return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "full")

    async def leave(connection: ServerConnection) -> None:
        await connection.close(1013)

    async with listening(leave, refuse) as port:
        with pytest.raises(ConnectionRefused, match="503"):
            await connect(port, iter(()), wait_for_message=False)
    async with listening(leave) as port:
        with pytest.raises(ConnectionRefused, match="1013"):
            await connect(port, iter(()), wait_for_message=True)
