"""WebSocket frames (RFC 6455) with the least work a client can do for them. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from enum import IntEnum

_KEY = base64.b64encode(b"sixteen bytes ok").decode()
_ZERO_MASK = b"\0\0\0\0"
"""A client must mask; with the key 0 a masked payload is the payload itself, and the server unmasks it as any other."""


class Opcode(IntEnum):
    """Kinds of frame."""

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
    """One whole message as a client sends it, masked with the key 0."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65_536:
        length = b"\xfe" + size.to_bytes(2)
    else:
        length = b"\xff" + size.to_bytes(8)
    return bytes((0x80 | opcode,)) + length + _ZERO_MASK + payload


def close_frame(code: int = 1000) -> bytes:
    """A client's goodbye."""
    return client_frame(Opcode.CLOSE, code.to_bytes(2))


class FrameReader:
    """Cuts a server's bytes into frames. Servers do not mask, and this one does not fragment."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Opcode and payload of each frame that `data` completes.

        Raises:
            ValueError: a fragment, or a masked frame.
        """
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
    """Where the payload of the frame at `at` starts, and its size; None while its header is incomplete."""
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
