"""Bounds the receive buffer of a connection in the operating system.

A throttled client fills this buffer, and its own send buffer, which grows with it. A ping waits behind both. The
system would let them grow to many megabytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

_RECEIVE_BYTES = 32_768
"""Bytes for a client that is not throttled. Linux doubles the value, for its own needs. With a round trip of 200 ms
this lets 0.3 MB/s through: ten live streams."""
_THROTTLED_BYTES = 8_192
"""Bytes for a throttled client. Both buffers then hold 0.2 to 0.6 MB. An engine at twice real time reads 0.64 MB in 10
s."""
_SEGMENTS = 4
"""Least size of the buffer in TCP segments: Linux sends nothing into a window smaller than one segment."""


def bound_receive_buffer(transport: asyncio.BaseTransport, *, throttled: bool) -> None:
    """Set the size of a connection's receive buffer: a smaller one for a throttled client."""
    raw: socket.socket = transport.get_extra_info("socket")
    size = max(_THROTTLED_BYTES if throttled else _RECEIVE_BYTES, _SEGMENTS * _segment_bytes(raw))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def _segment_bytes(raw: socket.socket) -> int:
    """Size of a connection's TCP segments; 0: unknown."""
    with contextlib.suppress(AttributeError, OSError):  # a Unix socket, or a system without this option
        return raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    return 0
