"""The WebSocket handshake: upgrade and serve the connection, or refuse with an HTTP status.

A client that is refused before the upgrade gets a status that proxies and client libraries understand: a proxy tries
another server on 503, and no library takes 4xx for a network failure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from observability.connection_telemetry import ConnectionTelemetry
from observability.tracebacks import without_traceback
from protocol.credentials import without_keys
from protocol.dialect import Dialect, Handshake, HttpRefusal, NewDialect, SessionOptions
from protocol.errors import NotFound, RefusalReason, ServiceError
from protocol.http_messages import CONNECTION_ID_HEADER
from transport.api_keys import Caller, caller_of
from transport.app_context import AppContext
from transport.connection import Connection
from transport.http_common import header, peer_address, route_path
from transport.receiver import AsgiSocket
from transport.refusals import refusal_at
from transport.websocket_events import EXTENSION
from transport.websocket_protocol import MAX_FRAME_BYTES

_REFUSAL_EXTENSION = "websocket.http.response"


class WebSocketEndpoint:
    """The ASGI application of all WebSocket paths. `app.state.context` is set when the server has started."""

    def __init__(self, dialects: Mapping[str, NewDialect]) -> None:
        """`dialects`: path -> codec; all other paths are answered with 404."""
        self._dialects = dialects

    @property
    def paths(self) -> Collection[str]:
        """The paths that have a codec."""
        return self._dialects.keys()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection from its handshake to its close."""
        context: AppContext = scope["app"].state.context
        await receive()
        caller = caller_of(scope)
        telemetry = new_telemetry(scope, context, caller.name)
        path = route_path(scope)
        if path not in self._dialects:
            error = NotFound(f"there is no WebSocket at {scope['path']}")
            await refuse_handshake(scope, send, refusal_at(path, error), telemetry, error.reason)
            return
        request = _read(scope, telemetry.connection_id, caller)
        dialect = self._dialects[path](context.server_info())
        protocol = context.protocols.find(scope)
        if protocol is not None and dialect.max_message_bytes > MAX_FRAME_BYTES:
            protocol.allow_messages(dialect.max_message_bytes, context.message_memory)
        connection = Connection(AsgiSocket(receive, send, protocol), dialect, context, telemetry)
        try:
            context.check_origin(request.headers)
            opened = _open(dialect, request)
            with context.admission.session(connection, caller.name, _channels(opened)):
                if isinstance(opened, HttpRefusal):
                    await refuse_handshake(scope, send, opened, telemetry, RefusalReason.BAD_REQUEST)
                elif await _accept(send, _subprotocol(dialect, scope), telemetry.connection_id):
                    await connection.run(opened)
        except ServiceError as error:
            await refuse_handshake(scope, send, dialect.refusal(error), telemetry, error.reason)

    def refusal(self, context: AppContext, path: str, error: ServiceError) -> HttpRefusal:
        """The answer that refuses a handshake in the dialect of `path`, which is without the server's prefix."""
        if path in self._dialects:
            return self._dialects[path](context.server_info()).refusal(error)
        return refusal_at(path, error)


def new_telemetry(scope: Scope, context: AppContext, key: str = "") -> ConnectionTelemetry:
    """Create the telemetry of a connection. `key` is the name of the client's API key."""
    user_agent = header(scope, b"user-agent")
    return ConnectionTelemetry(context.metrics, context.log, peer_address(scope), user_agent, key)


def _open(dialect: Dialect, request: Handshake) -> SessionOptions | HttpRefusal | ServiceError:
    try:
        return dialect.open(request)
    except ServiceError as error:
        return without_traceback(error)


def _channels(opened: SessionOptions | HttpRefusal | ServiceError) -> int:
    """Number of sessions that a connection counts as; one that is closed at once counts too."""
    return opened.channels if isinstance(opened, SessionOptions) else 1


def _read(scope: Scope, connection_id: str, caller: Caller) -> Handshake:
    """The request of an ASGI WebSocket scope."""
    query = scope["query_string"].decode("latin-1")
    return Handshake(scope["path"], query, Headers(scope=scope), connection_id, caller.session)


def _subprotocol(dialect: Dialect, scope: Scope) -> str | None:
    """The subprotocol to answer with: the dialect's choice, else the first; None: the client offered none."""
    offered = without_keys(scope.get("subprotocols") or ())
    chosen = dialect.subprotocol(offered)
    return chosen if chosen in offered else next(iter(offered), None)


async def _accept(send: Send, subprotocol: str | None, connection_id: str) -> bool:
    """Upgrade the connection; False: the client disconnected first."""
    try:
        headers = [(CONNECTION_ID_HEADER.encode(), connection_id.encode())]
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers})
    except OSError:
        return False
    return True


async def refuse_handshake(
    scope: Scope, send: Send, refusal: HttpRefusal, telemetry: ConnectionTelemetry, reason: RefusalReason
) -> None:
    """Answer with an HTTP status in place of the upgrade.

    A server without ASGI's extension for it can only answer 403.
    """
    telemetry.refused(refusal.status, scope["path"], refusal.body, reason)
    try:
        if _REFUSAL_EXTENSION not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        body = refusal.body.encode()
        headers = {"content-type": refusal.content_type, "content-length": str(len(body)), **refusal.headers}
        headers[CONNECTION_ID_HEADER] = telemetry.connection_id
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": f"{_REFUSAL_EXTENSION}.start", "status": refusal.status, "headers": raw})
        await send({"type": f"{_REFUSAL_EXTENSION}.body", "body": body})
        if EXTENSION in scope["extensions"]:
            scope["extensions"][EXTENSION].handshake_refused()
    except OSError:
        pass  # the client disconnected first
