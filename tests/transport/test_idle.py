"""When a client that sends nothing is let go, on a clock that the tests set forward."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from backends import registry
from observability.metrics import Metrics
from tests.audio import reference, silence, text_of
from tests.client import session
from tests.faulty import StuckBackend
from tests.server import Server
from tests.transport.in_process import MOCK, SCOPE, serving
from transport.websocket_events import KEEPALIVE_EVENT

IDLE, SILENT = 300.0, 3_600.0
"""Seconds without any message, and without audio, after which the servers here close."""
UTTERANCE = reference("hello") + silence(700)
PING_OR_EMPTY = {"type": KEEPALIVE_EVENT}
"""What the server's WebSocket protocol makes of pings and of empty messages."""


def text(**fields: object) -> Message:
    return {"type": "websocket.receive", "text": json.dumps(fields)}


def audio(pcm: bytes) -> Message:
    return {"type": "websocket.receive", "bytes": pcm}


def in_pieces(pcm: bytes) -> list[Message]:
    """Messages of 100 ms."""
    return [audio(pcm[first : first + 3200]) for first in range(0, len(pcm), 3200)]


class Clock:
    """Monotonic time, which the tests set forward."""

    def __init__(self) -> None:
        self._real = time.monotonic
        self.ahead = 0.0
        """Seconds."""

    def monotonic(self) -> float:
        """Monotonic seconds."""
        return self._real() + self.ahead

    async def set_forward(self, seconds: float) -> None:
        """Let so many seconds pass; whatever is due by then is done."""
        self.ahead += seconds
        for _ in range(5):  # the loop notices, runs the timers, and what they have called
            await asyncio.sleep(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """For this process: the event loop's time is the same."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


class Peer:
    """A client whose messages come when the test says so."""

    def __init__(self, metrics: Metrics) -> None:
        """`metrics` are the server's."""
        self._metrics = metrics
        self._to_server: asyncio.Queue[Message] = asyncio.Queue()
        self._from_server: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._server_waits = asyncio.Event()
        self._closed: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def receive(self) -> Message:
        """Called by the server."""
        if self._to_server.empty():
            self._server_waits.set()
        message = await self._to_server.get()
        self._server_waits.clear()
        return message

    async def send(self, message: Message) -> None:
        """Called by the server."""
        if message["type"] == "websocket.send":
            self._from_server.put_nowait(json.loads(message["text"]))
        elif message["type"] == "websocket.close":
            self._closed.set_result(message)
            self.leave()

    def leave(self) -> None:
        """Close the connection, or answer the server's close."""
        self.write({"type": "websocket.disconnect", "code": 1000})

    def write(self, message: Message) -> None:
        """Send."""
        self._to_server.put_nowait(message)

    async def say(self, *messages: Message) -> None:
        """Send, and wait until the server has taken all of it."""
        for message in messages:
            self.write(message)
        self._server_waits.clear()
        await self.all_taken()

    async def all_taken(self) -> None:
        """Wait until the server has taken all that was sent, and waits for more."""
        await self._server_waits.wait()

    async def until(self, kind: str) -> dict[str, Any]:
        """The server's next message of this type."""
        while (message := await self._from_server.get())["type"] != kind:
            pass
        return message

    @property
    def unread(self) -> int:
        """Messages of the server that nobody has looked at."""
        return self._from_server.qsize()

    @property
    def waiting(self) -> float:
        """Messages in the server's queue."""
        return self._metrics.registry.get_sample_value("stt_in_queue_messages") or 0.0

    @property
    def is_closed(self) -> bool:
        return self._closed.done()

    async def end(self) -> tuple[str, int]:
        """The message of the server's `error`, and the code of its close."""
        error = await self.until("error")
        code: int = (await self._closed)["code"]
        return error["message"], code


@asynccontextmanager
async def connected(in_queue_seconds: float = 30) -> AsyncIterator[Peer]:
    """A client that has got its `ready`."""
    limits = {"idle_seconds": IDLE, "max_silent_seconds": SILENT, "in_queue_seconds": in_queue_seconds}
    async with serving(MOCK.model_copy(update=limits)) as app:
        peer = Peer(app.state.context.metrics)
        connection = asyncio.create_task(app(dict(SCOPE), peer.receive, peer.send))
        try:
            await peer.say({"type": "websocket.connect"})
            await peer.until("ready")
            yield peer
        finally:
            peer.leave()
            await connection


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(test())


@pytest.mark.parametrize(
    "message",
    [PING_OR_EMPTY, text(type="keepalive"), audio(silence(20))],
    ids=["ping or empty", "keepalive", "audio"],
)
def test_a_message_restarts_the_idle_timer(clock: Clock, message: Message) -> None:
    """Of any kind, and nothing answers it. Without one for STT_IDLE_SECONDS the client gets 1008."""

    async def conversation() -> None:
        async with connected() as peer:
            for _ in range(5):
                await clock.set_forward(IDLE - 100)
                await peer.say(dict(message))
            assert (peer.unread, peer.is_closed) == (0, False)
            await clock.set_forward(IDLE + 1)
            assert await peer.end() == ("idle: nothing came for 300 seconds", 1008)

    run(conversation)


@pytest.mark.parametrize("message", [PING_OR_EMPTY, text(type="keepalive")], ids=["ping or empty", "keepalive"])
def test_a_client_without_audio_is_not_kept_for_ever(clock: Clock, message: Message) -> None:
    """Libraries send pings by themselves, also for a program that hangs: after STT_MAX_SILENT_SECONDS it gets 1008."""

    async def conversation() -> None:
        async with connected() as peer:
            await clock.set_forward(200)
            await peer.say(audio(silence(20)))
            for _ in range(17):
                await clock.set_forward(200)
                await peer.say(dict(message))
            await clock.set_forward(150)
            assert not peer.is_closed, "3550 s after the audio"
            await clock.set_forward(51)
            assert await peer.end() == ("idle: no audio came for 3600 seconds", 1008)

    run(conversation)


def test_an_idle_client_gets_its_open_utterance_first(clock: Clock) -> None:
    """Where no silence ends an utterance, the final comes before the close for idleness."""

    async def conversation() -> None:
        async with connected() as peer:
            await peer.say(text(type="configure", endpointing=False))
            await peer.say(*in_pieces(reference("hello")))
            await clock.set_forward(IDLE + 1)
            final = await peer.until("final")
            assert (final["reason"], final["text"]) == ("closing", text_of("hello"))
            assert await peer.end() == ("idle: nothing came for 300 seconds", 1008)

    run(conversation)


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Ends the fault of servers whose engine is stuck."""
    released = tmp_path / "released"
    monkeypatch.setenv("FAULT_FILE", str(released))
    monkeypatch.setattr(registry, "BACKENDS", {"mock": registry.BackendSpec(lambda _: StuckBackend())})
    return released.touch


def test_a_client_that_waits_for_its_final_is_not_idle(clock: Clock, release: Callable[[], None]) -> None:
    """However long the engine takes; when the final has come it is."""

    async def conversation() -> None:
        async with connected() as peer:
            await peer.say(*in_pieces(UTTERANCE), text(type="commit"))
            for _ in range(5):
                await clock.set_forward(IDLE - 100)
            assert not peer.is_closed
            release()
            assert [(await peer.until("final"))["reason"] for _ in range(2)] == ["endpoint", "commit"]
            await clock.set_forward(IDLE + 1)
            assert await peer.end() == ("idle: nothing came for 300 seconds", 1008)

    run(conversation)


def test_a_client_that_is_not_read_is_not_idle(clock: Clock, release: Callable[[], None]) -> None:
    """However slow the engine: what the client sent meanwhile waits in the socket."""

    async def conversation() -> None:
        async with connected(in_queue_seconds=3) as peer:
            for piece in in_pieces(UTTERANCE * 10):
                peer.write(piece)
            while peer.waiting < 30:  # noqa: ASYNC110 - a full queue has no event
                await asyncio.sleep(0.01)
            for _ in range(20):
                await clock.set_forward(IDLE - 50)
            assert not peer.is_closed
            release()
            assert [(await peer.until("final"))["reason"] for _ in range(10)] == ["endpoint"] * 10
            await peer.all_taken()
            await clock.set_forward(SILENT + 1)
            assert (await peer.end())[1] == 1008

    run(conversation)


def test_the_limit_is_that_of_its_setting(folder: Path) -> None:
    """On a real server, whose client never says anything."""
    settings = {"STT_BACKEND": "mock", "STT_IDLE_SECONDS": "0.5"}
    with Server(folder, settings) as server, session(server.ws()) as client:
        (error,), code = client.rest()

    assert (error["message"], error["code"], code) == ("idle: nothing came for 0.5 seconds", 1008, 1008)
