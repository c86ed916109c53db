"""The recv pump of a connection: messages in, commands for the session's worker out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Message, Receive, Send

from observability.connection_telemetry import ConnectionTelemetry
from protocol.dialect import Dialect
from protocol.errors import InternalError, PayloadTooLarge, ServiceError
from protocol.events import Audio, Command, Commit, Finish, KeepAlive, Reject, Stall, Unknown, WarningCode
from transport.bridge import Bridge
from transport.client_pace import ClientPace
from transport.inbound_queue import InboundQueue
from transport.loop_lag import LoopLag
from transport.message_flood import MessageFlood
from transport.receive_buffer import bound_receive_buffer
from transport.websocket_protocol import KEEPALIVE_EVENT, PONG_EVENT, SpeechWebSocketProtocol

_FULL_POLL_SECONDS = 0.05
"""Time between two checks whether a client that is held back has room in the queue, or is gone."""


@dataclass(frozen=True, slots=True)
class AsgiSocket:
    """An accepted WebSocket, as ASGI hands it over."""

    receive: Receive
    send: Send
    protocol: SpeechWebSocketProtocol | None
    """What it is read by; None: another protocol, so the socket cannot be dropped."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """What it is read from, if that is known."""
        return None if self.protocol is None else self.protocol.transport

    @property
    def closing(self) -> bool:
        """Whether the client is known to be gone."""
        return self.transport is not None and self.transport.is_closing()

    def hold_back(self, *, held_back: bool) -> None:
        """Let little wait in the system's buffers, or as usual; nothing with another protocol."""
        if self.transport is not None and not self.closing:
            bound_receive_buffer(self.transport, held_back=held_back)

    def ping(self, payload: bytes) -> None:
        """Send a ping whose pong comes as an event behind all that came before it; nothing with another protocol."""
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
        open_bridge: Callable[[], Bridge | None],
    ) -> None:
        """`open_bridge` is called with the first message; None: the connection ends without a session."""
        self._socket = socket
        self._dialect = dialect
        self._telemetry = telemetry
        self._loop_lag = loop_lag
        self._open_bridge = open_bridge
        self._bridge: Bridge | None = None
        self._unknown_messages = MessageFlood()
        self._pace = ClientPace()
        self._free_since = time.monotonic()
        """When the last audio was taken and the socket was read again, monotonic seconds."""
        self.ignores = False
        """The session ends, or the client finished it: only the client's close is awaited."""
        self.last_message = self.last_audio = time.monotonic()
        """When the last message or keepalive, and the last audio, was read (or the connection opened), monotonic s."""
        self.commits = 0
        """Commits received."""
        self.waits = False
        """The client is ahead of real time, and what it sent next is not read now."""
        self._was_held_back = False
        """Since it was last live."""

    @property
    def seconds_behind(self) -> float | None:
        """Seconds of live audio that the worker has not taken; None: the client sends ahead of real time."""
        if self._pace.ahead:
            return None
        return 0.0 if self._bridge is None else self._bridge.inbound.age_seconds

    async def run(self, on_error: Callable[[ServiceError], None]) -> int:
        """Read until the client is gone; returns its close code. `on_error` gets what ends the session."""
        while True:
            message = await self._socket.receive()
            now = time.monotonic()
            if message["type"] == "websocket.disconnect":
                code: int = message.get("code") or 1005
                return code
            if self.ignores:
                continue
            try:
                await self._take_event(message, now)
            except ServiceError as error:
                on_error(error)
            except Exception as error:  # noqa: BLE001 - goes to the log; the peer learns only that it was the server
                self._telemetry.failed(error)
                on_error(InternalError())

    def flush(self) -> None:
        """Queue the audio that the dialect still holds: the server ends the utterance here."""
        if self._bridge is not None:
            for audio in self._dialect.flush():
                # What is wrong with the queue was raised for the message before.
                with contextlib.suppress(ServiceError):
                    self._bridge.inbound.put_audio(audio.data, time.monotonic(), live=not self._pace.ahead)

    async def _take_event(self, message: Message, now: float) -> None:
        if message["type"] == PONG_EVENT:
            # A pong does not restart the idle timer: client libraries answer pings for programs that hang.
            if self._bridge is not None and self._bridge.stall_watch.shows_stall(message["bytes"]):
                self.flush()
                self._take_command(Stall(), self._bridge.inbound, now)
            return
        self.last_message = now
        if message["type"] != KEEPALIVE_EVENT:
            # Taken out of the message, which stays until the next one comes: it may have many megabytes.
            await self._take(message.pop("bytes", None), message.pop("text", None) or "", now)

    async def _take(self, data: bytes | None, text: str, now: float) -> None:
        limit = self._dialect.max_message_bytes
        if (_utf8_length(text) if data is None else len(data)) > limit:
            raise PayloadTooLarge(f"a message may have at most {limit} bytes")
        if self._bridge is None:
            self._bridge = self._open_bridge()
        bridge = self._bridge
        if bridge is None:
            return
        for command in self._dialect.take(text if data is None else data):
            if self.ignores:
                return  # the session was ended during a long message
            if not isinstance(command, Audio):
                self._take_command(command, bridge.inbound, now)
            elif command.data:
                await self._take_audio(command.data, bridge, now)
            else:
                await asyncio.sleep(0)  # a long message may give no audio for long

    async def _take_audio(self, data: bytes, bridge: Bridge, now: float) -> None:
        pace, queue, seconds = self._pace, bridge.inbound, bridge.inbound.seconds_of(data)
        pace.received(seconds, now, now - self._free_since, self._loop_lag.held_up(now))
        bridge.stall_watch.received(seconds, now)
        queue.put_audio(data, now, live=not pace.ahead, resumes=pace.resumes)
        if pace.ahead:
            await self._hold_back(data, queue)
        elif self._was_held_back:
            self._was_held_back = False
            self._socket.hold_back(held_back=False)
        self._free_since = self.last_audio = time.monotonic()

    async def _hold_back(self, data: bytes, queue: InboundQueue) -> None:
        """Wait as long as a client that is ahead must, after the message `data`."""
        # Slower and slower rather than not at all, so that pings behind the audio are answered.
        pause = queue.pause_seconds(data)
        if pause and not self._was_held_back:
            self._was_held_back = True
            self._socket.hold_back(held_back=True)
        self.waits = True
        await asyncio.sleep(pause)
        while queue.is_full and not self._socket.closing:  # noqa: ASYNC110 - the worker's thread makes room
            await asyncio.sleep(_FULL_POLL_SECONDS)
        self.waits = False

    def _take_command(self, command: Command, queue: InboundQueue, now: float) -> None:
        self._telemetry.commanded(command)
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
                self._telemetry.not_understood()
                if self._unknown_messages.count(now) == 1:
                    self._telemetry.warned(WarningCode.UNKNOWN_MESSAGE, message)
                    queue.put_command(Reject(WarningCode.UNKNOWN_MESSAGE, message), now)
            case _:
                self.ignores = isinstance(command, Finish)
                queue.put_command(command, now)


def _utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
