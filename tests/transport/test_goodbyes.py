"""How a client left is told by its own goodbye, whichever pump notices first that it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from starlette.types import Message

from app import create_app
from config import Settings
from tests.audio import reference
from tests.server import eventually


class Peer:
    """A client whose messages are scripted, and who cannot be reached after `ready`: no socket does that on demand."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = list(messages)
        self._tried = asyncio.Event()
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if len(self._messages) == 1:
            await self._tried.wait()
        return self._messages.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if len(self.sent) > 2:  # the acceptance, and `ready`
            self._tried.set()
            raise ConnectionResetError


@pytest.mark.parametrize("code", [1000, 4000])
def test_a_send_that_fails_does_not_hide_the_clients_own_code(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of its close frame is counted and logged, not 1006."""
    monkeypatch.setattr("observability.logging.configure", lambda _: None)  # it is the process's, not this test's

    async def visit() -> tuple[Peer, str]:
        app = create_app(Settings(backend="mock", references=Path("references")))
        audio = reference("hello")
        peer = Peer(
            [
                {"type": "websocket.connect"},
                *({"type": "websocket.receive", "bytes": audio[at : at + 6400]} for at in range(0, len(audio), 6400)),
                {"type": "websocket.disconnect", "code": code},
            ]
        )
        scope = {
            "type": "websocket",
            "path": "/v1/stt/ws",
            "query_string": b"call_id=x&sample_rate=16000",
            "headers": [],
        }
        async with app.router.lifespan_context(app):
            services = app.state.services
            await asyncio.to_thread(eventually, lambda: services.engine.status == "ok")
            await asyncio.wait_for(app(scope, peer.receive, peer.send), 10)
            return peer, services.metrics.render().decode()

    peer, metrics = asyncio.run(visit())
    assert [message["type"] for message in peer.sent] == ["websocket.accept", *["websocket.send"] * 2]
    label = code if code == 1000 else "other"
    assert f'stt_closes_total{{code="{label}"}} 1.0' in metrics
    assert 'code="1006"' not in metrics
