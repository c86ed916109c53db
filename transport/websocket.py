"""The WebSocket handshake: upgrade and serve the connection, or refuse with an HTTP status.

A client that is refused before the upgrade gets a status that proxies and client libraries understand: a proxy tries
another server on 503, and no library takes 4xx for a network failure.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from observability.connection_telemetry import ConnectionTelemetry
from protocol.dialect import Dialect, Handshake, HttpRefusal, NewDialect, SessionOptions, json_refusal
from protocol.errors import NotFound, ServiceError
from transport.app_context import AppContext
from transport.connection import AsgiSocket, Connection

_REFUSAL_EXTENSION = "websocket.http.response"


class WebSocketEndpoint:
    """The ASGI application of one WebSocket path. `app.state.context` is set when the server has started."""

    def __init__(self, new_dialect: NewDialect) -> None:
        self._new_dialect = new_dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection from its handshake to its close."""
        await _serve(scope, receive, send, scope["app"].state.context, self._new_dialect)


class UnknownPathEndpoint:
    """The ASGI application of all other WebSocket paths: answers the handshake with 404."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse one handshake."""
        context: AppContext = scope["app"].state.context
        await receive()
        error = NotFound(f"there is no WebSocket at {scope['path']}")
        await _refuse(scope, send, json_refusal(error), ConnectionTelemetry(context.metrics, context.log))


async def _serve(scope: Scope, receive: Receive, send: Send, context: AppContext, new_dialect: NewDialect) -> None:
    await receive()
    request = _read(scope)
    dialect = new_dialect(context.server_info())
    telemetry = ConnectionTelemetry(context.metrics, context.log)
    socket = AsgiSocket(receive, send, context.transports.find(scope))
    connection = Connection(socket, dialect, context, telemetry)
    try:
        context.check_origin(request.headers)
        with context.admission.session(connection):
            opened = _open(dialect, request)
            if isinstance(opened, HttpRefusal):
                await _refuse(scope, send, opened, telemetry)
            elif await _accept(send, dialect.subprotocol(_offered_subprotocols(scope))):
                await connection.run(opened)
    except ServiceError as error:
        await _refuse(scope, send, dialect.refusal(error), telemetry)


def _open(dialect: Dialect, request: Handshake) -> SessionOptions | HttpRefusal | ServiceError:
    try:
        return dialect.open(request)
    except ServiceError as error:
        return error.without_traceback()


def _read(scope: Scope) -> Handshake:
    """The request of an ASGI WebSocket scope."""
    return Handshake(scope["path"], scope["query_string"].decode("latin-1"), Headers(scope=scope))


def _offered_subprotocols(scope: Scope) -> Sequence[str]:
    """The subprotocols that the client offered, in its order. They may carry API keys: never log them."""
    offered: Sequence[str] = scope.get("subprotocols") or ()
    return offered


async def _accept(send: Send, subprotocol: str | None) -> bool:
    """Upgrade; False: the client left first."""
    try:
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
    except OSError:
        return False
    return True


async def _refuse(scope: Scope, send: Send, refusal: HttpRefusal, telemetry: ConnectionTelemetry) -> None:
    """Answer with an HTTP status in place of the upgrade.

    A server without ASGI's extension for it can only answer 403.
    """
    telemetry.refused(refusal.status, scope["path"], refusal.body)
    try:
        if _REFUSAL_EXTENSION not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        body = refusal.body.encode()
        headers = {"content-type": refusal.content_type, "content-length": str(len(body)), **refusal.headers}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": f"{_REFUSAL_EXTENSION}.start", "status": refusal.status, "headers": raw})
        await send({"type": f"{_REFUSAL_EXTENSION}.body", "body": body})
    except OSError:
        pass  # the client left first
