"""`/v1/stt/ws`: one connection from its handshake to its close."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from backends.base import StreamOptions
from inference.segmenter import SegmenterOptions
from inference.vad import VadOptions
from inference.worker import Worker
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
from transport.bridge import Bridge, WorkerThread
from transport.inbound_queue import InboundQueue
from transport.outbox import Outbox
from transport.services import Services

_CLOSE_SECONDS = 1.0
"""How long a client may take to answer a close frame."""
_PEER_GONE = (OSError, RuntimeError)
"""How a peer that vanished shows in a send: it says so, or that nothing can be sent after a close. Also a time-out."""
SOCKET_PATH = "/v1/stt/ws"


async def serve_socket(scope: Scope, receive: Receive, send: Send, services: Services) -> None:
    """Accept a WebSocket, by ASGI's own messages, and serve it until its close."""
    await receive()
    try:
        await send({"type": "websocket.accept"})
    except OSError:
        return  # it left before it was let in
    transport = services.transports.find(scope)
    await Connection(scope, receive, send, transport, services).run()


class Connection:
    """Owns one socket, its bridge and its close code. Everything here runs on the event loop."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, transport: asyncio.Transport | None, services: Services
    ) -> None:
        self._headers = Headers(scope=scope)
        self._query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        self._receive = receive
        self._send_event = send
        self._transport = transport
        self._services = services
        self._call_id = self._query.get("call_id", "")[:128]
        self._recorder = Recorder(services.metrics, services.log, self._call_id)
        self._bridge: Bridge | None = None
        """Built with the first message: it is most of what a connection costs, and some clients only look in."""
        self._turn = asyncio.Event()
        """There is a bridge, or there will be none."""
        self._idle_timer: asyncio.TimerHandle | None = None
        self._fault: Fault | None = None
        self._gone: int | None = None
        """The code that the client left with."""
        self._unreachable = False
        """Nothing can be sent any more; why, the recv pump is about to read."""
        self._deaf = False
        self._last_message = time.monotonic()

    async def run(self) -> None:
        """Serve the connection; returns when it is closed, its thread ended and its place free."""
        try:
            params = self._check()
            with self._services.admission.session(self):
                await self._converse(params)
                await self._say_goodbye()
        except Fault as fault:
            self._fail(fault)
            await self._say_goodbye()
        except Exception as error:  # noqa: BLE001 - told to the log; the peer learns only that it was us
            self._recorder.failed(error)
            self._fault = Internal()
            await self._say_goodbye()
        self._record_end()

    def drain(self) -> None:
        """End the utterance at the last sample received, send what is due, then close with 1012."""
        self._fault = self._fault or Restarting()
        # An idle client would otherwise be cut off while its last words are decoded.
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._bridge is None:
            self._end()
        else:
            self._bridge.inbound.end(drain=True)

    def hurry(self) -> None:
        """The drain's time is nearly over: finals that are not ready are sent as the newest partial."""
        if self._bridge is not None:
            self._bridge.inbound.finish_now()

    def lose_engine(self) -> None:
        """The engine died: close with 1011, whether or not an utterance is open."""
        self._fail(Internal())

    @property
    def queue_lengths(self) -> tuple[int, int]:
        """Messages in the in queue and in the out queue."""
        bridge = self._bridge
        return (0, 0) if bridge is None else (len(bridge.inbound), len(bridge.outbox))

    def _check(self) -> ConnectParams:
        self._services.check_origin(self._headers)
        params = parse_connect(self._query)
        refuse_unless(self._services.engine.backend.languages, params.language)
        return params

    async def _converse(self, params: ConnectParams) -> None:
        backend = self._services.engine.backend
        self._recorder.opened(language=params.language, partial_ms=params.partial_ms, hotwords=len(params.hotwords))
        segmenter, vad = self._hearing(params)
        ready = Ready(
            created_at=time.time(),
            backend=backend.name,
            hotwords_used=bool(params.hotwords) and backend.uses_hotwords,
            vad_silence_ms=segmenter.silence_ms,
            vad_threshold=vad.threshold,
            **params.model_dump(exclude={"hotwords", "vad_silence_ms", "vad_threshold"}),
        )
        build_bridge = partial(self._build_bridge, params, segmenter, vad)
        pump = asyncio.create_task(self._pump_in(build_bridge), name="recv pump")
        self._watch_idle()
        try:
            await self._send(ready)
            await self._turn.wait()
            if self._bridge is not None:
                await self._pump_out(self._bridge.outbox)
        finally:
            self._end(at_once=True)
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            await self._stop(pump)
            if self._bridge is not None:
                await asyncio.shield(self._bridge.thread.ended)

    async def _stop(self, pump: asyncio.Task[None]) -> None:
        """End the recv pump; if the client is gone, once its goodbye is read, which lies behind its last messages."""
        if self._unreachable:
            await asyncio.wait([pump], timeout=_CLOSE_SECONDS)
        if not pump.done():
            pump.cancel()
            await asyncio.wait([pump])

    def _hearing(self, params: ConnectParams) -> tuple[SegmenterOptions, VadOptions]:
        """The server's options, but for what the client chose."""
        segmenter, vad = self._services.segmenter, self._services.vad
        if params.vad_silence_ms is not None:
            segmenter = replace(segmenter, silence_ms=params.vad_silence_ms)
        if params.vad_threshold is not None:
            vad = replace(vad, threshold=params.vad_threshold)
        return segmenter, vad

    def _build_bridge(self, params: ConnectParams, segmenter: SegmenterOptions, vad: VadOptions) -> Bridge:
        services = self._services
        inbound = InboundQueue(services.queues, self._recorder, services.scheduler)
        outbox = Outbox(self._services.queues, self._recorder)
        options = StreamOptions(
            primary_subtag(params.language), params.hotwords, partial_ms=params.partial_ms, notify=inbound.wake
        )
        tells_speech = "speech" in params.events
        state = SessionState(params.call_id, params.language, params.partial_ms, tells_speech=tells_speech)
        listener = self._services.listener(options, segmenter, vad)
        worker = Worker(inbound, outbox, listener, state, self._recorder)

        thread = WorkerThread(f"stt-{self._recorder.connection_id}", worker.run)
        thread.ended.add_done_callback(self._after_worker)
        return Bridge(inbound, outbox, thread)

    def _after_worker(self, ended: asyncio.Future[BaseException | None]) -> None:
        failure = ended.result()
        if failure is not None:
            self._recorder.failed(failure)
            self._fail(Internal())
        elif self._bridge is not None:
            self._bridge.outbox.end()

    async def _pump_in(self, build_bridge: Callable[[], Bridge]) -> None:
        """Recv pump; whatever stops it ends the connection."""
        try:
            await self._receive_all(build_bridge)
        except Fault as fault:
            self._fail(fault)
        except Exception as error:  # noqa: BLE001 - told to the log; the peer learns only that it was us
            self._recorder.failed(error)
            self._fail(Internal())

    async def _receive_all(self, build_bridge: Callable[[], Bridge]) -> None:
        """Until the client is gone. Never waits for the worker to do anything, so pings are always answered."""
        receive, clock = self._receive, time.monotonic
        inbound: InboundQueue | None = None
        while True:
            message = await receive()
            self._last_message = now = clock()
            if message["type"] == "websocket.disconnect":
                self._leave(message.get("code") or 1005)
                return
            if inbound is None:
                if self._turn.is_set():
                    return  # the connection ended without one
                self._bridge = build_bridge()
                self._turn.set()
                inbound = self._bridge.inbound
            data = message.get("bytes")
            if data is not None and len(data) <= MAX_MESSAGE_BYTES:
                inbound.put_audio(data, now)
            else:
                self._take_text(inbound, data, message.get("text") or "")
            if inbound.throttled:
                await inbound.throttle()

    def _take_text(self, inbound: InboundQueue, data: bytes | None, text: str) -> None:
        if data is not None or len(text.encode()) > MAX_MESSAGE_BYTES:
            raise TooLarge(f"a message may have at most {MAX_MESSAGE_BYTES} bytes")
        parse_client_text(text)
        self._recorder.committed()
        inbound.put_commit(self._last_message)

    async def _pump_out(self, outbox: Outbox) -> None:
        """Send pump: ends when the outbox does, or the client is gone."""
        while (message := await outbox.get()) is not None:
            if not await self._send(message):
                return

    async def _send(self, message: ServerMessage) -> bool:
        try:
            async with asyncio.timeout(self._services.socket.send_timeout_seconds):
                await self._send_event({"type": "websocket.send", "text": message.to_json()})
        except TimeoutError:
            self._fail(TooSlow("the client does not read"))
            self._cut_off()
            return False
        except _PEER_GONE:
            self._unreachable = True
            self._end(at_once=True)
            return False
        return True

    def _cut_off(self) -> None:
        """Drop the socket: a close would wait behind what the client does not read."""
        self._deaf = True
        if self._transport is not None:
            self._transport.abort()

    def _watch_idle(self) -> None:
        """End a connection whose client was quiet for too long, else look again when it may have been."""
        limit = self._services.socket.idle_seconds
        if not limit:
            return
        left = self._last_message + limit - time.monotonic()
        if left <= 0:
            self._fail(BadRequest(f"idle: nothing came for {limit:g} seconds"))
        else:
            self._idle_timer = asyncio.get_running_loop().call_later(left, self._watch_idle)

    def _fail(self, fault: Fault) -> None:
        """Close with `fault`, unless something else closed the connection first; what is due is still sent."""
        # As it was raised it would be in a circle with this connection, and both stay until Python looks for circles.
        self._fault = self._fault or fault.detached()
        self._end()

    def _leave(self, code: int) -> None:
        """The client is gone, or said goodbye with `code`."""
        if self._gone is None:
            self._gone = code
        self._end(at_once=True)

    def _end(self, *, at_once: bool = False) -> None:
        """Hear nothing more; what is due is still sent, unless `at_once`. Idempotent."""
        self._turn.set()
        if self._bridge is not None:
            self._bridge.end(at_once=at_once)

    async def _say_goodbye(self) -> None:
        fault = self._fault
        if self._deaf and self._transport is None and self._gone is None:
            # Its socket cannot be dropped: while it lasts it counts as a session, so that such sockets are bounded.
            await self._await_disconnect()
        if fault is None or self._gone is not None or self._deaf:
            return
        error = ErrorMessage(call_id=self._call_id, created_at=time.time(), code=fault.close_code, message=str(fault))
        if await self._send(error):
            with contextlib.suppress(*_PEER_GONE):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    reason = str(fault)[:120]
                    await self._send_event({"type": "websocket.close", "code": fault.close_code, "reason": reason})
                    # A socket that uvicorn closes before the peer's reply is read is reset, and our last words lost.
                    await self._await_disconnect()

    async def _await_disconnect(self) -> None:
        while (await self._receive())["type"] != "websocket.disconnect":
            pass

    def _record_end(self) -> None:
        if self._fault is not None and self._gone is None and not self._unreachable:
            self._recorder.closed(self._fault.close_code, str(self._fault))
        else:
            self._recorder.closed(self._gone or 1006, "client")
