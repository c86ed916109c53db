"""The baseline of `overhead` and `connects`: a Starlette WebSocket route that discards all messages.

Run it as a user would: `uvicorn bench.load.bare_socket:app`, with uvicorn's defaults.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


async def discard(websocket: WebSocket) -> None:
    """Receive and discard messages until the client disconnects."""
    await websocket.accept()
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def health(_: Request) -> Response:
    """Answer /health with an empty response."""
    return PlainTextResponse("")


app = Starlette(routes=[WebSocketRoute("/v1/stt/ws", discard), Route("/health", health)])
