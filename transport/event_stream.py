"""An HTTP answer of server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.types import Send

from protocol.errors import ClientTooSlow

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # makes nginx pass each event on at once
}


class EventStream:
    """One answer of server-sent events (WHATWG HTML, section 9.2). Used on the event loop."""

    def __init__(self, send: Send, send_seconds: float, headers: dict[str, str]) -> None:
        """`send_seconds`: how long a client may read nothing. `headers`: additional headers."""
        self._send = send
        self._seconds = send_seconds
        self._headers = _HEADERS | headers

    async def start(self) -> None:
        """Answer with status 200."""
        headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def events(self, data: Iterable[str]) -> None:
        """Send an event for each of `data`, which are single lines.

        Raises:
            ClientTooSlow: the client does not read.
        """
        for each in data:
            await self._write(f"data: {each}\n\n")

    async def keep_alive(self) -> None:
        """Send a comment, which clients ignore and proxies count as traffic.

        Raises:
            ClientTooSlow: the client does not read.
        """
        await self._write(":\n\n")

    async def end(self) -> None:
        """End the answer."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, text: str) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        except TimeoutError as error:
            raise ClientTooSlow("the client does not read") from error
