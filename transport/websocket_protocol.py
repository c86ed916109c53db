"""uvicorn's WebSocket protocol with a fast path for audio and a limit on control frames.

`python app.py` uses it. Under uvicorn's own command it is chosen by
`uvicorn app:app --ws transport.websocket_protocol:SpeechWebSocketProtocol`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence, Sized
from typing import Any

from uvicorn import Config
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

from protocol.errors import CloseCode
from transport.byte_budget import ByteBudget
from transport.rate_limit import RateLimit
from transport.uvicorn_websocket import UvicornWebSocket
from transport.websocket_events import COUNT, EXTENSION, FLOOD_EVENT, KEEPALIVE_EVENT, PONG_EVENT
from transport.websocket_frames import BINARY, CLOSE, CONTROL, FIN, PING, PONG, TEXT, audio_messages, payload_at, unmask

MAX_JOINED_BYTES = 8 * 1024
"""Most bytes of joined messages: 256 ms at 16 kHz. While a client is ahead of real time, reading pauses after each
event. The pause must stay short, so that the client's pings are answered."""
MAX_PAUSED_BYTES = 16 * 1024
"""Most bytes of a read after which reading pauses: half of the receive buffer. A client that sends more is ahead of
real time, or sends floats at 48 kHz. A pause would fill the buffer, and the client would have to wait."""
MAX_FRAME_BYTES = 1 << 20
"""Longest message with all its fragments, unless the application allows more. A longer one is refused with 1009."""
FRAGMENT_BYTES = 256
"""Least number of bytes that a fragment counts as, because each is kept as an object."""
MAX_CONTROL_FRAMES = 200
"""Pings, pongs and empty frames that a client may send within a second. Libraries send a ping every 10 to 60 s."""


class SpeechWebSocketProtocol(UvicornWebSocket):
    """Unmasks whole binary and text frames itself, and passes all others to uvicorn one by one.

    uvicorn's parser takes 15 us for a frame, which at hundreds of streams is more than all else. The application gets
    uvicorn's events in uvicorn's order, and three of our own: pongs, keepalives and floods. Empty binary messages are
    keepalives only. Of the pings that are read together the last is answered (section 5.5.3).
    """

    def __init__(self, config: Config, *args: Any, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own
        # Compressed frames would miss the fast path. uvicorn's own limit is 16 MiB.
        config.ws_per_message_deflate = False
        config.ws_max_size = min(config.ws_max_size, MAX_FRAME_BYTES)
        super().__init__(config, *args, **options)
        self._buffer = bytearray()
        """Bytes of an incomplete frame."""
        self._fragmented = False
        """Whether a fragmented message is incomplete."""
        self._ping = b""
        """The last ping, not answered yet."""
        self._saw_keepalive = False
        """Whether pings or empty messages came in this read."""
        self._read_at = 0.0
        """When data was last read."""
        self._last_read_bytes = 0
        """Bytes of the last read."""
        self._pinged_at = 0.0
        """When `ping` was last called; 0: never."""
        self._control_frames = RateLimit(MAX_CONTROL_FRAMES)
        self._flooded = False
        """Whether more came. Then all frames but a close are dropped, so that the client can read the answer."""
        self._refused = False
        """Whether a frame broke the standard. What is read from then on is left to uvicorn, which closes."""
        self._max_bytes = config.ws_max_size
        self._memory: ByteBudget | None = None
        """Budget of the bytes of long messages; None: only short messages are allowed."""
        self._held = 0
        """Bytes of this connection in that budget."""
        self._fragments = 0
        """Bytes of a fragmented message so far."""
        self._waiting = 0
        """Bytes of messages that the application has not received, and of the one that it is processing."""
        self._read_size = 0
        """Bytes of the message that the application is processing."""
        self._sizes: deque[int] = deque()
        """Bytes of each message that the application has not received."""
        self._joins_binary = False
        """Whether binary messages that are read together become one event, unless they begin with `{`."""
        self._joined: list[bytes] = []
        """Binary messages for the next event."""
        self._joined_bytes = 0
        self._read_later: Callable[[Callable[[], None]], None] | None = None
        """If set, called when the application has received all messages, with the function that resumes reading."""
        self._extensions: Any = {}
        """`extensions` of the ASGI scope."""

    def handle_connect(self, event: Request) -> None:
        """See uvicorn. The application starts in a later iteration of the event loop."""
        super().handle_connect(event)
        if not self.close_sent:  # refused
            self._extensions = self.scope["extensions"]
            self._extensions[EXTENSION] = self

    async def receive(self) -> Any:  # noqa: ANN401 - uvicorn's type is private
        """See uvicorn, which reads the socket again as soon as the application has all messages."""
        self._waiting -= self._read_size
        self._read_size = 0
        self._count_memory()
        message = await self.queue.get()
        if message["type"] == "websocket.receive" and self._sizes:
            self._read_size = self._sizes.popleft()
        if self.read_paused and self.queue.empty():
            if self._read_later is None or self._last_read_bytes > MAX_PAUSED_BYTES:
                self._resume_reading()
            else:
                self._read_later(self._resume_reading)
        return message

    def _resume_reading(self) -> None:
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._read_at, self._last_read_bytes = self.loop.time(), len(data)
        buffer = self._buffer
        buffer += data
        start = self._receive_frames(buffer)
        self._queue_joined()
        rest = self._ping
        if not self._reads_frames:  # before the handshake or after a close uvicorn parses
            rest, start = rest + buffer[start:], len(buffer)
        self._ping = b""
        if rest:
            super().data_received(rest)
        del buffer[:start]
        if not self._count_memory():
            self.fail(CloseCode.TRY_LATER, "too many long messages at once")
        if self._saw_keepalive:
            self._saw_keepalive = False
            self._queue_event({"type": KEEPALIVE_EVENT})

    def _receive_frames(self, buffer: bytearray) -> int:
        """Process all complete frames; returns where they end."""
        start = 0
        while self._reads_frames:
            if self._joins_binary and not (self._fragmented or self._flooded):
                messages, start = audio_messages(buffer, start, self._max_bytes)
                self._join(messages)
            payload = payload_at(buffer, start, self._max_bytes)
            if payload is None or payload[1] > len(buffer):
                break
            begin, end = payload
            if not self._flooded:
                self._receive_frame(buffer, start, begin, end)
            elif buffer[start] == CLOSE:
                super().data_received(bytes(buffer[start:end]))
            start = end
        return start

    def _join(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            if self._joined_bytes + len(message) > MAX_JOINED_BYTES:
                self._queue_joined()
            self._joined.append(message)
            self._joined_bytes += len(message)

    @property
    def _reads_frames(self) -> bool:
        return (self.conn.state is State.OPEN and not self._refused) or self._flooded

    def read_together(self, read_later: Callable[[Callable[[], None]], None], *, joins_binary: bool) -> None:
        """Leave it to `read_later` when the socket is read again, and join the binary messages of one read."""
        self._joins_binary = joins_binary
        if not self.transport.is_closing():
            self._read_later = read_later

    def allow_messages(self, max_bytes: int, memory: ByteBudget) -> None:
        """Allow messages of up to `max_bytes`. If `memory` has no room, the connection is closed with 1013."""
        self._memory = memory
        self._max_bytes = self.conn.max_message_size = max_bytes

    def send_receive_event_to_app(self) -> None:
        """See uvicorn: a message is complete."""
        self._queue_joined()
        self._count_message(self.frames)
        super().send_receive_event_to_app()

    def _count_message(self, parts: Sequence[Sized]) -> None:
        if self._memory is not None and not self.close_sent:
            self._sizes.append(sum(map(len, parts)))
            self._waiting += self._sizes[-1]

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        super().connection_lost(exc)
        # Cycles that would keep this object and the session until a collection.
        self._read_later = None
        self._extensions.pop(EXTENSION, None)
        self._buffer.clear()
        self._fragments = self._waiting = self._read_size = 0
        self._sizes.clear()
        self._count_memory()

    def _count_memory(self) -> bool:
        """Update the budget; whether the messages of this connection fit."""
        if self._memory is None:
            return True
        before, self._held = self._held, len(self._buffer) + self._fragments + self._waiting
        return self._memory.change(self._held - before) or self._held <= before

    def ping(self, payload: bytes) -> None:
        """Send a ping; its pong becomes an event."""
        if self.conn.state is State.OPEN:
            self._pinged_at = self.loop.time()
            self.conn.send_ping(payload)
            self.transport.write(b"".join(self.conn.data_to_send()))

    def handle_pong(self, event: Frame) -> None:
        """See uvicorn, which handles pongs of its own pings. A client may answer only the last of several (5.5.3)."""
        payload, keepalive = bytes(event.data), self.pending_ping_payload
        if keepalive is not None and (payload == keepalive or self.ping_sent_at <= self._pinged_at):
            super().handle_pong(Frame(Opcode.PONG, keepalive))
        if payload != keepalive:
            self._queue_event({"type": PONG_EVENT, "bytes": payload})

    def keepalive_timeout(self) -> None:
        """See uvicorn, which closes here; but the pong may still be in the socket, behind audio not read yet."""
        if self.read_paused or self.loop.time() - self._read_at < (self.ping_timeout or 0):
            self.pong_timer = self.loop.call_later(self.ping_timeout or 0, self.keepalive_timeout)
        else:
            super().keepalive_timeout()

    def _queue_event(self, event: dict[str, Any]) -> None:
        """Queue an event for the application, and pause reading until it is taken, as uvicorn does."""
        self._queue_joined()
        if not self.close_sent:
            queue: asyncio.Queue[Any] = self.queue
            queue.put_nowait(event)
            if not self.read_paused:
                self.read_paused = True
                self.transport.pause_reading()

    def _receive_frame(self, buffer: bytearray, start: int, begin: int, end: int) -> None:
        """Process the frame from `start` to `end`, whose payload begins at `begin`; `begin == start`: refuse it."""
        kind, refused, empty = buffer[start], begin == start, begin == end
        if (kind & CONTROL or empty) and not self._allows_control_frame():
            return
        self._saw_keepalive = self._saw_keepalive or kind == PING or (empty and not kind & CONTROL)
        if kind in (BINARY, TEXT) and not (self._fragmented or refused or empty):
            payload = unmask(buffer, begin, end)
            if kind == TEXT:
                self.handle_text(Frame(Opcode.TEXT, payload))
            else:
                self.handle_bytes(Frame(Opcode.BINARY, payload))
        elif kind == BINARY and not (self._fragmented or refused):
            pass  # empty: a keepalive
        elif kind == PING and not refused:
            self._ping = bytes(buffer[start:end])
        elif kind != PONG or refused or self._pinged_at or self.pending_ping_payload is not None:
            if not kind & CONTROL and not self._allows_fragment(end - begin, last=bool(kind & FIN)):
                return
            self._queue_joined()
            self._refused = self._refused or refused
            ping, self._ping = self._ping, b""
            super().data_received(ping + buffer[start:end])

    def _queue_joined(self) -> None:
        if self._joined:
            joined, self._joined, self._joined_bytes = self._joined, [], 0
            self._count_message(joined)
            self._queue_event({"type": "websocket.receive", "bytes": b"".join(joined), COUNT: len(joined)})

    def _allows_fragment(self, size: int, *, last: bool) -> bool:
        """Whether a message may have another fragment. Very small fragments take many times their bytes."""
        self._fragmented = not last
        self._fragments = 0 if last else self._fragments + max(size, FRAGMENT_BYTES)
        if self._fragments > self._max_bytes:
            self.fail(CloseCode.TOO_BIG, f"a message in fragments over {self._max_bytes} bytes")
            return False
        return True

    def _allows_control_frame(self) -> bool:
        self._flooded = not self._control_frames.take(self.loop.time())
        if self._flooded:
            self._ping = b""
            self._queue_event({"type": FLOOD_EVENT})
        return not self._flooded

    def fail(self, code: int, reason: str) -> None:
        """See `UvicornWebSocket`."""
        self._queue_joined()  # audio of the same read came before the mistake
        super().fail(code, reason)
