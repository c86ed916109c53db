"""What all HTTP answers share: the body of errors, CORS headers, and the path prefix."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.tracebacks import without_traceback
from protocol.errors import ServiceError
from protocol.http_messages import CONNECTION_ID_HEADER, REQUEST_ID_HEADER
from protocol.openai_errors import is_openai_path
from transport.refusals import error_response

_MAX_AGE_SECONDS = 600
"""How long a browser may keep the answer to a preflight."""


async def report_http_exception(request: Request, error: Exception) -> Response:
    """Answer what the routing refuses: no such path (404), or not this method on it (405)."""
    if not isinstance(error, HTTPException):
        raise error
    path, allowed = request.url.path, dict(error.headers or {})
    messages = {
        404: f"there is nothing at {path}",
        405: f"{request.method} is not allowed at {path}; allowed: {allowed.get('Allow', '')}",
    }
    structlog.get_logger().info("request_refused", status=error.status_code, method=request.method, path=path)
    message = messages.get(error.status_code, str(error.detail))
    return error_response(route_path(request.scope), error.status_code, message, allowed)


async def report_failure(request: Request, _: Exception) -> Response:
    """Answer 500; the exception is logged by the server."""
    return error_response(route_path(request.scope), 500, "internal error")


def upgrade_required(request: Request) -> Response:
    """Answer a plain request for a WebSocket's path."""
    structlog.get_logger().info("request_refused", status=426, method=request.method, path=request.url.path)
    message = (
        f"{request.url.path} is a WebSocket, and the request has no Upgrade header; a proxy in between must pass it on"
    )
    headers = {"upgrade": "websocket", "connection": "upgrade"}
    return error_response(route_path(request.scope), 426, message, headers)


def peer_address(scope: Scope) -> str:
    """Address of the client, or of the proxy in front of the server; empty on a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def header(scope: Scope, name: bytes) -> str:
    """A header of the request; empty without it. `name` in lower case, as all names are in ASGI."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def route_path(scope: Scope) -> str:
    """The request's path without the prefix that a proxy, or a server around this one, has put before it."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(prefix) :] if _has_prefix(path, prefix) else path


def with_prefix(scope: Scope, prefix: str) -> Scope:
    """Make the request's path and root path right under `prefix`, whether a proxy has stripped the prefix or not."""
    if not prefix or scope.get("root_path"):
        return scope
    path = scope["path"]
    return {**scope, "root_path": prefix, "path": path if _has_prefix(path, prefix) else prefix + path}


def _has_prefix(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


class Cors:
    """ASGI middleware: lets pages of the allowed origins read the answers, by the Fetch standard's CORS protocol."""

    def __init__(self, app: ASGIApp, check_origin: Callable[[Mapping[str, str]], None]) -> None:
        """`check_origin` raises a `ServiceError` for the headers of a page that is not allowed."""
        self._app = app
        self._check_origin = check_origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(headers)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await _preflight(scope, origin, headers, refusal)(scope, receive, send)
        elif refusal is not None:
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, _adding(send, origin))

    def _refusal(self, headers: Headers) -> ServiceError | None:
        try:
            self._check_origin(headers)
        except ServiceError as error:
            return without_traceback(error)
        return None


def _preflight(scope: Scope, origin: str, headers: Headers, refusal: ServiceError | None) -> Response:
    if refusal is not None:
        return error_response(route_path(scope), refusal.http_status, str(refusal), {"vary": "Origin"})
    allowed = {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET, HEAD, POST",
        "access-control-allow-headers": headers.get("access-control-request-headers", "content-type"),
        "access-control-max-age": str(_MAX_AGE_SECONDS),
        "vary": "Origin, Access-Control-Request-Headers",
    }
    return Response(status_code=204, headers=allowed)


def with_request_id(scope: Scope, send: Send) -> Send:
    """Wrap `send` so that answers on OpenAI's paths have `x-request-id`, which OpenAI's clients show with an error."""
    if not is_openai_path(route_path(scope)):
        return send

    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault(REQUEST_ID_HEADER, headers.get(CONNECTION_ID_HEADER) or uuid.uuid4().hex[:12])
        await send(message)

    return send_with_id


def _adding(send: Send, origin: str) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["access-control-allow-origin"] = origin
            headers["access-control-expose-headers"] = f"{CONNECTION_ID_HEADER}, {REQUEST_ID_HEADER}, retry-after"
            headers.add_vary_header("Origin")
        await send(message)

    return send_with_headers
