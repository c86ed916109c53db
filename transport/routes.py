"""The routes of the server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import WebSocketRoute

from protocol.http_messages import Health, HttpError, Readiness, Token, TranscribeParams, Transcript
from protocol.native_files import NativeFiles
from transport import openai_http, page
from transport.health import health_answer, metrics_answer, readiness_answer
from transport.http_common import report_failure, report_http_exception, upgrade_required
from transport.tokens import issue_token
from transport.websocket import WebSocketEndpoint


def add_routes(app: FastAPI, websockets: WebSocketEndpoint) -> None:
    """Register every path. `app.state.context` is set when the server starts."""
    _add_refusals(app, websockets.paths)
    app.router.routes.append(WebSocketRoute("/{path:path}", websockets))
    _add_transcription(app)
    app.router.routes.extend(openai_http.routes())
    app.router.routes.extend(page.routes())
    _add_health_and_metrics(app)


def _add_refusals(app: FastAPI, websocket_paths: Iterable[str]) -> None:
    app.add_exception_handler(HTTPException, report_http_exception)
    app.add_exception_handler(Exception, report_failure)
    for path in websocket_paths:
        app.add_route(path, upgrade_required, ["GET"], include_in_schema=False)


def _add_transcription(app: FastAPI) -> None:
    form = {"multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": {
        "file": {"type": "string", "format": "binary"}}}}}  # fmt: skip

    @app.post(
        "/v1/stt/transcribe",
        response_model=Transcript,
        responses=_errors(401, 403, 408, 413, 422, 500, 503, 507),
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
        served: Response = request.app.state.transcriber.response(request, NativeFiles)
        return served

    @app.post("/v1/stt/token", response_model=Token, responses=_errors(401, 403, 408, 413, 422))
    async def token(request: Request) -> Response:
        """Exchange an API key for a token that a browser may hold."""
        return await issue_token(request)


def _add_health_and_metrics(app: FastAPI) -> None:
    @app.head("/health", include_in_schema=False)
    @app.get("/health", response_model=Health, responses={503: {"model": Health}})
    async def health(request: Request) -> Response:
        """Whether the engine is ready and the server does not drain. A full server answers 200 too."""
        return health_answer(request.app.state.context)

    @app.head("/health/ready", include_in_schema=False)
    @app.get("/health/ready", response_model=Readiness, responses={503: {"model": Readiness}})
    async def ready(request: Request) -> Response:
        """Whether a new session would be admitted now: for load balancers."""
        return readiness_answer(request.app.state.context)

    @app.head("/health/live", include_in_schema=False)
    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Whether this process answers."""
        return {"status": "alive"}

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        """Metrics in the text format of Prometheus."""
        return metrics_answer(request.app.state.context)


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": HttpError} for status in statuses}
