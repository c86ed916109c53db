"""A client on a real socket."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as websocket_connect
from websockets.uri import parse_uri

from tests.patience import PATIENCE_SECONDS

Message = dict[str, Any]
connect = partial(websocket_connect, open_timeout=PATIENCE_SECONDS, ping_timeout=PATIENCE_SECONDS)
"""Opens a connection, and keeps it though the server answers late, on however busy a machine."""
COMMIT = '{"type":"commit"}'


class Client:
    """One conversation. Every wait is bounded."""

    def __init__(self, connection: ClientConnection) -> None:
        self.socket = connection

    def send(self, pcm: bytes, chunk: int = 640) -> None:
        """Send audio at once, in messages of `chunk` bytes."""
        for first in range(0, len(pcm), chunk):
            self.socket.send(pcm[first : first + chunk])

    def speak(self, pcm: bytes, chunk: int = 640, channels: int = 1) -> None:
        """Send audio at the speed of speech."""
        due = time.monotonic()
        for first in range(0, len(pcm), chunk):
            piece = pcm[first : first + chunk]
            due += len(piece) / 32_000 / channels
            time.sleep(max(0.0, due - time.monotonic()))
            self.socket.send(piece)

    def commit(self) -> None:
        """Ask for the utterance's end."""
        self.socket.send(COMMIT)

    def command(self, kind: str, **fields: object) -> None:
        """Send a text message."""
        self.socket.send(json.dumps({"type": kind, **fields}))

    def receive(self, timeout: float = PATIENCE_SECONDS) -> Message:
        """The next message."""
        message: Message = json.loads(self.socket.recv(timeout))
        return message

    def until(self, kind: str, **fields: object) -> list[Message]:
        """All messages up to the first of this type with these fields."""
        messages = [self.receive()]
        while messages[-1]["type"] != kind or any(messages[-1].get(name) != fields[name] for name in fields):
            messages.append(self.receive())
        return messages

    def finals(self, count: int) -> list[Message]:
        """The next `count` finals."""
        return [self.until("final")[-1] for _ in range(count)]

    def rest(self) -> tuple[list[Message], int]:
        """All messages up to the server's close, and its code."""
        messages: list[Message] = []
        with pytest.raises(ConnectionClosed) as closed:
            messages.extend(iter(self.receive, None))
        assert closed.value.rcvd is not None
        return messages, closed.value.rcvd.code

    def vanish(self) -> None:
        """Drop the TCP connection without a goodbye."""
        self.socket.socket.close()


@contextmanager
def conversation(url: str, *, origin: str | None = None) -> Iterator[Client]:
    """Connect, and close at the end."""
    with connect(url, origin=origin, compression=None, max_size=None, close_timeout=5) as connection:
        yield Client(connection)


def refused(url: str, *, origin: str | None = None) -> Response:
    """The HTTP answer to a handshake that is refused before the upgrade."""
    with pytest.raises(InvalidStatus) as refusal, conversation(url, origin=origin):
        pass
    return refusal.value.response


@contextmanager
def session(url: str) -> Iterator[Client]:
    """A conversation past its `ready`."""
    with conversation(url) as client:
        assert client.receive()["type"] == "ready"
        yield client


@contextmanager
def client_that_never_reads(
    url: str, headers: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Callable[[bytes], None]]:
    """A client that sends audio and never reads a byte, not even the answer to its handshake."""
    protocol = ClientProtocol(parse_uri(url))
    request = protocol.connect()
    request.headers.update(headers)
    protocol.send_request(request)
    with socket.socket() as raw:
        # The system would let an unread buffer grow to tens of megabytes, but not one whose size was chosen.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        raw.connect((protocol.uri.host, protocol.uri.port))
        raw.sendall(b"".join(protocol.data_to_send()))
        # What a client sends before the answer is there is lost (RFC 6455, section 4.1, forbids it).
        assert select.select([raw], [], [], PATIENCE_SECONDS)[0]

        def send(pcm: bytes) -> None:
            raw.sendall(Frame(Opcode.BINARY, pcm).serialize(mask=True))

        yield send
