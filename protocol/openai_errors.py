"""Errors as OpenAI's clients read them: status, type, code and parameter."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict

from protocol.dialect import HttpRefusal, refusal_headers
from protocol.errors import BadRequest, RefusalReason, ServiceError

_PATHS = ("/v1/audio", "/v1/models", "/v1/realtime")
_BAD_REQUEST_STATUS = 400
"""Status of bad requests, which have 422 on our own paths: OpenAI's clients expect 400."""
_CODES = {
    RefusalReason.KEY: "invalid_api_key",
    RefusalReason.KEY_LIMIT: "rate_limit_exceeded",
    RefusalReason.TOO_LARGE: "payload_too_large",
}


class OpenAiError(BaseModel):
    """The object `error` of an answer or an event."""

    model_config = ConfigDict(frozen=True)

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class BadParameter(BadRequest):
    """A field of the request cannot be used."""

    def __init__(self, message: str, param: str, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


def is_openai_path(path: str) -> bool:
    """Whether requests for `path` (without the server's prefix) come from OpenAI's clients."""
    return path.startswith(_PATHS)


def error_type(status: int) -> str:
    """OpenAI's name for the kind of error with this HTTP status."""
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


def openai_error(error: ServiceError) -> OpenAiError:
    """An error in OpenAI's form."""
    kind = error_type(error.http_status)
    if isinstance(error, BadParameter):
        return OpenAiError(message=str(error), type=kind, param=error.param, code=error.code)
    return OpenAiError(message=str(error), type=kind, code=_CODES.get(error.reason))


def openai_refusal(error: ServiceError) -> HttpRefusal:
    """The HTTP answer to a request that is refused."""
    status = _BAD_REQUEST_STATUS if isinstance(error, BadRequest) else error.http_status
    return HttpRefusal(status, error_body(openai_error(error)), headers=refusal_headers(error))


def error_body(error: OpenAiError) -> str:
    """The JSON of an answer with `error`."""
    return json.dumps({"error": error.model_dump()}, ensure_ascii=False)
