"""WebSocket clients that need little CPU, so that the server is the limit of a measurement.

Messages are encoded before the run, and sent past the protocol's state. Received messages are parsed after the run.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from array import array
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlencode

from websockets.client import ClientProtocol
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

MAX_CONNECTING = 64  # number of handshakes at once
TIMEOUT_SECONDS = 30.0  # longest wait for a handshake, for `ready` and for the close handshake
_COMMITTED = b'"reason":"commit"'
_POLL_SECONDS = 0.02


def client_frame(opcode: Opcode, payload: bytes) -> bytes:
    """Return an unfragmented message of a client."""
    return Frame(opcode, payload).serialize(mask=True)


class ConnectionRefused(Exception):
    """The server refused the handshake, or closed the connection before it was ready. The text names the status."""


class StreamClient(asyncio.Protocol):
    """One WebSocket connection that sends one frame of audio at a time.

    It receives on the event loop. `send_next` and `write` may be called from another thread.
    """

    def __init__(self, url: str, frames: Iterator[bytes], *, wait_for_message: bool) -> None:
        """`frames` are encoded WebSocket messages of 20 ms of audio each."""
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        """Done when the handshake is complete, with `wait_for_message` when the server's first message has arrived."""
        self.closed: asyncio.Future[None] = loop.create_future()  # done when the connection is closed
        self.sent = array("d")  # time at which each frame was sent, monotonic seconds
        self.received: list[tuple[float, bytes]] = []  # arrival time in monotonic seconds, and JSON, of each message
        self.exhausted = False  # whether all frames are sent
        self._frames = frames
        self._wait_for_message = wait_for_message
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)
        self._lock = threading.Lock()  # protects the two attributes below
        self._descriptor: int | None = None
        self._unsent = b""

    @property
    def close_code(self) -> int | None:
        """The server's close code; None while the server has not closed."""
        close: Close | None = self._protocol.close_rcvd
        return None if close is None else close.code

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # A duplicate, because the transport may close its descriptor while another thread writes.
        self._descriptor = os.dup(transport.get_extra_info("socket").fileno())
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def write(self, data: bytes) -> None:
        """Send encoded bytes without blocking; any thread. Bytes that the kernel refuses go with the next call."""
        with self._lock:
            if self._descriptor is None:
                return
            self._unsent += data
            with suppress(BlockingIOError, ConnectionError):
                self._unsent = self._unsent[os.write(self._descriptor, self._unsent) :]

    def _flush(self) -> None:
        """Send the bytes that the protocol has ready: the handshake, pongs and the close frame."""
        self.write(b"".join(self._protocol.data_to_send()))

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
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Response) and self._protocol.handshake_exc is not None:
                self.opened.set_exception(ConnectionRefused(f"HTTP {event.status_code} {event.reason_phrase}"))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.received.append((time.monotonic(), bytes(event.data)))
        handshake_done = self._protocol.state is not State.CONNECTING
        if handshake_done and not self.opened.done() and (self.received or not self._wait_for_message):
            self.opened.set_result(None)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor = None
        if not self.opened.done():
            self.opened.set_exception(ConnectionRefused(f"connection lost: {exc or self.close_code}"))
        self.opened.exception()  # marks the exception as retrieved: there may be no waiter
        self.closed.set_result(None)

    async def close(self) -> None:
        """Send a close frame and wait until the connection is closed.

        Raises:
            TimeoutError: the server did not close within `TIMEOUT_SECONDS`.
        """
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
            self._flush()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self.closed


async def connect(port: int, frames: Iterator[bytes], *, wait_for_message: bool, **query: object) -> StreamClient:
    """Open a connection; with `wait_for_message` also wait for the server's first message (`ready`).

    Raises:
        ConnectionRefused: the server refused the connection.
        TimeoutError: the server did not answer within `TIMEOUT_SECONDS`.
        OSError: the port is closed.
    """
    url = f"ws://127.0.0.1:{port}/v1/stt/ws?" + urlencode({"call_id": "bench", "sample_rate": 16000} | query)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            lambda: StreamClient(url, frames, wait_for_message=wait_for_message), "127.0.0.1", port
        )
        await client.opened
    return client


@asynccontextmanager
async def connected(
    port: int, playlists: Iterable[Iterator[bytes]], *, wait_for_message: bool, **query: object
) -> AsyncIterator[list[StreamClient]]:
    """Connect one client for each playlist, in this order. The clients close at the end of the context."""
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

    The final of a commit follows all other finals. Returns the number of clients that got none.
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
