"""OpenAI's HTTP paths."""

from __future__ import annotations

import time
import uuid

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from protocol.errors import ServiceError
from protocol.openai_errors import openai_refusal
from protocol.openai_files import OpenAiFiles, OpenAiTranslations
from protocol.openai_models import ModelNotFound, model, model_list
from protocol.openai_secrets import ClientSecret, read_secret_request
from transport.api_keys import caller_of
from transport.app_context import AppContext
from transport.refusals import refusal_response
from transport.tokens import read_body
from transport.upload_transcriber import UploadTranscriber


def routes() -> list[Route]:
    """`/v1/audio/...`, `/v1/models` and `/v1/realtime/client_secrets`."""
    return [
        Route("/v1/audio/transcriptions", _transcribe, methods=["POST"], include_in_schema=False),
        Route("/v1/audio/translations", _translate, methods=["POST"], include_in_schema=False),
        Route("/v1/models", _models, include_in_schema=False),
        Route("/v1/models/{name:path}", _model, include_in_schema=False),
        Route("/v1/realtime/client_secrets", _client_secret, methods=["POST"], include_in_schema=False),
    ]


async def _transcribe(request: Request) -> Response:
    transcriber: UploadTranscriber = request.app.state.transcriber
    return transcriber.response(request, OpenAiFiles)


async def _translate(request: Request) -> Response:
    transcriber: UploadTranscriber = request.app.state.transcriber
    return transcriber.response(request, OpenAiTranslations)


async def _models(request: Request) -> Response:
    context: AppContext = request.app.state.context
    return JSONResponse(model_list(context.server_info().backend))


async def _model(request: Request) -> Response:
    context: AppContext = request.app.state.context
    try:
        return JSONResponse(model(context.server_info().backend, request.path_params["name"]))
    except ModelNotFound as error:
        return JSONResponse({"error": error.shown.model_dump()}, error.http_status)


async def _client_secret(request: Request) -> Response:
    context: AppContext = request.app.state.context
    try:
        wanted = read_secret_request(await read_body(request), context.server_info(), f"sess_{uuid.uuid4().hex[:12]}")
        keys = context.access.keys
        token, expires = keys.issue(caller_of(request.scope), wanted.seconds, wanted.session, time.time())
    except ServiceError as error:
        return refusal_response(openai_refusal(error))
    secret = ClientSecret(token, expires, wanted.shown)
    return Response(secret.to_json(), media_type="application/json", headers={"cache-control": "no-store"})
