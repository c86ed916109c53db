"""How a client left is told by its own goodbye, whichever loop notices first that it is gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from starlette.types import Message

from app import create_app
from config import Settings
from tests.audio import reference
from tests.server import eventually

SCOPE = {"type": "websocket", "path": "/v1/stt/ws", "query_string": b"call_id=x&sample_rate=16000", "headers": []}


class Peer:
    """A client whose messages are scripted."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = list(messages)
        self._last_awaits = asyncio.Event()
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if len(self._messages) == 1:
            await self._last_awaits.wait()
        return self._messages.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "websocket.close":
            self._last_awaits.set()


class Vanished(Peer):
    """It cannot be reached after `ready`: no socket does that on demand."""

    async def send(self, message: Message) -> None:
        await super().send(message)
        if len(self.sent) > 2:  # the acceptance, and `ready`
            self._last_awaits.set()
            raise ConnectionResetError


async def visit(peer: Peer) -> str:
    """The server's metrics after it."""
    ready = threading.Event()
    app = create_app(Settings(backend="mock", references=Path("references")), ready.set)
    async with app.router.lifespan_context(app):
        context = app.state.context
        await asyncio.to_thread(eventually, ready.is_set)
        await asyncio.wait_for(app(SCOPE, peer.receive, peer.send), 10)
        return str(context.metrics.render().decode())


@pytest.fixture(autouse=True)
def _log_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("observability.logging.configure", lambda _: None)  # it is the process's, not this test's


@pytest.mark.parametrize("code", [1000, 4000])
def test_a_send_that_fails_does_not_hide_the_clients_own_code(code: int) -> None:
    """The code of its close frame is counted and logged, not 1006."""
    audio = reference("hello")

    async def conversation() -> tuple[Peer, str]:
        peer = Vanished(
            [
                {"type": "websocket.connect"},
                *({"type": "websocket.receive", "bytes": audio[at : at + 6400]} for at in range(0, len(audio), 6400)),
                {"type": "websocket.disconnect", "code": code},
            ]
        )
        return peer, await visit(peer)

    peer, metrics = asyncio.run(conversation())
    assert [message["type"] for message in peer.sent] == ["websocket.accept", *["websocket.send"] * 2]
    label = code if code == 1000 else "other"
    assert f'stt_closes_total{{by="client",code="{label}"}} 1.0' in metrics
    assert 'stt_closes_total{by="client",code="1006"} 0.0' in metrics
