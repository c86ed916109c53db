"""What the tests say to a server with the qwen3 engine, and what they read of its answers."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.pcm import to_pcm
from tests.audio import silence
from tests.client import Message, session
from tests.qwen3.conftest import spoken
from tests.server import Server

CHUNK = 3200
"""Bytes in a message: 100 ms."""


def utterance(seed: int, seconds: float = 6.0) -> bytes:
    """Speech, and the silence that ends it."""
    return to_pcm(spoken(seconds, seed)) + silence(800)


def said(server: Server, pcm: bytes, *, live: bool, **query: object) -> list[Message]:
    """Finals of audio that is spoken, or sent as fast as it goes, and then committed."""
    with session(server.ws(**query)) as client:
        (client.speak if live else client.send)(pcm, CHUNK)
        client.commit()
        messages = client.until("final", reason="commit")
    return [message for message in messages if message["type"] == "final"]


def text(finals: Sequence[Message]) -> str:
    """All of them, joined."""
    return " ".join(final["text"] for final in finals if final["text"])
