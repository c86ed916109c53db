"""OpenAI's HTTP paths."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from protocol.openai_files import OpenAiFiles, OpenAiTranslations
from protocol.openai_models import ModelNotFound, model, model_list
from transport.app_context import AppContext
from transport.transcriber import Transcriber


def routes() -> list[Route]:
    """`/v1/audio/...` and `/v1/models`."""
    return [
        Route("/v1/audio/transcriptions", _transcribe, methods=["POST"], include_in_schema=False),
        Route("/v1/audio/translations", _translate, methods=["POST"], include_in_schema=False),
        Route("/v1/models", _models, include_in_schema=False),
        Route("/v1/models/{name:path}", _model, include_in_schema=False),
    ]


async def _transcribe(request: Request) -> Response:
    transcriber: Transcriber = request.app.state.transcriber
    return transcriber.response(request, OpenAiFiles)


async def _translate(request: Request) -> Response:
    transcriber: Transcriber = request.app.state.transcriber
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
