"""Headers of WebSocket frames as clients send them (RFC 6455, section 5.2)."""

from __future__ import annotations

from websockets.frames import Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled version for this machine
    from websockets.utils import apply_mask

TEXT, BINARY, CLOSE, PING, PONG = (
    0x80 | opcode for opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING, Opcode.PONG)
)
"""First bytes of unfragmented frames."""
_BRACE = ord("{")
"""First byte of a JSON message."""
_KINDS = frozenset({0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A})
"""First bytes that are valid without an extension."""
_MAX_CONTROL_BYTES = 125
FIN, CONTROL = 0x80, 0x08
"""Bits of the first byte."""
_MASKED, _LENGTH = 0x80, 0x7F
"""Bits of the second byte."""
_LENGTH_16 = 126
"""Length that stands for 16 bits that follow and hold the length; 127: 64 bits."""


def payload_at(buffer: bytearray, start: int, max_bytes: int) -> tuple[int, int] | None:
    """Begin and end of the payload of the frame at `start`; None: its header is incomplete.

    The end may lie beyond the buffer. For a frame to be refused it is the buffer's end, so that uvicorn gets all of it.
    """
    begin = start + 2
    if len(buffer) < begin:
        return None
    length = buffer[start + 1] & _LENGTH
    if length > _MAX_CONTROL_BYTES:
        first, begin = begin, begin + (2 if length == _LENGTH_16 else 8)
        if len(buffer) < begin:
            return None
        length = int.from_bytes(buffer[first:begin])
    longest = _MAX_CONTROL_BYTES if buffer[start] & CONTROL else max_bytes
    if buffer[start] not in _KINDS or length > longest or not buffer[start + 1] & _MASKED:
        return start, len(buffer)
    return begin + 4, begin + 4 + length


def unmask(buffer: bytearray, begin: int, end: int) -> bytes:
    """Undo the masking of the payload from `begin` to `end`, by the four bytes in front of it (section 5.3)."""
    return apply_mask(buffer[begin:end], buffer[begin - 4 : begin])


def audio_messages(buffer: bytearray, start: int, max_bytes: int) -> tuple[list[bytes], int]:
    """The binary messages in a row from `start` on, and where they end: before the first other or incomplete frame.

    An empty message, and one that begins like JSON, count as other frames.
    """
    messages = []
    while start < len(buffer) and buffer[start] == BINARY:
        begin, end = payload_at(buffer, start, max_bytes) or (start, start)
        if not start < begin < end <= len(buffer) or buffer[begin] ^ buffer[begin - 4] == _BRACE:
            break
        messages.append(unmask(buffer, begin, end))
        start = end
    return messages, start
