"""The server in the tests' own process, without sockets: faults and times that no client can bring about."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI

from app import create_app
from config import Settings
from tests.server import eventually

MOCK = Settings(backend="mock", references=Path("references"))
SCOPE = {"type": "websocket", "path": "/v1/stt/ws", "query_string": b"call_id=x&sample_rate=16000", "headers": []}
"""Of a WebSocket's handshake."""


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[FastAPI]:
    """An application that has started, until the context ends."""
    ready = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("observability.logging.configure", lambda _: None)  # it is the process's, not this server's
        app = create_app(settings, ready.set)
        async with app.router.lifespan_context(app):
            await asyncio.to_thread(eventually, ready.is_set)
            yield app
