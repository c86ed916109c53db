"""The check of the API key, for every HTTP route and every WebSocket, before all other handling."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from observability.tracebacks import without_traceback
from protocol.credentials import presented_keys
from protocol.dialect import HttpRefusal
from protocol.errors import ServiceError
from transport.api_keys import CALLER, Caller
from transport.app_context import AppContext
from transport.http_common import header, route_path
from transport.refusals import refusal_response
from transport.websocket import new_telemetry, refuse_handshake

_PUBLIC = frozenset({"/", "/health", "/health/ready", "/health/live"})
_PUBLIC_FOLDER = "/page/"
"""Files of the page, which asks for the key."""


Refusal = Callable[[str, ServiceError], HttpRefusal]


class Authentication:
    """ASGI middleware: answers 401 where the key is missing or wrong, and puts the caller into the scope."""

    def __init__(self, app: ASGIApp, context: AppContext, refusal: Refusal) -> None:
        """`refusal` says the answer in the dialect of a path, which is without the server's prefix."""
        self._app = app
        self._context = context
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            scope[CALLER] = self._caller(scope)
        except ServiceError as error:
            await self._refuse(scope, receive, send, without_traceback(error))
            return
        await self._app(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller:
        access = self._context.access
        if scope["type"] == "http" and _is_public(route_path(scope), metrics=not access.metrics_key_required):
            return Caller()
        presented = presented_keys(
            header(scope, b"authorization"),
            scope["query_string"].decode("latin-1"),
            scope.get("subprotocols") or (),
            in_query=access.key_in_query,
        )
        return access.keys.identify(presented, time.time())

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, error: ServiceError) -> None:
        path = route_path(scope)
        refusal = self._refusal(path, error)
        if scope["type"] == "websocket":
            await receive()
            await refuse_handshake(scope, send, refusal, new_telemetry(scope, self._context), error.reason)
            return
        self._context.metrics.refusals_by_reason.labels("http", error.reason).inc()
        structlog.get_logger().info("request_refused", status=refusal.status, method=scope["method"], path=path)
        await refusal_response(refusal)(scope, receive, send)


def _is_public(path: str, *, metrics: bool) -> bool:
    return path in _PUBLIC or path.startswith(_PUBLIC_FOLDER) or (metrics and path == "/metrics")
