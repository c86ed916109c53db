"""How a client left is told by its own goodbye, whichever loop notices first that it is gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.types import Message

from tests.audio import reference
from tests.patience import PATIENCE_SECONDS
from tests.server import eventually
from tests.transport.in_process import MOCK, SCOPE, serving


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


class Silent(Peer):
    """It says nothing after its messages."""

    def __init__(self, messages: Sequence[Message]) -> None:
        super().__init__([*messages, {"type": "websocket.disconnect", "code": 1006}])

    @property
    def said_all(self) -> bool:
        """Whether the server has read all its messages, and has accepted it."""
        return len(self._messages) == 1 and len(self.sent) >= 2


class Vanished(Peer):
    """It cannot be reached after `ready`: no socket does that on demand."""

    async def send(self, message: Message) -> None:
        await super().send(message)
        if len(self.sent) > 2:  # the acceptance, and `ready`
            self._last_awaits.set()
            raise ConnectionResetError


async def serve(peer: Peer) -> str:
    """The server's metrics after it."""
    async with serving(MOCK) as app:
        await asyncio.wait_for(app(dict(SCOPE), peer.receive, peer.send), PATIENCE_SECONDS)
        return str(app.state.context.metrics.render().decode())


def worker_threads() -> list[threading.Thread]:
    """Those that have not ended; a worker says that it is done a moment before its thread has ended."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("stt-")]


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
        return peer, await serve(peer)

    peer, metrics = asyncio.run(conversation())
    assert [message["type"] for message in peer.sent] == ["websocket.accept", *["websocket.send"] * 2]
    label = code if code == 1000 else "other"
    assert f'stt_closes_total{{by="client",code="{label}"}} 1.0' in metrics
    assert 'stt_closes_total{by="client",code="1006"} 0.0' in metrics


AUDIO = {"type": "websocket.receive", "bytes": reference("hello")}


@pytest.mark.parametrize("messages", [[], [AUDIO]], ids=["without audio", "with audio"])
def test_a_cancelled_connection_ends_with_all_it_started(messages: list[Message]) -> None:
    """uvicorn cancels what is left when its time for a graceful stop is over."""

    async def cancelled() -> tuple[list[dict[str, Any]], int, set[str]]:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        peer = Silent([{"type": "websocket.connect"}, *messages])
        async with serving(MOCK) as app:
            tasks = {task.get_name() for task in asyncio.all_tasks()}
            served = asyncio.create_task(app(dict(SCOPE), peer.receive, peer.send))
            while not peer.said_all:  # noqa: ASYNC110 - a script has no event for it
                await asyncio.sleep(0.01)
            served.cancel()
            with pytest.raises(asyncio.CancelledError):
                await served
            left = {task.get_name() for task in asyncio.all_tasks()} - tasks
            return faults, app.state.context.admission.sessions, left

    assert asyncio.run(cancelled()) == ([], 0, set())
    eventually(lambda: not worker_threads())


def test_a_dialect_that_cannot_tell_an_event_fails_its_own_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client learns that it was the server, and the worker ends."""

    def tell(*_: object) -> Sequence[str]:
        raise ZeroDivisionError

    monkeypatch.setattr("protocol.native.NativeDialect.tell", tell)
    peer = Silent([{"type": "websocket.connect"}, AUDIO, {"type": "websocket.receive", "text": '{"type":"commit"}'}])
    metrics = asyncio.run(serve(peer))
    assert peer.sent[-1] == {"type": "websocket.close", "code": 1011, "reason": "internal error"}
    assert 'stt_closes_total{by="server",code="1011"} 1.0' in metrics
    eventually(lambda: not worker_threads())
