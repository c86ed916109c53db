"""WebSocket clients that need little CPU, so that the server is the limit of a measurement.

Messages are encoded before the run. Received messages are stored as bytes and parsed after the run.
"""

from __future__ import annotations

import asyncio
import base64
import os
import threading
import time
from array import array
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from enum import IntEnum
from urllib.parse import urlencode

MAX_CONNECTING = 64  # handshakes at once
TIMEOUT_SECONDS = 30.0  # longest wait for a handshake, for `ready` and for the close handshake
_COMMITTED = b'"reason":"commit"'
_POLL_SECONDS = 0.02
_KEY = base64.b64encode(b"sixteen bytes ok").decode()
_ZERO_MASK = b"\0\0\0\0"  # clients must mask their frames; with this key the masked payload equals the payload


class Opcode(IntEnum):
    """Frame types."""

    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


def handshake(path: str, port: int) -> bytes:
    """The upgrade request; no extensions are offered."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def client_frame(opcode: Opcode, payload: bytes) -> bytes:
    """One unfragmented message from a client, masked with the key 0."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65_536:
        length = b"\xfe" + size.to_bytes(2)
    else:
        length = b"\xff" + size.to_bytes(8)
    return bytes((0x80 | opcode,)) + length + _ZERO_MASK + payload


def close_frame(code: int = 1000) -> bytes:
    """A close frame from a client."""
    return client_frame(Opcode.CLOSE, code.to_bytes(2))


class FrameReader:
    """Splits the bytes of a server into frames. Fragmented and masked frames are not supported."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Opcode and payload of each frame that `data` completes; ValueError for a fragment or a masked frame."""
        data = self._buffer + data if self._buffer else data
        at = 0
        while (head := _head(data, at)) is not None:
            start, size = head
            if len(data) < start + size:
                break
            yield data[at] & 0x0F, data[start : start + size]
            at = start + size
        self._buffer = data[at:]


def _head(data: bytes, at: int) -> tuple[int, int] | None:
    """Offset and size of the payload of the frame that starts at `at`; None while the header is incomplete."""
    if len(data) < at + 2:
        return None
    if not data[at] & 0x80 or data[at + 1] & 0x80:
        raise ValueError("the server sent a fragment or a masked frame")
    size = data[at + 1]
    width = {126: 2, 127: 8}.get(size, 0)
    if not width:
        return at + 2, size
    if len(data) < at + 2 + width:
        return None
    return at + 2 + width, int.from_bytes(data[at + 2 : at + 2 + width])


class ConnectionRefused(Exception):
    """The server refused the handshake, or closed the connection before it was ready. The text names the status."""


class StreamClient(asyncio.Protocol):
    """One WebSocket connection that sends one frame of audio at a time.

    It receives on the event loop. `send_next` and `write` may be called from another thread.
    """

    def __init__(self, frames: Iterator[bytes]) -> None:
        """`frames` are encoded WebSocket messages of 20 ms of audio each."""
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()  # done when the handshake is complete
        self.first_message: asyncio.Future[None] = loop.create_future()
        """Done when the server's first message has arrived."""
        self.closed: asyncio.Future[None] = loop.create_future()  # done when the connection is closed
        self.sent = array("d")  # time at which each frame was sent, monotonic seconds
        self.received: list[tuple[float, bytes]] = []  # arrival time in monotonic seconds, and JSON, of each message
        self.close_code: int | None = None  # the server's close code; None while the server has not closed
        self.exhausted = False  # whether all frames are sent
        self._closing = False
        self._frames = frames
        self._reader = FrameReader()
        self._response_head = b""
        self._lock = threading.Lock()  # protects the two attributes below
        self._descriptor: int | None = None
        self._unsent = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # A duplicate, because the transport may close its descriptor while another thread writes.
        self._descriptor = os.dup(transport.get_extra_info("socket").fileno())

    def write(self, data: bytes) -> None:
        """Send encoded bytes without blocking; any thread. Bytes that the kernel refuses go with the next call."""
        with self._lock:
            if self._descriptor is None:
                return
            self._unsent += data
            with suppress(BlockingIOError, ConnectionError):
                self._unsent = self._unsent[os.write(self._descriptor, self._unsent) :]

    def send_next(self) -> None:
        """Send the next frame; from one thread at a time."""
        frame = next(self._frames, None)
        if frame is None or self._descriptor is None:
            self.exhausted = True
            return
        self.sent.append(time.monotonic())
        self.write(frame)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if not self.opened.done():
            data = self._read_handshake(data)
        for opcode, payload in self._reader.feed(data):
            if opcode == Opcode.TEXT:
                self.received.append((time.monotonic(), payload))
                if not self.first_message.done():
                    self.first_message.set_result(None)
            elif opcode == Opcode.PING:
                self.write(client_frame(Opcode.PONG, payload))
            elif opcode == Opcode.CLOSE:
                self.close_code = int.from_bytes(payload[:2])
                if not self._closing:
                    self.write(close_frame(self.close_code))

    def _read_handshake(self, data: bytes) -> bytes:
        """Check the HTTP response; returns the bytes behind its head."""
        head, found, rest = (self._response_head + data).partition(b"\r\n\r\n")
        if not found:
            self._response_head = head
            return b""
        if head.startswith(b"HTTP/1.1 101"):
            self.opened.set_result(None)
            return rest
        self.opened.set_exception(ConnectionRefused(head.split(b"\r\n", 1)[0].decode("latin-1")))
        return b""

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor = None
        for future in (self.opened, self.first_message):
            if not future.done():
                future.set_exception(ConnectionRefused(f"connection lost: {exc or self.close_code}"))
            future.exception()  # marks the exception as retrieved: there may be no waiter
        if not self.closed.done():
            self.closed.set_result(None)

    async def close(self) -> None:
        """Send a close frame and wait until the connection is closed.

        Raises:
            TimeoutError: the server did not close within `TIMEOUT_SECONDS`.
        """
        self._closing = True
        self.write(close_frame())
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self.closed


async def connect(port: int, frames: Iterator[bytes], *, wait_for_message: bool, **query: object) -> StreamClient:
    """Open a connection; with `wait_for_message` also wait for the server's first message (`ready`).

    Raises:
        ConnectionRefused: the server refused the connection.
        TimeoutError: the server did not answer within `TIMEOUT_SECONDS`.
        OSError: the port is closed.
    """
    path = "/v1/stt/ws?" + urlencode({"call_id": "bench", "sample_rate": 16000} | query)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: StreamClient(frames), "127.0.0.1", port)
        client.write(handshake(path, port))
        await client.opened
        if wait_for_message:
            await client.first_message
    return client


@asynccontextmanager
async def connected(
    port: int, playlists: Iterable[Iterator[bytes]], *, wait_for_message: bool, **query: object
) -> AsyncIterator[list[StreamClient]]:
    """One connected client for each playlist, in this order. The clients close at the end of the context."""
    semaphore = asyncio.Semaphore(MAX_CONNECTING)

    async def connect_one(frames: Iterator[bytes]) -> StreamClient:
        async with semaphore:
            return await connect(port, frames, wait_for_message=wait_for_message, **query)

    clients = await asyncio.gather(*(connect_one(frames) for frames in playlists))
    try:
        yield clients
    finally:
        await asyncio.gather(*(client.close() for client in clients), return_exceptions=True)


async def commit_all(clients: Iterable[StreamClient], seconds: float) -> int:
    """Send a commit on each connection and wait up to `seconds` for the finals of these commits.

    The final of a commit follows all other finals. Returns the number of clients without one.
    """
    waiting = list(clients)
    for client in waiting:
        client.write(client_frame(Opcode.TEXT, b'{"type":"commit"}'))
    deadline = time.monotonic() + seconds
    while waiting and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_SECONDS)
        waiting = [each for each in waiting if not each.received or _COMMITTED not in each.received[-1][1]]
        if all(client.closed.done() for client in waiting):
            break
    return len(waiting)
