"""Headers of WebSocket frames as clients send them (RFC 6455, section 5.2)."""

from __future__ import annotations

from websockets.frames import Opcode

TEXT, BINARY, CLOSE, PING, PONG = (
    0x80 | opcode for opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING, Opcode.PONG)
)
"""First bytes of unfragmented frames."""
_KINDS = frozenset({0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A})
"""First bytes that are valid without an extension."""
_MAX_CONTROL_BYTES = 125
FIN, CONTROL = 0x80, 0x08
"""Bits of the first byte."""
_MASKED, _LENGTH = 0x80, 0x7F
"""Bits of the second byte."""
_LENGTH_BYTES = {126: 2, 127: 8}
"""Length code 126 or 127 -> number of bytes that follow and hold the length."""


def payload_at(buffer: bytearray, start: int, max_bytes: int) -> tuple[int, int] | None:
    """Begin and end of the payload of the frame at `start`; None: its header is incomplete.

    The end may lie beyond the buffer. For a frame to be refused it is the buffer's end, so that uvicorn gets all of it.
    """
    begin = start + 2
    if len(buffer) < begin:
        return None
    length = buffer[start + 1] & _LENGTH
    if extended := _LENGTH_BYTES.get(length, 0):
        if len(buffer) < begin + extended:
            return None
        length = int.from_bytes(buffer[begin : begin + extended])
        begin += extended
    longest = _MAX_CONTROL_BYTES if buffer[start] & CONTROL else max_bytes
    if buffer[start] not in _KINDS or length > longest or not buffer[start + 1] & _MASKED:
        return start, len(buffer)
    return begin + 4, begin + 4 + length
