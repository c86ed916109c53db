"""`POST /v1/stt/token`: exchanges an API key for a token for browsers."""

from __future__ import annotations

import asyncio
import time

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from protocol.dialect import json_refusal
from protocol.errors import BadRequest, ClientTooSlow, PayloadTooLarge, ServiceError
from protocol.http_messages import Token, TokenRequest
from protocol.native_client_messages import explain
from transport.api_keys import caller_of
from transport.app_context import AppContext
from transport.refusals import refusal_response

_MAX_BODY_BYTES = 16_384
_BODY_SECONDS = 10.0
"""How long a body may take."""


async def issue_token(request: Request) -> Response:
    """Answer one request."""
    context: AppContext = request.app.state.context
    try:
        wanted = TokenRequest.model_validate_json(await read_body(request) or b"{}")
        token, expires = context.access.keys.issue(caller_of(request.scope), wanted.seconds, {}, time.time())
    except ValidationError as error:
        return refusal_response(json_refusal(BadRequest(explain(error.errors()[0]))))
    except ServiceError as error:
        return refusal_response(json_refusal(error))
    answer = Token(token=token, expires_at=expires).model_dump()
    return JSONResponse(answer, headers={"cache-control": "no-store"})


async def read_body(request: Request) -> bytes:
    """Read the small body of a request.

    Raises:
        PayloadTooLarge: the body is too large.
        ClientTooSlow: it did not come in time.
        BadRequest: the client left before its end.
    """
    body = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    raise PayloadTooLarge(f"the body is over {_MAX_BODY_BYTES} bytes")
    except TimeoutError as error:
        raise ClientTooSlow(f"the body did not come within {_BODY_SECONDS:g} s") from error
    except ClientDisconnect as error:
        raise BadRequest("the body has no end") from error
    return body
