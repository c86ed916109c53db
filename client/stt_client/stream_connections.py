"""The connections of one stream, one after another: sends audio and commands, and receives events."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from stt_client.audio import BYTES_PER_SAMPLE, Codec
from stt_client.connection import OPEN_SECONDS, Closed, Connection, Refused, open_connection
from stt_client.errors import StreamClosed, SttError
from stt_client.event_queue import EventQueue
from stt_client.events import Ready, Reconnected, Reconnecting
from stt_client.messages import parse, to_json
from stt_client.resume import Opening, ResumableStream
from stt_client.retry import NO_CLOSE_FRAME, RetrySchedule


@dataclass(frozen=True, slots=True)
class StreamTarget:
    """Address and options of a stream."""

    url: str
    headers: Mapping[str, str]
    context: ssl.SSLContext | None
    sample_rate: int
    codec: Codec
    connect_seconds: float
    reconnect_seconds: float
    keepalive_seconds: float
    channels: int = 1

    @property
    def bytes_per_second(self) -> int:
        """Bytes of a second of audio, all channels."""
        return self.sample_rate * BYTES_PER_SAMPLE[self.codec] * self.channels


class StreamConnections:
    """Runs as one task, `run`, on the event loop on which everything else of it is called."""

    def __init__(self, target: StreamTarget) -> None:
        self._target = target
        self._retry = RetrySchedule(monotonic(), target.connect_seconds, target.reconnect_seconds)
        self._keepalive_due = False
        self.core = ResumableStream(target.sample_rate, BYTES_PER_SAMPLE[target.codec], target.channels)
        self.events = EventQueue()
        self.pending = asyncio.Event()
        """Set when there may be something to send."""
        self.progress = asyncio.Event()
        """Set when there may be room for more audio."""
        self.started = asyncio.Event()
        """Set when a server has taken the stream, or the attempts have ended."""
        self.ready: Ready | None = None
        """What the current server reported about itself."""
        self.error: SttError | None = None
        """Why the stream ended before its last words."""

    def keepalive(self) -> None:
        """Tell the server that the client is still there."""
        self._keepalive_due = True
        self.pending.set()

    async def run(self) -> None:
        """Connect, as often as needed, until the server has sent everything or no other attempt is made."""
        try:
            while not self.core.finished:
                await self._attempt()
        except SttError as error:
            self.error = error
            await self.events.put(self.core.abandoned())
        except asyncio.CancelledError:
            self.error = SttError("the stream was left before its last words")
            raise
        finally:
            self.events.end(self.error)
            self.started.set()
            self.progress.set()

    async def _attempt(self) -> None:
        """Connect once and stay while it lasts, then wait until the next attempt is due."""
        target = self._target
        seconds = min(OPEN_SECONDS, max(1.0, self._retry.remaining(monotonic())))
        try:
            connection = await open_connection(target.url, target.headers, target.context, seconds)
        except Refused as refusal:
            error = refusal.error
            delay = self._retry.refused(refusal.status, refusal.retry_after, monotonic())
        else:
            code = await self._converse(connection)
            await self.events.put(self.core.closed(code))
            self.progress.set()
            if self.core.finished:
                return
            error = self._closing_error(code)
            delay = self._retry.closed(code, monotonic())
        if delay is None:
            raise error
        await self.events.put([Reconnecting(reason=str(error), delay_seconds=delay)])
        await asyncio.sleep(delay)

    def _closing_error(self, code: int) -> SttError:
        if code == NO_CLOSE_FRAME:
            return StreamClosed(code, "the connection broke")
        return StreamClosed(code, self.core.error.message if self.core.error else "")

    async def _converse(self, connection: Connection) -> int:
        """Send and receive until the connection ends; its close code."""
        opening = self.core.opened()
        sender = asyncio.create_task(self._send(connection, opening.messages), name="stt sender")
        try:
            while True:
                await self._receive(await connection.receive(), opening)
        except Closed as closed:
            return closed.code
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            await connection.close()

    async def _receive(self, text: str | bytes, opening: Opening) -> None:
        message = parse(text)
        if isinstance(message, Ready):
            await self._taken(message, opening)
        if message is not None:
            await self.events.put(self.core.received(message))
            self.progress.set()

    async def _taken(self, ready: Ready, opening: Opening) -> None:
        again = self.ready is not None
        self.ready = ready
        self._retry.taken(monotonic())
        self.started.set()
        if again:
            await self.events.put([Reconnected(resent_ms=opening.resent_ms), *opening.lost])

    async def _send(self, connection: Connection, first: Sequence[str]) -> None:
        opened = monotonic()
        with contextlib.suppress(Closed):
            for message in first:
                await connection.send(message)
            while True:
                self.pending.clear()
                delay = self.core.delay(monotonic() - opened)
                if delay == 0:
                    await connection.send(self.core.take())
                    self.progress.set()
                else:
                    await self._wait(connection, delay)

    async def _wait(self, connection: Connection, delay: float | None) -> None:
        """Wait until `delay` is over or something was added; a stream that is silent for long says that it is there."""
        try:
            async with asyncio.timeout(self._target.keepalive_seconds if delay is None else delay):
                await self.pending.wait()
        except TimeoutError:
            self._keepalive_due = delay is None
        if self._keepalive_due:
            self._keepalive_due = False
            await connection.send(to_json("keepalive"))
