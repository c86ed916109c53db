"""One WebSocket connection from its upgrade to its close, whatever its dialect."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from observability.connection_telemetry import ConnectionTelemetry
from observability.tracebacks import without_traceback
from protocol.dialect import Close, Dialect, OutboundMessage, SessionOptions
from protocol.errors import ClientTooSlow, Idle, InternalError, ServerOverloaded, ServerRestarting, ServiceError
from protocol.events import Event, Final, Finished, Reason
from session.channel_state import elapsed_ms
from transport.app_context import AppContext
from transport.bridge import Bridge, open_bridge
from transport.outbound_queue import OutboundQueue
from transport.receiver import AsgiSocket, Receiver

_CLOSE_SECONDS = 1.0
"""How long a client may take to answer a close frame."""
_CLOSING_SECONDS = 10.0
"""How long the last finals may take when the server closes a connection; then hypotheses take their place."""
_PEER_GONE = (OSError, RuntimeError)
"""What a send raises when the peer is gone; RuntimeError: something was sent after a close."""


class Connection:
    """Owns one open WebSocket, its bridge and its close code. Everything here runs on the event loop."""

    def __init__(
        self, socket: AsgiSocket, dialect: Dialect, context: AppContext, telemetry: ConnectionTelemetry
    ) -> None:
        self._socket = socket
        self._dialect = dialect
        self._context = context
        self._telemetry = telemetry
        self._options = SessionOptions()
        self._bridge: Bridge | None = None
        """Created at the first message: it is most of the cost of a connection, and some clients only connect."""
        self._sender: asyncio.Task[None] | None = None
        """The send loop, which starts with the bridge."""
        self._reading: asyncio.Timeout | None = None
        """The scope of the receive loop while it runs."""
        self._read_seconds: float | None = None
        """How long the socket is still read; None: until the client is gone."""
        self._idle_timer: asyncio.TimerHandle | None = None
        self._closing_timers: list[asyncio.TimerHandle] = []
        self._error: ServiceError | None = None
        """Why the server closes the connection; None: the client closed it, or the session is finished."""
        self._finished = False
        """Whether the client was told that its session is finished. What fails after that is no concern of its own."""
        self._client_code: int | None = None
        """The close code that the client sent."""
        self._unreachable = False
        """Whether a send failed. The client's close code may still be unread."""
        self._aborted = False
        self._commit_finals = 0
        """Finals sent in answer to commits."""
        self._last_sent = time.monotonic()
        """When a message was last sent, monotonic seconds."""
        self._receiver = Receiver(socket, dialect, telemetry, context.loop_lag)

    async def run(self, opened: SessionOptions | ServiceError) -> None:
        """Serve the accepted socket; returns when it is closed and its thread has ended."""
        try:
            if isinstance(opened, ServiceError):
                self._fail(opened)
            else:
                self._options = opened
                await self._serve()
        except Exception as error:  # noqa: BLE001 - goes to the log; the peer learns only that it was the server
            self._telemetry.failed(error)
            self._error = self._error or InternalError()
        close = self._dialect.goodbye(None if self._finished else self._error, time.time())
        await self._close(close)
        self._record_end(close)

    # Called by `Admission`

    def drain(self) -> None:
        """End the open utterance at the last sample received, send what is due, then close with 1012."""
        self._conclude(ServerRestarting(), Reason.DRAIN)

    def finish_now(self) -> None:
        """Send hypotheses in place of finals that are not ready: the drain runs out of time."""
        if self._bridge is not None:
            self._bridge.inbound.finish_now()

    def on_backend_lost(self) -> None:
        """Close with 1011, because the engine died, whether or not an utterance is open."""
        self._fail(InternalError())

    @property
    def queue_lengths(self) -> tuple[int, int]:
        """Messages in the inbound and in the outbound queue."""
        bridge = self._bridge
        return (0, 0) if bridge is None else (len(bridge.inbound), len(bridge.outbound))

    @property
    def queue_age_seconds(self) -> float:
        """Seconds that the oldest message in the inbound queue has waited."""
        return 0.0 if self._bridge is None else self._bridge.inbound.age_seconds

    @property
    def seconds_behind(self) -> float | None:
        """Seconds that the engine is behind this client's live audio.

        None: the client is ahead of real time, or does not read, so its backlog does not show how fast the engine is.
        """
        reads = self._bridge is None or not self._bridge.outbound.is_full
        return self._receiver.seconds_behind if reads else None

    # The session

    async def _serve(self) -> None:
        options = self._options
        self._telemetry.opened(
            options.call_id, language=options.language, partial_ms=options.partial_ms, hotwords=len(options.hotwords)
        )
        self._watch_idle()
        try:
            await self._send(self._dialect.hello(time.time()))
            await self._receive_all()
        finally:
            self._cancel(at_once=True)
            for timer in (self._idle_timer, *self._closing_timers):
                if timer is not None:
                    timer.cancel()
            if self._sender is not None:
                await asyncio.wait([self._sender])
            if self._bridge is not None:
                await asyncio.shield(self._bridge.thread.ended)

    async def _receive_all(self) -> None:
        """Read until the client is gone, or the connection ends."""
        try:
            async with asyncio.timeout(self._read_seconds) as self._reading:
                self._client_code = await self._receiver.run(self._open_bridge, self._fail)
        except TimeoutError:
            pass  # ended by `_end_reading`
        finally:
            self._reading = None

    def _end_reading(self) -> None:
        """End the receive loop, and open no bridge any more. Idempotent."""
        if self._read_seconds is None:
            # If the client is gone, its last messages and its close code may still be unread.
            self._read_seconds = _CLOSE_SECONDS if self._unreachable else 0.0
            if self._reading is not None:
                self._reading.reschedule(asyncio.get_running_loop().time() + self._read_seconds)

    def _open_bridge(self) -> Bridge | None:
        if self._read_seconds is not None:
            return None  # the connection ends without one
        self._bridge = open_bridge(self._context, self._options, self._telemetry, self._socket.ping)
        self._bridge.thread.ended.add_done_callback(self._on_worker_end)
        self._sender = asyncio.create_task(self._send_all(self._bridge.outbound), name="send loop")
        self._socket.set_throttled(throttled=False)
        self._socket.read_together(self._bridge.inbound.read_later, joins_binary=self._options.binary_is_pcm)
        return self._bridge

    def _on_worker_end(self, ended: asyncio.Future[BaseException | None]) -> None:
        failure = ended.result()
        if failure is not None:
            self._telemetry.failed(failure)
            self._fail(InternalError())
        elif self._bridge is not None:
            self._bridge.outbound.end()

    async def _send_all(self, outbound: OutboundQueue) -> None:
        """Send events until the queue ends or the client is gone."""
        try:
            while (event := await outbound.get()) is not None:
                if not await self._send(self._dialect.tell(self._stamped(event), time.time())):
                    return
                self._finished = isinstance(event, Finished)
        except Exception as error:  # noqa: BLE001 - as in `run`
            self._telemetry.failed(error)
            self._fail(InternalError())
        finally:
            self._end_reading()

    def _stamped(self, event: Event) -> Event:
        """Set a final's latency, which includes the time in the outbound queue."""
        if not isinstance(event, Final):
            return event
        self._commit_finals += event.reason is Reason.COMMIT
        final = replace(event, latency_ms=elapsed_ms(event.ended, time.monotonic()))
        speech = final.end_ms > final.start_ms
        self._telemetry.final(final.reason, final.segment_seq, final.first_token_ms, final.latency_ms, speech=speech)
        return final

    async def _send(self, messages: Iterable[OutboundMessage]) -> bool:
        """Send text messages; False: the client is gone, or does not read."""
        try:
            for message in messages:
                event = {"type": "websocket.send", "text": message}
                await self._socket.send_within(self._context.socket.send_timeout_seconds, event)
                self._last_sent = time.monotonic()
        except TimeoutError:
            self._fail(ClientTooSlow("the client does not read"))
            self._abort()
            return False
        except _PEER_GONE:
            self._unreachable = True
            self._cancel(at_once=True)
            return False
        return True

    # The end

    def _watch_idle(self) -> None:
        """Close the connection if it was idle for too long, else check again when it may have been."""
        if self._receiver.ignores_messages:
            return
        limits = self._context.socket
        # A client that waits for the final of its commit has nothing to send.
        waits = self._receiver.commits * self._options.channels > self._commit_finals
        idle, silent = self._receiver.seconds_left(limits, time.monotonic() if waits else self._last_sent)
        if idle <= 0:
            self._fail(Idle(f"idle: nothing came for {limits.idle_seconds:g} seconds"))
        elif silent <= 0:
            self._fail(Idle(f"idle: no audio came for {limits.max_silent_seconds:g} seconds"))
        elif (left := min(idle, silent)) < math.inf:
            self._idle_timer = asyncio.get_running_loop().call_later(left, self._watch_idle)

    def _fail(self, error: ServiceError) -> None:
        """Close with `error`, unless the connection is being closed already.

        The open utterance gets its final first, unless the server failed or the client does not read.
        """
        if isinstance(error, InternalError | ClientTooSlow):
            self._set_error(error)
            self._cancel(at_once=False)
        else:
            self._conclude(error, Reason.CLOSING)
            if self._bridge is not None:
                self._in_time(_CLOSING_SECONDS, self.finish_now)
                self._in_time(_CLOSING_SECONDS + _CLOSE_SECONDS, lambda: self._cancel(at_once=False))

    def _set_error(self, error: ServiceError) -> None:
        if self._error is None and isinstance(error, ServerOverloaded):
            self._context.metrics.overload_closes.inc()
        self._error = self._error or without_traceback(error)
        self._receiver.ignores_messages = True

    def _in_time(self, seconds: float, action: Callable[[], None]) -> None:
        self._closing_timers.append(asyncio.get_running_loop().call_later(seconds, action))

    def _conclude(self, error: ServiceError, reason: Reason) -> None:
        """Close with `error` after all finals. The open utterance ends with `reason`."""
        self._set_error(error)
        if self._bridge is None:
            self._end_reading()
        else:
            self._receiver.flush()
            self._bridge.conclude(reason)

    def _cancel(self, *, at_once: bool) -> None:
        """Drop what is not processed. Unless `at_once`, what is queued for the client is still sent. Idempotent."""
        if self._bridge is None:
            self._end_reading()
        else:
            self._bridge.cancel(at_once=at_once)

    def _abort(self) -> None:
        """Drop the socket. A close frame would wait behind the messages that the client does not read."""
        self._aborted = True
        if self._socket.transport is not None:
            self._socket.transport.abort()

    async def _close(self, close: Close) -> None:
        """Send the last messages and the close frame, and wait for the client's."""
        if self._aborted and self._socket.transport is None and self._client_code is None:
            # The socket cannot be dropped. It counts as a session while it lasts, so such sockets are bounded.
            await self._await_disconnect()
        if self._client_code is not None or self._aborted or self._unreachable:
            return
        if await self._send(close.messages):
            with contextlib.suppress(*_PEER_GONE):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._socket.send({"type": "websocket.close", "code": close.code, "reason": close.reason})
                    # TCP resets a socket that is closed before the peer's reply is read, and the last words are lost.
                    await self._await_disconnect()

    async def _await_disconnect(self) -> None:
        while (await self._socket.receive())["type"] != "websocket.disconnect":
            pass

    def _record_end(self, close: Close) -> None:
        if self._client_code is not None or self._unreachable:
            self._telemetry.closed(self._client_code or 1006, "client", by="client")
        else:
            self._telemetry.closed(close.code, close.reason, by="server")
