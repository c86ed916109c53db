"""How the small bodies of requests are read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from starlette.requests import Request
from starlette.types import Message

from protocol.errors import BadRequest, ClientTooSlow, PayloadTooLarge
from transport.tokens import read_body


def read(*messages: Message) -> bytes:
    """The body of a request whose server gets these messages, and then none."""
    left: Sequence[Message] = list(messages)

    async def receive() -> Message:
        nonlocal left
        if not left:
            await asyncio.Event().wait()
        first, *left = left
        return first

    return asyncio.run(read_body(Request({"type": "http", "headers": []}, receive)))


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_parts() -> None:
    assert read(part(b'{"seconds"'), part(b": 60}", more=False)) == b'{"seconds": 60}'


def test_a_body_that_is_too_long() -> None:
    with pytest.raises(PayloadTooLarge):
        read(part(bytes(10_000)), part(bytes(10_000)))


def test_a_client_that_leaves_in_mid_body() -> None:
    """It is no error of the server."""
    with pytest.raises(BadRequest):
        read(part(b"{"), {"type": "http.disconnect"})


def test_a_body_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not keep its request open for ever."""
    monkeypatch.setattr("transport.tokens._BODY_SECONDS", 0.05)
    with pytest.raises(ClientTooSlow, match=r"within 0\.05 s"):
        read(part(b"{"))
