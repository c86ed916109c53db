"""Builds everything once and wires it; the only reader of settings.

`uvicorn app:app` serves `app`; `python app.py` serves it on STT_HOST and STT_PORT. Importing it has no effect.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

import selection
from backends import registry
from config import Settings, SettingsRefused, load_settings
from inference import vad_factory
from observability import logging
from observability.metrics import Metrics
from protocol.dialect import NewDialect
from protocol.http_messages import Health, HttpError, TranscribeParams, Transcript
from protocol.native import NativeDialect
from transport import http
from transport.admission import Admission
from transport.app_context import AppContext
from transport.backend_lifecycle import BackendLifecycle
from transport.bell import Bell
from transport.line import Line
from transport.shutdown import GracefulShutdown
from transport.sweeping import Sweeper
from transport.websocket import refuse_unknown_path, serve_websocket

MAX_FRAME_BYTES = 1 << 20
"""A message beyond this is refused by uvicorn itself, before it is in memory; a shorter one gets an error first."""

DIALECTS: Mapping[str, NewDialect] = {"/v1/stt/ws": NativeDialect}
"""WebSocket path -> codec."""

_REFUSALS = (SettingsRefused, registry.BackendUnavailable, vad_factory.VadUnavailable)


def check(settings: Settings | None = None, say: Callable[[str], None] = lambda _: None) -> Settings:
    """Cheap checks, before anything listens: settings in range, backend known and installed, its models on disk.

    Returns the settings with the engine that `auto` takes in its place; `say` is called with the line that tells which.

    Raises:
        SettingsRefused: a setting is not usable.
        BackendUnavailable: the backend cannot run here.
        VadUnavailable: nor can the voice activity detector.
    """
    settings = selection.resolve(settings or load_settings(), say)
    registry.check(settings.backend)
    if settings.backend == "whisper":
        settings.check_whisper()
    vad_factory.check(settings.vad)
    return settings


def create_app(
    settings: Settings | None = None,
    on_ready: Callable[[], None] = lambda: None,
    dialects: Mapping[str, NewDialect] = DIALECTS,
) -> FastAPI:
    """The server; `settings` are read from the environment at start-up if None.

    `on_ready` is called once, on a thread of its own, when the engine is warm.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        chosen: list[str] = []
        read = check(settings, chosen.append)
        logging.configure(read.log_level)
        for line in chosen:
            structlog.get_logger().info("backend_chosen", choice=line)
        sweeper = Sweeper()

        def ready() -> None:
            sweeper.begin()
            on_ready()

        lifecycle = BackendLifecycle(registry.create(read.backend, read.backends()), ready, _end_process)
        make_vad = await asyncio.to_thread(vad_factory.load, read.vad)
        metrics = Metrics()
        admission = Admission(lifecycle, metrics, read.max_sessions, read.http_uploads)
        bell = Bell(admission.is_high_load)
        context = AppContext(
            lifecycle,
            admission,
            metrics,
            structlog.get_logger().bind(),
            sweeper,
            bell,
            Line(),
            read.queues(),
            read.socket(),
            read.segmenter(),
            read.voice(),
            make_vad,
            read.allowed_origins,
        )
        transcriber = http.Transcriber(context, read.uploads(), read.http_threads(), read.vad)

        async def drain() -> None:
            await bell.stop()  # what was said before the signal is heard
            await admission.drain(read.drain_seconds)

        stop = GracefulShutdown(drain=drain, release=lambda: asyncio.to_thread(lifecycle.close))
        app.state.context, app.state.transcriber = context, transcriber
        watch = asyncio.create_task(admission.watch(), name="engine watch")
        try:
            lifecycle.start()
            stop.install()
            yield
        finally:
            try:
                await stop.remove()
                watch.cancel()
                await asyncio.to_thread(lifecycle.close)
                await asyncio.to_thread(transcriber.close)
            finally:
                sweeper.end()

    app = _Application(lambda: check(settings), dialects, title="realtime-stt-ws", lifespan=lifespan)
    _add_routes(app)
    return app


class _Application(FastAPI):
    """FastAPI behind an entrance of our own, for the two things that it has no say in.

    A start is refused with one plain sentence. And the socket is served before any middleware: its layers are a tenth
    of what a connection costs, and hide the socket's transport.
    """

    def __init__(
        self,
        check: Callable[[], Settings],
        dialects: Mapping[str, NewDialect],
        **options: Any,  # noqa: ANN401 - FastAPI's own
    ) -> None:
        super().__init__(**options)
        self._check = check
        self._dialects = dialects

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                self._check()
            except _REFUSALS as refusal:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": str(refusal)})
                return
        if scope["type"] == "websocket":
            new_dialect = self._dialects.get(scope["path"].removeprefix(scope.get("root_path", "")))
            if new_dialect is None:
                await refuse_unknown_path(scope, receive, send, self.state.context)
            else:
                await serve_websocket(scope, receive, send, self.state.context, new_dialect)
        else:
            await super().__call__(scope, receive, send)


def _add_routes(app: FastAPI) -> None:
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": HttpError} for status in (403, 408, 413, 422, 500, 503)
    }
    form = {"multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": {
        "file": {"type": "string", "format": "binary"}}}}}  # fmt: skip

    @app.post(
        "/v1/stt/transcribe",
        response_model=Transcript,
        responses=refusals,
        openapi_extra={
            "requestBody": {"required": True, "content": form},
            "parameters": [
                {"name": name, "in": "query", "schema": schema}
                for name, schema in TranscribeParams.model_json_schema()["properties"].items()
            ],
        },
    )
    async def transcribe(request: Request) -> Response:
        """Transcribe an audio file."""
        served: Response = await request.app.state.transcriber.serve(request)
        return served

    @app.get("/health", response_model=Health, responses={503: {"model": Health}})
    async def health(request: Request) -> Response:
        """Whether this server can take another speaker now."""
        return http.health(request.app.state.context)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Whether this process answers at all."""
        return {"status": "alive"}

    @app.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        """Metrics in the text format of Prometheus."""
        return http.metrics(request.app.state.context)


def _end_process() -> None:
    """End a server whose first load failed: nobody was let in yet, and a supervisor must see a failure."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


app = create_app()


def main() -> None:
    """Serve on STT_HOST and STT_PORT until a signal."""
    chosen: list[str] = []
    try:
        settings = check(say=chosen.append)
    except _REFUSALS as refusal:
        sys.exit(str(refusal))
    sys.stdout.writelines(f"{line}\n" for line in chosen)
    logging.configure(settings.log_level)

    def announce() -> None:
        host = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - shown, not bound
        url = f"http://{host}:{settings.port}"
        sys.stdout.write(
            f"realtime-stt-ws: the engine {settings.backend} is ready on {url}\n"
            f"Try: curl -F file=@references/hello.wav {url}/v1/stt/transcribe\n"
        )
        sys.stdout.flush()

    uvicorn.run(
        create_app(settings, announce),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=MAX_FRAME_BYTES,
    )


if __name__ == "__main__":
    main()
