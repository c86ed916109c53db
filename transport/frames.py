"""The frames that nearly all of a client's are, a whole binary message each, read for a fraction of the usual price.

uvicorn's WebSocket spends 15 us on a message, most of it in its library's parser: at hundreds of streams more than
anything else here. So a connection's bytes come here first. What is not such a frame is read by uvicorn as ever, and so
is all that follows something unusual.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled one for this machine
    from websockets.utils import apply_mask

_BINARY = 0x82
_USUAL = frozenset({0x81, _BINARY, 0x88, 0x89, 0x8A})
"""First bytes of frames that are a message or a control each, uncompressed: text, binary, close, ping, pong (RFC 6455,
section 5.2). They can be passed to uvicorn one by one."""
_MASKED, _LENGTH_FOLLOWS = 0x80, 126
"""In the second byte: a client masks what it sends; the length is in the next two bytes."""
_LEAST = 2
"""Bytes of a header that tell whether the frame is usual."""
_MOST = 0xFFFF
"""Longest frame read here, in bytes; its length fits two bytes."""

_NEEDED = ("queue", "read_paused", "close_sent", "transport", "config", "conn")
"""What is used of uvicorn's protocol and not promised by it: another version of uvicorn without them reads alone."""


def take_over(transport: asyncio.Transport | None) -> None:
    """Read an accepted WebSocket's frames here from now on, if it is one of uvicorn's `websockets-sansio`.

    Called on the event loop, in the same pass in which it was accepted: nothing can have come yet.
    """
    if transport is None:
        return
    below = transport.get_protocol()
    if isinstance(below, WebSocketsSansIOProtocol) and all(hasattr(below, name) for name in _NEEDED):
        transport.set_protocol(Frames(below))


class Frames(asyncio.Protocol):
    """Reads for uvicorn's protocol `below`, which then has the same events, in the same order, as if it had read alone.

    Everything is called on the event loop.
    """

    def __init__(self, below: WebSocketsSansIOProtocol) -> None:
        self._below = below
        self._most = min(_MOST, below.config.ws_max_size)
        self._usual = True
        """Whether everything so far was: uvicorn reads the rest alone if not."""
        self._rest = b""
        """The beginning of a frame."""

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._below.connection_lost(exc)
        # The library's parser and its connection are a circle, and hold what came of a message.
        self._below.conn.parser.close()

    def eof_received(self) -> None:
        """See asyncio."""
        self._below.eof_received()

    def pause_writing(self) -> None:
        """See asyncio."""
        self._below.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio."""
        self._below.resume_writing()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        if self._below.close_sent:  # then uvicorn drops messages, so that it reads on to the client's close
            self._usual = False
        taken = self._take(data) if self._usual else 0
        if self._usual:
            self._rest = data[taken:]
        elif taken < len(data):
            self._below.data_received(data[taken:])

    def _take(self, data: bytes) -> int:
        """Pass on the usual frames that `data` begins with; returns their length in bytes."""
        at, messages = 0, list[bytes]()
        while len(data) - at >= _LEAST:
            payload = _payload_at(data, at)
            if payload is None or payload[1] - payload[0] > self._most:
                self._usual = False
                break
            begin, end = payload
            if end > len(data):
                break
            if data[at] == _BINARY:
                messages.append(apply_mask(data[begin:end], data[begin - 4 : begin]))
            else:
                self._pass_on(messages)
                messages.clear()
                self._below.data_received(data[at:end])
            at = end
        self._pass_on(messages)
        return at

    def _pass_on(self, messages: Sequence[bytes]) -> None:
        below = self._below
        for data in messages:
            below.queue.put_nowait({"type": "websocket.receive", "bytes": data})
        # As uvicorn does, whose `receive` reads on when all are taken.
        # What follows a close in the same read is nobody's, and harmless: the application stops at the close.
        if messages and not below.read_paused:
            below.read_paused = True
            below.transport.pause_reading()


def _payload_at(data: bytes, at: int) -> tuple[int, int] | None:
    """Begin and end of the payload of the frame at `at`, which may lie beyond `data`; None: the frame is unusual.

    Its first two bytes at least are there.
    """
    length = data[at + 1] - _MASKED
    if data[at] not in _USUAL or not 0 <= length <= _LENGTH_FOLLOWS:
        return None
    if length < _LENGTH_FOLLOWS:
        return at + 6, at + 6 + length
    if len(data) - at < 4:
        return at + 8, at + 8
    return at + 8, at + 8 + (data[at + 2] << 8 | data[at + 3])
