"""`/v1/stt/ws`: one connection from its handshake to its close."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.websockets import WebSocket, WebSocketDisconnect

from backends.base import StreamOptions
from inference.listener import Listener
from inference.segmenter import Segmenter, SegmenterOptions
from inference.vad import EnergyVad
from inference.worker import Worker
from observability.metrics import Metrics
from observability.recorder import Recorder
from protocol.errors import BadRequest, Fault, Internal, Restarting, TooLarge, TooSlow
from protocol.schema import (
    MAX_MESSAGE_BYTES,
    ConnectParams,
    ErrorMessage,
    Ready,
    ServerMessage,
    parse_client_text,
    parse_connect,
    primary_subtag,
    refuse_unless,
)
from session.state import SessionState
from transport.bridge import Inbox, Outbox, QueueOptions, WorkerThread
from transport.engine import Engine
from transport.sessions import Admission

_CROWDED_SECONDS = 0.005
"""How long a burst waits between messages when the in queue fills: the interpreter's switch interval, in which the
worker's thread gets its turn. Live audio, 50 messages a second, would still pass."""


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """How long a connection may take, and from which pages it may come."""

    idle_seconds: float = 300.0
    """A client that sends nothing for so long is closed; 0: never."""
    send_timeout_seconds: float = 10.0
    """A client that does not read for so long is cut off."""
    allowed_origins: tuple[str, ...] = ()
    """Browser origins let in besides the server's own; `*`: all."""


@dataclass(frozen=True, slots=True)
class Services:
    """What every connection and request shares."""

    engine: Engine
    admission: Admission
    metrics: Metrics
    queues: QueueOptions
    socket: SocketOptions
    segmenter: SegmenterOptions
    vad_threshold: float
    """RMS in 16-bit units."""

    def listener(self, options: StreamOptions) -> Listener:
        """A new source's ears."""
        return Listener(
            EnergyVad(self.vad_threshold), Segmenter(self.segmenter), lambda: self.engine.backend.stream(options)
        )


async def serve_socket(websocket: WebSocket, services: Services) -> None:
    """Accept a WebSocket and serve it until its close."""
    await websocket.accept()
    await Connection(websocket, services).run()


class Connection:
    """Owns one socket, its two queues, its thread and its close code. Everything here runs on the event loop."""

    def __init__(self, websocket: WebSocket, services: Services) -> None:
        self._websocket = websocket
        self._services = services
        self._call_id = websocket.query_params.get("call_id", "")[:128]
        self._recorder = Recorder(services.metrics, self._call_id)
        self._inbox = Inbox(services.queues, self._recorder)
        self._outbox = Outbox(services.queues, self._recorder)
        self._fault: Fault | None = None
        self._gone: int | None = None
        self._last_message = time.monotonic()

    async def run(self) -> None:
        """Serve the connection; returns when it is closed, its thread ended and its place free."""
        try:
            params = self._check()
            with self._services.admission.session(self):
                await self._converse(params)
                await self._say_goodbye()
        except Fault as fault:
            self._fault = fault
            await self._say_goodbye()
        except Exception as error:  # noqa: BLE001 - told to the log; the peer learns only that it was us
            self._recorder.failed(error)
            self._fault = Internal()
            await self._say_goodbye()
        finally:
            await self._inbox.aclose()
            await self._outbox.aclose()
        self._record_end()

    def drain(self) -> None:
        """End the utterance at the last sample received, send what is due, then close with 1012."""
        self._fault = self._fault or Restarting()
        self._inbox.end(drain=True)

    def abandon(self) -> None:
        """Close with 1012 now."""
        self._fail(Restarting())
        self._outbox.end(at_once=True)

    @property
    def queue_lengths(self) -> tuple[int, int]:
        """Messages in the in queue and in the out queue."""
        return len(self._inbox), len(self._outbox)

    def _check(self) -> ConnectParams:
        _check_origin(self._websocket, self._services.socket.allowed_origins)
        params = parse_connect(self._websocket.query_params)
        refuse_unless(self._services.engine.backend.languages, params.language)
        return params

    async def _converse(self, params: ConnectParams) -> None:
        backend = self._services.engine.backend
        self._recorder.opened(language=params.language, partial_ms=params.partial_ms, hotwords=len(params.hotwords))
        hotwords_used = bool(params.hotwords) and backend.uses_hotwords
        ready = Ready(
            created_at=time.time(),
            backend=backend.name,
            hotwords_used=hotwords_used,
            **params.model_dump(exclude={"hotwords"}),
        )
        thread = WorkerThread(f"stt-{self._recorder.connection_id}")
        thread.start(self._work(params, StreamOptions(primary_subtag(params.language), params.hotwords)))
        tasks = [
            asyncio.create_task(self._receive(), name="recv pump"),
            asyncio.create_task(self._await_worker(thread), name="worker end"),
            asyncio.create_task(self._watch_idle(), name="idle watch"),
        ]
        try:
            await self._send(ready)
            await self._pump_out()
        finally:
            self._inbox.end(drain=False)
            self._outbox.end(at_once=True)
            await tasks[1]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _work(self, params: ConnectParams, options: StreamOptions) -> Callable[[], None]:
        state = SessionState(params.call_id, params.language, params.partial_ms)
        listener = self._services.listener(options)
        return Worker(self._inbox, self._outbox, listener, state, self._recorder).run

    async def _receive(self) -> None:
        """Recv pump: never waits for the worker to do anything, so pings are always answered."""
        try:
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    self._leave(message.get("code") or 1005)
                    return
                self._last_message = time.monotonic()
                self._accept_message(message.get("bytes"), message.get("text"))
                if self._inbox.crowded:
                    await asyncio.sleep(_CROWDED_SECONDS)
        except Fault as fault:
            self._fail(fault)

    def _accept_message(self, data: bytes | None, text: str | None) -> None:
        size = len(data) if data is not None else len(text or "")
        if size > MAX_MESSAGE_BYTES:
            raise TooLarge(f"a message may have at most {MAX_MESSAGE_BYTES} bytes")
        if data is not None:
            self._inbox.put_audio(data, self._last_message)
            return
        parse_client_text(text or "")
        self._recorder.committed()
        self._inbox.put_commit(self._last_message)

    async def _pump_out(self) -> None:
        """Send pump: ends when the outbox does, or the client is gone."""
        while (message := await self._outbox.get()) is not None:
            if not await self._send(message):
                return

    async def _send(self, message: ServerMessage) -> bool:
        try:
            async with asyncio.timeout(self._services.socket.send_timeout_seconds):
                await self._websocket.send_text(message.to_json())
        except TimeoutError:
            self._fail(TooSlow("the client does not read"))
            self._gone = self._gone or TooSlow.close_code
            return False
        except (WebSocketDisconnect, RuntimeError):
            # How a peer that vanished shows: uvicorn says so from send, Starlette once it has seen the disconnect.
            self._leave(1006)
            return False
        return True

    async def _await_worker(self, thread: WorkerThread) -> None:
        failure = await thread.ended()
        if failure is not None:
            self._recorder.failed(failure)
            self._fail(Internal())
        self._outbox.end()

    async def _watch_idle(self) -> None:
        limit = self._services.socket.idle_seconds
        while limit:
            quiet = time.monotonic() - self._last_message
            if quiet >= limit:
                self._fail(BadRequest(f"idle: nothing came for {limit:g} seconds"))
                return
            await asyncio.sleep(limit - quiet)

    def _fail(self, fault: Fault) -> None:
        """Close with `fault`, unless something else closed the connection first; what is due is still sent."""
        self._fault = self._fault or fault
        self._inbox.end(drain=False)
        self._outbox.end()

    def _leave(self, code: int) -> None:
        """The client is gone, or said goodbye with `code`."""
        if self._gone is None:
            self._gone = code
        self._inbox.end(drain=False)
        self._outbox.end(at_once=True)

    async def _say_goodbye(self) -> None:
        fault = self._fault
        if fault is None or self._gone is not None:
            return
        error = ErrorMessage(call_id=self._call_id, created_at=time.time(), code=fault.close_code, message=str(fault))
        if await self._send(error):
            with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
                async with asyncio.timeout(self._services.socket.send_timeout_seconds):
                    await self._websocket.close(fault.close_code, reason=str(fault)[:120])

    def _record_end(self) -> None:
        if self._fault is not None and self._gone in (None, TooSlow.close_code):
            self._recorder.closed(self._fault.close_code, str(self._fault))
        else:
            self._recorder.closed(self._gone or 1006, "client")


def _check_origin(websocket: WebSocket, allowed: Sequence[str]) -> None:
    """Let in what no browser page sent, the server's own pages, and the origins that the settings name."""
    origin = websocket.headers.get("origin")
    if origin is None or "*" in allowed or origin in allowed:
        return
    if urlsplit(origin).netloc != websocket.headers.get("host"):
        raise BadRequest("origin is not allowed")
