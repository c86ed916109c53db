"""A connection on a real socket, whose server is one protocol object in the tests' own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from uvicorn import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

_HANDSHAKE = ClientProtocol(parse_uri("ws://127.0.0.1/")).connect().serialize()

_Protocol = TypeVar("_Protocol", bound=WebSocketsSansIOProtocol)


@asynccontextmanager
async def accepted_connection(
    config: Config, protocol_class: type[_Protocol]
) -> AsyncIterator[tuple[_Protocol, socket.socket]]:
    """A connection whose client has sent its handshake, and read nothing. The client's socket does not block."""
    config.load()
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as client:
        client.setblocking(False)
        accepted, _ = listener.accept()
        _, protocol = await loop.connect_accepted_socket(lambda: protocol_class(config, ServerState(), {}), accepted)
        await loop.sock_sendall(client, _HANDSHAKE)
        yield protocol, client
