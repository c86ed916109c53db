"""Error answers over HTTP. Each dialect has its own body, so it depends on the path."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from protocol.dialect import HttpRefusal, json_refusal
from protocol.errors import ServiceError
from protocol.http_messages import HttpError
from protocol.openai_errors import OpenAiError, error_body, error_type, is_openai_path, openai_refusal


def refusal_at(path: str, error: ServiceError) -> HttpRefusal:
    """The answer that refuses a request. `path` is without the server's prefix."""
    return openai_refusal(error) if is_openai_path(path) else json_refusal(error)


def error_response(path: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An HTTP error with the body of the dialect at `path`, which is without the server's prefix."""
    if is_openai_path(path):
        body = error_body(OpenAiError(message=message, type=error_type(status)))
    else:
        body = HttpError(code=status, message=message).model_dump_json()
    return Response(body, status, dict(headers or {}), "application/json")


def refusal_response(refusal: HttpRefusal) -> Response:
    """Convert a refusal to an HTTP answer."""
    return Response(refusal.body, refusal.status, dict(refusal.headers), refusal.content_type)
