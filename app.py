"""Builds all parts of the server and connects them. Only this module reads settings.

`uvicorn app:app` serves `app`; `python app.py` serves it on STT_HOST and STT_PORT. Importing it has no effect.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from backends import registry
from config import Settings, load_settings
from config_values import SettingsRefused
from inference import vad_factory
from observability import logging
from observability.engine_metrics import register_engine
from observability.metrics import Metrics
from observability.version import VERSION
from protocol.dialect import NewDialect
from protocol.errors import RefusalReason
from protocol.events import Reason
from protocol.native import NativeDialect
from protocol.openai_realtime import OpenAiRealtime
from transport import page, serving
from transport.admission import Admission
from transport.app_context import AppContext
from transport.authentication import Authentication
from transport.backend_lifecycle import BackendLifecycle
from transport.forwarded import TrustedProxies
from transport.gc_policy import GcPolicy
from transport.http_common import Cors, with_prefix, with_request_id
from transport.loop_lag import LoopLag
from transport.refusals import refusal_at
from transport.routes import add_routes
from transport.shutdown import GracefulShutdown
from transport.upload_transcriber import STATUSES, UploadTranscriber
from transport.uploads import warn_without_temporary_folder
from transport.websocket import WebSocketEndpoint
from transport.websocket_protocol_finder import WebSocketProtocolFinder
from transport.worker_scheduler import WorkerScheduler

DIALECTS: Mapping[str, NewDialect] = {"/v1/stt/ws": NativeDialect, "/v1/realtime": OpenAiRealtime}
"""WebSocket path -> codec."""

REFUSALS = (SettingsRefused, registry.BackendUnavailable, vad_factory.VadUnavailable)


def check(settings: Settings | None = None, say: Callable[[str], None] = lambda _: None) -> Settings:
    """Check, before the server listens, that the settings are valid and that the engine and its models are installed.

    Returns the settings with an engine in place of `auto`; `say` is called with the line that names it.

    Raises:
        SettingsRefused: a setting cannot be used.
        BackendUnavailable: the backend cannot run here.
        VadUnavailable: the voice activity detector cannot run here.
    """
    settings = (settings or load_settings()).with_engine_chosen(say)
    registry.check(settings.backend)
    if settings.backend == "whisper":
        settings.check_whisper()
    if settings.backend == "mock":
        settings.check_references()
    vad_factory.check(settings.vad)
    settings.access()
    return settings


def create_app(
    settings: Settings | None = None,
    on_ready: Callable[[], None] = lambda: None,
    dialects: Mapping[str, NewDialect] = DIALECTS,
) -> FastAPI:
    """The server; `settings` are read from the environment at start-up if None.

    `on_ready` is called once, on another thread, when the engine is ready.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        chosen: list[str] = []
        read = check(settings, chosen.append)
        logging.configure(read.log_level)
        _log_start(read, chosen)
        gc_policy = GcPolicy()

        def ready() -> None:
            gc_policy.freeze_startup()
            on_ready()

        lifecycle = BackendLifecycle(registry.create(read.backend, read.backends()), ready, _end_process)
        make_vad = await asyncio.to_thread(vad_factory.load, read.vad)
        await asyncio.to_thread(warn_without_temporary_folder)
        context = _context(read, lifecycle, make_vad)
        transcriber = UploadTranscriber(context, read.uploads(), read.http_threads(), read.vad)

        async def drain() -> None:
            await context.admission.refuse_new(read.lame_duck_seconds)
            context.scheduler.read_at_once()
            await context.admission.drain(read.drain_seconds)

        stop = GracefulShutdown(drain=drain, release=lambda: asyncio.to_thread(lifecycle.close))
        app.state.context, app.state.transcriber, app.state.gc_policy = context, transcriber, gc_policy
        app.state.path_prefix = read.path_prefix
        app.state.trusted_proxies = TrustedProxies(read.trusted_proxies)
        app.state.page_files = await asyncio.to_thread(page.PageFiles) if read.page else None
        watches = [
            asyncio.create_task(context.loop_lag.watch(), name="event loop watch"),
            asyncio.create_task(context.admission.watch(), name="engine watch"),
            asyncio.create_task(context.access.keys.watch(), name="key file watch"),
        ]
        try:
            lifecycle.start()
            stop.install()
            yield
        finally:
            try:
                await stop.remove()
                for watch in watches:
                    watch.cancel()
                await asyncio.to_thread(lifecycle.close)
                await asyncio.to_thread(transcriber.close)
            finally:
                gc_policy.restore()

    app = _Application(lambda: check(settings), dialects, title="realtime-stt-ws", version=VERSION, lifespan=lifespan)
    add_routes(app, app.websockets)
    return app


def _context(settings: Settings, lifecycle: BackendLifecycle, make_vad: vad_factory.MakeVad) -> AppContext:
    metrics = Metrics()
    metrics.build.info({"version": VERSION, "backend": settings.backend})
    loop_lag = LoopLag(time.monotonic())
    metrics.loop_lag.set_function(lambda: loop_lag.longest(time.monotonic()))
    metrics.create_labels(refusals=RefusalReason, final_reasons=Reason, statuses=STATUSES)
    register_engine(metrics.registry, lifecycle.backend)
    return AppContext(
        lifecycle=lifecycle,
        admission=Admission(
            lifecycle, metrics, settings.max_sessions, settings.http_uploads, settings.max_key_sessions
        ),
        metrics=metrics,
        log=structlog.get_logger().bind(),
        protocols=WebSocketProtocolFinder(structlog.get_logger()),
        scheduler=WorkerScheduler(),
        loop_lag=loop_lag,
        queues=settings.queues(),
        socket=settings.socket(),
        segmenter=settings.segmenter(),
        vad=settings.voice(),
        make_vad=make_vad,
        allowed_origins=settings.allowed_origins,
        access=settings.access(),
    )


def _log_start(settings: Settings, choices: Sequence[str]) -> None:
    log = structlog.get_logger()
    log.info("server_starting", version=VERSION, settings=settings.shown())
    for line in choices:
        log.info("backend_chosen", choice=line)
    host = serving.uvicorn_host(sys.argv, os.environ) or settings.host
    if not settings.api_keys and serving.is_reachable(host):
        log.warning("no_api_keys", reason=f"other machines can reach {host} and use the server: set STT_API_KEYS")
    for sentence in Settings.unknown(os.environ):
        log.warning("unknown_setting", reason=sentence)


class _Application(FastAPI):
    """FastAPI, with three things of our own around it.

    An error at the start is one sentence. WebSockets skip FastAPI's layers, unless somebody added a layer. And each
    closed connection is reported to the garbage collection policy.
    """

    def __init__(
        self,
        check: Callable[[], Settings],
        dialects: Mapping[str, NewDialect],
        **options: Any,  # noqa: ANN401 - FastAPI's own
    ) -> None:
        super().__init__(**options)
        self._check = check
        self.websockets = WebSocketEndpoint(dialects)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                serving.refuse_several_processes()
                self._check()
            except (*REFUSALS, serving.SeveralProcesses) as refusal:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": str(refusal)})
                return
            await super().__call__(scope, receive, send)
            return
        context: AppContext = self.state.context
        scope = with_prefix(self.state.trusted_proxies.original(scope), self.state.path_prefix)
        if scope["type"] == "http":
            serve: ASGIApp = Cors(Authentication(super().__call__, context, refusal_at), context.check_origin)
            send = with_request_id(scope, send)
        else:
            scope["app"] = self
            inner = super().__call__ if self._has_middleware else self.websockets
            serve = Authentication(inner, context, partial(self.websockets.refusal, context))
        try:
            await serve(scope, receive, send)
        finally:
            self.state.gc_policy.connection_closed(context.admission.sessions)

    @property
    def _has_middleware(self) -> bool:
        """Whether somebody added middleware, or replaced the method that builds the layers, as OpenTelemetry does."""
        return bool(self.user_middleware) or "build_middleware_stack" in vars(self)


def _end_process() -> None:
    """End the process after a failed first load, so that a supervisor sees a failure. No session is open."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


app = create_app()


def main() -> None:
    """Serve on STT_HOST and STT_PORT until a signal."""
    chosen: list[str] = []
    try:
        settings = check(say=chosen.append)
        serving.check_tls(settings.serving())
        sockets = serving.listen(settings.serving())
    except (*REFUSALS, serving.CannotListen) as refusal:
        sys.exit(str(refusal))
    sys.stdout.writelines(f"{line}\n" for line in chosen)
    logging.configure(settings.log_level)
    url = serving.base_url(
        settings.host, sockets[0].getsockname()[1], settings.path_prefix, tls=settings.tls_cert is not None
    )

    def announce() -> None:
        sys.stdout.write(serving.closing_lines(settings.backend, url, Path(__file__).parent, page=settings.page))
        sys.stdout.flush()

    sys.exit(serving.serve(create_app(settings, announce), sockets, settings.serving()))


if __name__ == "__main__":
    main()
