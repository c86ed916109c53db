"""The receive loop of a connection: turns the client's messages into commands for the session's worker."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Message, Receive, Send

from observability.connection_telemetry import ConnectionTelemetry
from observability.tracebacks import without_traceback
from protocol.dialect import Dialect
from protocol.errors import BadRequest, InternalError, PayloadTooLarge, ServiceError
from protocol.events import Audio, Command, Commit, Finish, KeepAlive, Reject, Stall, Unknown, WarningCode
from transport.app_context import SocketOptions
from transport.bridge import Bridge
from transport.client_pace import ClientPace
from transport.inbound_queue import InboundQueue
from transport.loop_lag import LoopLag
from transport.rate_limit import RateLimit
from transport.receive_buffer import bound_receive_buffer
from transport.websocket_events import COUNT, FLOOD_EVENT, KEEPALIVE_EVENT, PONG_EVENT
from transport.websocket_protocol import MAX_CONTROL_FRAMES, SpeechWebSocketProtocol

MAX_UNKNOWN_MESSAGES = 200
"""Messages that the dialect does not know, allowed in a second. Gateways that wrap audio in text send 50."""
_THROTTLE_POLL_SECONDS = 0.05
"""Interval at which the queue of a throttled client is checked for room, and the client for having gone."""


@dataclass(frozen=True, slots=True)
class AsgiSocket:
    """An accepted WebSocket, as ASGI hands it over."""

    receive: Receive
    send: Send
    protocol: SpeechWebSocketProtocol | None
    """The protocol that reads it; None: another class than ours, so the socket can be neither pinged nor dropped."""

    async def send_within(self, seconds: float, event: Message) -> None:
        """Send an event.

        Raises:
            TimeoutError: the client did not read for so long.
        """
        if self.protocol is not None and self.protocol.writable.is_set():
            await self.send(event)  # the client need not read, and a timer would cost as much as the event
        else:
            async with asyncio.timeout(seconds):
                await self.send(event)

    @property
    def transport(self) -> asyncio.Transport | None:
        """Its transport; None: unknown."""
        return None if self.protocol is None else self.protocol.transport

    @property
    def closing(self) -> bool:
        """Whether the client is known to be gone."""
        return self.transport is not None and self.transport.is_closing()

    def set_throttled(self, *, throttled: bool) -> None:
        """Choose the size of the receive buffer: small for a throttled client.

        Does nothing under another protocol class.
        """
        if self.transport is not None and not self.closing:
            bound_receive_buffer(self.transport, throttled=throttled)

    def read_together(self, read_later: Callable[[Callable[[], None]], None], *, joins_binary: bool) -> None:
        """See `SpeechWebSocketProtocol.read_together`. Does nothing under another protocol class."""
        if self.protocol is not None:
            self.protocol.read_together(read_later, joins_binary=joins_binary)

    def ping(self, payload: bytes) -> None:
        """Send a ping.

        Its pong comes as an event, after all messages before it. Does nothing under another protocol class.
        """
        if self.protocol is not None and not self.closing:
            self.protocol.ping(payload)


class Receiver:
    """Reads one connection's messages until its client is gone. Everything here runs on the event loop."""

    def __init__(
        self,
        socket: AsgiSocket,
        dialect: Dialect,
        telemetry: ConnectionTelemetry,
        loop_lag: LoopLag,
    ) -> None:
        self._socket = socket
        self._dialect = dialect
        self._telemetry = telemetry
        self._loop_lag = loop_lag
        self._bridge: Bridge | None = None
        self._unknown_messages = RateLimit(MAX_UNKNOWN_MESSAGES)
        self._pace = ClientPace()
        self._reading_since = time.monotonic()
        """Since when the socket is read, after the last audio, monotonic seconds."""
        self.ignores_messages = False
        """True after `finish`, or when the server ends the session: only the client's close is awaited."""
        self.last_message = self.last_audio = time.monotonic()
        """When the last message or keepalive, and the last audio, came (or the connection opened), monotonic
        seconds."""
        self.commits = 0
        """Commits received."""
        self.is_paused = False
        """Whether the socket is not read now, because its client is throttled."""
        self._throttled = False
        """Whether the receive buffer is small, as for a throttled client."""

    @property
    def seconds_behind(self) -> float | None:
        """How long the oldest message has waited; None: the client is ahead of real time."""
        if self._pace.ahead:
            return None
        return 0.0 if self._bridge is None else self._bridge.inbound.age_seconds

    def seconds_left(self, limits: SocketOptions, active: float) -> tuple[float, float]:
        """How long the client may still send nothing, and how long no audio; infinity: for ever.

        `active`: until when it was not idle for other reasons, monotonic seconds.
        """
        now = time.monotonic()
        if self.is_paused:  # what the client sends meanwhile is not read
            self.last_message = self.last_audio = now
        idle, silent = limits.idle_seconds or math.inf, limits.max_silent_seconds or math.inf
        return max(self.last_message, active) + idle - now, self.last_audio + silent - now

    async def run(self, open_bridge: Callable[[], Bridge | None], on_error: Callable[[ServiceError], None]) -> int:
        """Read until the client is gone, and return its close code.

        `open_bridge` is called at the first message; if it returns None, the connection ends without a session.
        `on_error` is called with the error that ends the session.
        """
        # Neither function is kept: they refer to the owner of this object, and a cycle would live until a collection.
        while True:
            message = await self._socket.receive()
            now = time.monotonic()
            if message["type"] == "websocket.disconnect":
                code: int = message.get("code") or 1005
                return code
            if self.ignores_messages:
                continue
            try:
                await self._take_event(message, now, open_bridge)
            except ServiceError as error:
                on_error(error)
            except Exception as error:  # noqa: BLE001 - goes to the log; the peer learns only that it was the server
                self._telemetry.failed(error)
                on_error(InternalError())

    def flush(self) -> None:
        """Queue the audio that the dialect still holds, before the server ends an utterance."""
        if self._bridge is not None:
            for audio in self._dialect.flush():
                try:
                    self._bridge.inbound.put_audio(audio.data, time.monotonic(), live=not self._pace.ahead)
                except ServiceError as error:  # an overflow, raised for the message before already; the queue keeps it
                    without_traceback(error)

    async def _take_event(self, message: Message, now: float, open_bridge: Callable[[], Bridge | None]) -> None:
        if message["type"] == PONG_EVENT:
            # A pong does not restart the idle timer: client libraries answer pings for programs that hang.
            if self._bridge is not None and self._bridge.stall_watch.shows_stall(message["bytes"]):
                self.flush()
                self._take_command(Stall(), self._bridge.inbound, now)
            return
        if message["type"] == FLOOD_EVENT:
            raise BadRequest(f"flood: more than {MAX_CONTROL_FRAMES} pings, pongs and empty messages in a second")
        self.last_message = now
        if message["type"] != KEEPALIVE_EVENT:
            # Removed from `message`, which stays in memory until the next one comes: it may have many megabytes.
            data, text = message.pop("bytes", None), message.pop("text", None) or ""
            await self._take(data, text, now, message.get(COUNT, 1), open_bridge)

    async def _take(
        self, data: bytes | None, text: str, now: float, messages: int, open_bridge: Callable[[], Bridge | None]
    ) -> None:
        limit = self._dialect.max_message_bytes
        if (_utf8_length(text) if data is None else len(data)) > limit:
            raise PayloadTooLarge(f"a message may have at most {limit} bytes")
        if self._bridge is None:
            self._bridge = open_bridge()
        bridge = self._bridge
        if bridge is None:
            return
        for command in self._dialect.take(text if data is None else data):
            if self.ignores_messages:
                return  # the session was ended during a long message
            if not isinstance(command, Audio):
                self._take_command(command, bridge.inbound, now)
            elif command.data:
                await self._take_audio(command.data, bridge, now, messages)
            else:
                await asyncio.sleep(0)  # let others run while a long message gives no audio

    async def _take_audio(self, data: bytes, bridge: Bridge, now: float, messages: int) -> None:
        pace, queue, seconds = self._pace, bridge.inbound, bridge.inbound.seconds_of(data)
        pace.received(seconds, now, now - self._reading_since, self._loop_lag.blocked_seconds(now))
        bridge.stall_watch.received(seconds, now)
        queue.put_audio(data, now, live=not pace.ahead, resumes=pace.resumes, messages=messages)
        if pace.ahead:
            await self._throttle(data, queue)
        elif self._throttled:
            self._throttled = False
            self._socket.set_throttled(throttled=False)
        self._reading_since = self.last_audio = time.monotonic()

    async def _throttle(self, data: bytes, queue: InboundQueue) -> None:
        """Delay the next read, after the message `data` of a client that is ahead of real time."""
        # Reading slows down before it stops, so that pings behind the audio are answered.
        if queue.throttle_seconds(data) and not self._throttled:
            self._throttled = True
            self._socket.set_throttled(throttled=True)
        self.is_paused = True
        # The pause gets shorter as the queue empties.
        began = time.monotonic()
        await asyncio.sleep(0)
        while not self._socket.closing:
            left = began + queue.throttle_seconds(data) - time.monotonic()
            if left <= 0 and not queue.is_full:
                break
            await asyncio.sleep(_THROTTLE_POLL_SECONDS if queue.is_full else min(left, _THROTTLE_POLL_SECONDS))
        self.is_paused = False

    def _take_command(self, command: Command, queue: InboundQueue, now: float) -> None:
        self._telemetry.command_received(command)
        match command:
            case KeepAlive():
                pass
            case Reject(code, message):
                self._telemetry.warned(code, message)
                queue.put_command(command, now)
            case Commit():
                self.commits += 1
                queue.put_command(command, now)
            case Unknown(message):
                count = self._telemetry.not_understood()
                if not self._unknown_messages.take(now):
                    raise BadRequest(f"flood: more than {MAX_UNKNOWN_MESSAGES} unknown messages in a second")
                if count == 1:
                    self._telemetry.warned(WarningCode.UNKNOWN_MESSAGE, message)
                    queue.put_command(Reject(WarningCode.UNKNOWN_MESSAGE, message), now)
            case _:
                self.ignores_messages = isinstance(command, Finish)
                queue.put_command(command, now)


def _utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
