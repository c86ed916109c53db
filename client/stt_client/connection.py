"""One WebSocket connection to the server, opened and read."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidProxy, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response

from stt_client.errors import RequestRefused, SttError
from stt_client.retry import NO_CLOSE_FRAME
from stt_client.unreachable import NeverReachable, unreachable

OPEN_SECONDS = 10.0
"""Longest time for one attempt."""
_CLOSE_SECONDS = 2.0
_MAX_MESSAGE_BYTES = 4 * 1024 * 1024


class Refused(Exception):
    """An attempt failed; another may succeed."""

    def __init__(self, error: SttError, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        """The error for the caller if no other attempt is made."""
        self.status = status
        """The HTTP answer; None: there was none."""
        self.retry_after = retry_after
        """Seconds to wait, by the header `Retry-After`; None: it has none."""


class Closed(Exception):
    """The connection has ended."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
        """The close code; 1006: there was no close frame."""


class _PromptConnection(ClientConnection):
    """Ends with the server's close frame: a proxy may keep the TCP connection open for a second more."""

    def process_event(self, event: object) -> None:
        super().process_event(event)  # type: ignore[arg-type]
        if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
            # Our reply is in the transport already. Audio that waits before it would delay the end.
            end = self.transport.abort if self.transport.get_write_buffer_size() else self.transport.close
            self.loop.call_soon(end)


class Connection:
    """An open connection. Used on one event loop."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, message: bytes | str) -> None:
        """Send a message; waits while the network is slower.

        Raises:
            Closed: the connection has ended.
        """
        try:
            await self._socket.send(message)
        except ConnectionClosed as closed:
            raise _closed(closed) from closed

    async def receive(self) -> str | bytes:
        """The next message.

        Raises:
            Closed: the connection has ended.
        """
        try:
            return await self._socket.recv()
        except ConnectionClosed as closed:
            raise _closed(closed) from closed

    async def close(self) -> None:
        """Close it; bounded by 2 s."""
        await self._socket.close()


async def open_connection(
    url: str, headers: Mapping[str, str], context: ssl.SSLContext | None, seconds: float
) -> Connection:
    """Connect within `seconds`.

    Raises:
        Refused: the server cannot be reached or refuses.
        ServerUnreachable: another attempt would fail in the same way.
    """
    trust: dict[str, Any] = {} if context is None else {"ssl": context}
    try:
        socket = await connect(
            url,
            additional_headers=headers,
            compression=None,
            open_timeout=seconds,
            close_timeout=_CLOSE_SECONDS,
            max_size=_MAX_MESSAGE_BYTES,
            create_connection=_PromptConnection,
            **trust,
        )
    except InvalidStatus as refusal:
        raise _refused(refusal.response) from refusal
    except (OSError, EOFError, TimeoutError, InvalidHandshake, InvalidProxy, ImportError) as error:
        failure = unreachable(url, error)
        if isinstance(failure, NeverReachable):
            raise failure from error
        raise Refused(failure) from error
    return Connection(socket)


def _closed(closed: ConnectionClosed) -> Closed:
    return Closed(NO_CLOSE_FRAME if closed.rcvd is None else closed.rcvd.code)


def _refused(response: Response) -> Refused:
    status = response.status_code
    return Refused(
        RequestRefused(status, refusal_text(bytes(response.body or b""), response.reason_phrase)),
        status,
        retry_after_seconds(response.headers.get("Retry-After")),
    )


def refusal_text(body: bytes, reason: str) -> str:
    """What the server says in the body of an HTTP error, or else the status's name."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return reason


def retry_after_seconds(header: str | None) -> float | None:
    """The header `Retry-After` (RFC 9110, section 10.2.3) in seconds; None: there is none that can be read."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time())
    except ValueError:
        return None
