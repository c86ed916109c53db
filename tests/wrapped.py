"""The server behind wrappers of ASGI, and with middleware added: `uvicorn --factory tests.wrapped:MODE`."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests import faulty


class Wrapper:
    """What tracing and error reporting do: a scope of its own, and functions around `receive` and `send`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_on() -> Message:
            return await receive()

        async def send_on(message: Message) -> None:
            await send(message)

        await self._app(dict(scope), receive_on, send_on)


class RequireHeader:
    """Middleware that lets in whoever has the header `x-pass`, for HTTP and WebSockets alike."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_pass = any(name == b"x-pass" for name, _ in scope.get("headers", ()))
        if scope["type"] == "websocket" and not has_pass:
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._app(scope, receive, send)


def wrapped() -> ASGIApp:
    """In two wrappers."""
    return Wrapper(Wrapper(faulty.build()))


def instrumented() -> FastAPI:
    """With the layer around FastAPI's own layers, as OpenTelemetry's instrumentation puts itself there."""
    app = faulty.build()
    build = app.build_middleware_stack
    app.build_middleware_stack = lambda: ServerErrorMiddleware(RequireHeader(build()))  # type: ignore[method-assign]
    return app


def with_middleware() -> FastAPI:
    """With a layer added to the application, and the wrapper as middleware."""
    app = faulty.build()
    app.add_middleware(Wrapper)
    app.add_middleware(RequireHeader)
    return app
