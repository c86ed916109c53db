"""How much of what a client sends waits in the system before it is read.

A client that is held back fills its connection's receive buffer, and the send buffer on its own side, which grows with
it; a ping waits behind both. The system would let them grow to many megabytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

_USUAL_BYTES = 32_768
"""The system takes twice as much, for its own needs. Over a network of 200 ms it lets 0.3 MB/s through: ten live
streams."""
_HELD_BACK_BYTES = 8_192
"""Both sides then hold 0.2 to 0.6 MB; at twice real time 0.64 are read in 10 s."""
_SEGMENTS = 4
"""No buffer is smaller than so many TCP segments: Linux sends none into a window that is smaller than one."""


def bound_receive_buffer(transport: asyncio.BaseTransport, *, held_back: bool) -> None:
    """Set the size of a connection's receive buffer: a smaller one for a client that is held back."""
    raw: socket.socket = transport.get_extra_info("socket")
    size = max(_HELD_BACK_BYTES if held_back else _USUAL_BYTES, _SEGMENTS * _segment_bytes(raw))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def _segment_bytes(raw: socket.socket) -> int:
    """Size of a connection's TCP segments; 0: unknown."""
    with contextlib.suppress(AttributeError, OSError):  # a Unix socket, or a system without this option
        return raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    return 0
