"""A dialect is one module and one line of routing: a toy one, on a real server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed

from app import DIALECTS, create_app
from protocol.dialect import Close, Handshake, HttpRefusal, ServerInfo, SessionOptions
from protocol.errors import ServiceError
from protocol.events import Audio, Command, Commit, Event, Final, Finish, Finished, Hypothesis
from tests.audio import reference, text_of
from tests.client import connect, refused
from tests.server import Server


class ToyDialect:
    """Upper case: audio is binary, `.` commits, `bye` finishes; results are plain lines."""

    max_message_bytes = 100_000

    def __init__(self, server: ServerInfo) -> None:
        self._greeting = f"HELLO {server.backend}"

    def open(self, handshake: Handshake) -> SessionOptions | HttpRefusal:
        return SessionOptions() if handshake.query == "please" else HttpRefusal(402, "say please", "text/plain")

    def refusal(self, error: ServiceError) -> HttpRefusal:
        return HttpRefusal(error.http_status, f"NO {error}", "text/plain")

    def subprotocol(self, offered: Sequence[str]) -> str | None:
        return "toy" if "toy" in offered else None

    def hello(self, now: float) -> Sequence[str]:
        return [self._greeting]

    def take(self, message: str | bytes) -> Sequence[Command]:
        if isinstance(message, bytes):
            return [Audio(message)]
        commands: dict[str, list[Command]] = {".": [Commit()], "bye": [Finish()]}
        return commands.get(message, [])

    def flush(self) -> Sequence[Audio]:
        return []

    def tell(self, event: Event, now: float) -> Sequence[str]:
        match event:
            case Hypothesis(text=text):
                return [f"? {text}"]
            case Final(text=text):
                return [f"! {text.upper()}", "next"]
            case Finished():
                return ["BYE"]
            case _:
                return []

    def goodbye(self, error: ServiceError | None, now: float) -> Close:
        return Close([], 1000) if error is None else Close([f"OOPS {error}"], 4000, "oops")


def build() -> FastAPI:
    """For `uvicorn --factory`."""
    return create_app(dialects={**DIALECTS, "/toy": ToyDialect})


def test_a_dialect_refuses_in_its_own_words_and_chooses_no_key(folder: Path) -> None:
    """Also what is refused before it reads the request; a choice that was not offered is none."""
    settings = {"STT_BACKEND": "mock", "STT_API_KEYS": "phone=secret-of-a-phone-0123"}
    with Server(folder, settings, module="tests.transport.test_toy_dialect:build") as server:
        url = f"ws://127.0.0.1:{server.port}/toy?please"
        refusal = refused(url)
        offered = ["OpenAI-Insecure-API-Key.secret-of-a-phone-0123", "first", "second"]
        with connect(url, subprotocols=offered) as socket:
            chosen = socket.subprotocol

    assert (refusal.status_code, refusal.body[:3]) == (401, b"NO ")
    assert chosen == "first"


def test_a_dialect_is_one_module_and_one_line(folder: Path) -> None:
    """It has its own greeting, refusal, subprotocol, messages, and close; the session is the same for all."""
    with Server(folder, {"STT_BACKEND": "mock"}, module="tests.transport.test_toy_dialect:build") as server:
        url = f"ws://127.0.0.1:{server.port}/toy"
        refusal = refused(url)
        with connect(f"{url}?please", subprotocols=["other", "toy"]) as socket:
            assert socket.subprotocol == "toy"
            assert socket.recv() == "HELLO mock"
            for first in range(0, len(reference("hello")), 3200):
                socket.send(reference("hello")[first : first + 3200])
            socket.send("whatever")
            socket.send(".")
            socket.send("bye")
            lines = [*socket]
            code = socket.close_code
        with connect(f"{url}?please") as socket:
            socket.recv()
            socket.send(bytes(100_001))
            assert socket.recv() == "OOPS a message may have at most 100000 bytes"
            closed = None
            try:
                socket.recv()
            except ConnectionClosed as error:
                closed = error.rcvd

    assert (refusal.status_code, refusal.body) == (402, b"say please")
    assert [line for line in lines if not str(line).startswith("?")] == [f"! {text_of('hello').upper()}", "next", "BYE"]
    assert code == 1000
    assert closed is not None
    assert (closed.code, closed.reason) == (4000, "oops")
