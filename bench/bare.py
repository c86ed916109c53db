"""The yardstick: a Starlette WebSocket endpoint that accepts, sends nothing and throws every frame away.

Serve it as a user would: `uvicorn bench.bare:app`.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


async def discard(websocket: WebSocket) -> None:
    """Receive until the client leaves."""
    await websocket.accept()
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def health(_: Request) -> Response:
    """Say that the socket is there, and export no metrics."""
    return PlainTextResponse("")


app = Starlette(
    routes=[WebSocketRoute("/v1/stt/ws", discard), Route("/health", health), Route("/metrics", health)],
)
