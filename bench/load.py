"""The load generator's speakers: WebSocket clients so cheap that the server is what is measured.

Messages are built before the run and masked with the key 0; what the server says is kept as bytes and read after it.
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

from bench.frames import FrameReader, Opcode, client_frame, close_frame, handshake

CONNECT_AT_ONCE = 64
PATIENCE_SECONDS = 30.0
"""For a handshake, a `ready`, a goodbye."""
_COMMIT = client_frame(Opcode.TEXT, b'{"type":"commit"}')
_COMMITTED = b'"reason":"commit"'
_LOOK_SECONDS = 0.02


class Refused(Exception):
    """A connection that did not come about, or ended early; the text says how."""


class Speaker(asyncio.Protocol):
    """One WebSocket connection. It listens on the event loop; whoever paces it may write from another thread."""

    def __init__(self, frames: Iterator[bytes]) -> None:
        """`frames` are its messages, one for each 20 ms."""
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        """The handshake's end."""
        self.spoken_to: asyncio.Future[None] = loop.create_future()
        """The server's first message."""
        self.gone: asyncio.Future[None] = loop.create_future()
        """The connection's end."""
        self.sent = array("d")
        """When each frame was sent, monotonic seconds."""
        self.received: list[tuple[float, bytes]] = []
        """The server's messages and when they came, monotonic seconds."""
        self.close_code: int | None = None
        """The server's, if it closed."""
        self.exhausted = False
        """Whether all frames are sent."""
        self.leaving = False
        self._frames = frames
        self._reader = FrameReader()
        self._greeting = b""
        self._lock = threading.Lock()
        """Guards the two below."""
        self._descriptor: int | None = None
        self._rest = b""

    @property
    def backlog_bytes(self) -> int:
        """Bytes that the system did not take: the server does not read."""
        return len(self._rest)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # A descriptor of its own: the transport may close its one while another thread writes.
        self._descriptor = os.dup(transport.get_extra_info("socket").fileno())

    def write(self, data: bytes) -> None:
        """Send bytes as they are, at once; any thread. What the system does not take goes with the next."""
        with self._lock:
            if self._descriptor is None:
                return
            self._rest += data
            with suppress(BlockingIOError, ConnectionError):
                self._rest = self._rest[os.write(self._descriptor, self._rest) :]

    def speak(self) -> None:
        """Send the next frame; any one thread."""
        frame = next(self._frames, None)
        if frame is None or self._descriptor is None:
            self.exhausted = True
            return
        self.sent.append(time.monotonic())
        self.write(frame)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if not self.opened.done():
            data = self._shake_hands(data)
        for opcode, payload in self._reader.feed(data):
            if opcode == Opcode.TEXT:
                self.received.append((time.monotonic(), payload))
                if not self.spoken_to.done():
                    self.spoken_to.set_result(None)
            elif opcode == Opcode.PING:
                self.write(client_frame(Opcode.PONG, payload))
            elif opcode == Opcode.CLOSE:
                self.close_code = int.from_bytes(payload[:2])
                if not self.leaving:
                    self.write(close_frame(self.close_code))

    def _shake_hands(self, data: bytes) -> bytes:
        head, found, rest = (self._greeting + data).partition(b"\r\n\r\n")
        if not found:
            self._greeting = head
            return b""
        if head.startswith(b"HTTP/1.1 101"):
            self.opened.set_result(None)
            return rest
        self.opened.set_exception(Refused(head.split(b"\r\n", 1)[0].decode("latin-1")))
        return b""

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor = None
        for awaited in (self.opened, self.spoken_to):
            if not awaited.done():
                awaited.set_exception(Refused(f"connection lost: {exc or self.close_code}"))
            awaited.exception()  # nobody may be waiting
        if not self.gone.done():
            self.gone.set_result(None)

    async def leave(self) -> None:
        """Say goodbye and wait for the connection's end.

        Raises:
            TimeoutError: the server did not answer.
        """
        self.leaving = True
        self.write(close_frame())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.gone


async def connect(port: int, frames: Iterator[bytes], *, greeted: bool, **query: object) -> Speaker:
    """Open a WebSocket and wait for its handshake, and for the server's first message if `greeted`.

    Raises:
        Refused: the server did not let it in.
        TimeoutError: it did not answer.
        OSError: nobody listens.
    """
    path = "/v1/stt/ws?" + urlencode({"call_id": "bench", "sample_rate": 16000} | query)
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, speaker = await asyncio.get_running_loop().create_connection(lambda: Speaker(frames), "127.0.0.1", port)
        speaker.write(handshake(path, port))
        await speaker.opened
        if greeted:
            await speaker.spoken_to
    return speaker


@asynccontextmanager
async def connected(
    port: int, playlists: Iterable[Iterator[bytes]], *, greeted: bool, **query: object
) -> AsyncIterator[list[Speaker]]:
    """A speaker for each playlist, at most `CONNECT_AT_ONCE` connecting at a time; they leave at the end."""
    gate = asyncio.Semaphore(CONNECT_AT_ONCE)

    async def one(frames: Iterator[bytes]) -> Speaker:
        async with gate:
            return await connect(port, frames, greeted=greeted, **query)

    speakers = await asyncio.gather(*(one(frames) for frames in playlists))
    try:
        yield speakers
    finally:
        await asyncio.gather(*(speaker.leave() for speaker in speakers), return_exceptions=True)


async def last_words(speakers: Iterable[Speaker], seconds: float) -> int:
    """Commit, and wait for every commit's final, which follows all others; returns how many speakers got none."""
    waiting = list(speakers)
    for speaker in waiting:
        speaker.write(_COMMIT)
    until = time.monotonic() + seconds
    while waiting and time.monotonic() < until:
        await asyncio.sleep(_LOOK_SECONDS)
        waiting = [each for each in waiting if not each.received or _COMMITTED not in each.received[-1][1]]
        if all(speaker.gone.done() for speaker in waiting):
            break
    return len(waiting)
