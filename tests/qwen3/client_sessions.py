"""Sessions that tests and measurements have with a server on the qwen3 engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from backends.qwen3.backend import Qwen3Backend
from protocol.pcm import to_pcm
from tests.audio import silence
from tests.backends.conformance import decode
from tests.client import Message, session
from tests.qwen3.conftest import make_speech
from tests.server import Server

CHUNK = 3200
"""Bytes in a message: 100 ms."""
UTTERANCES = 8
"""Of each of four speakers."""


def utterance(seed: int, seconds: float = 6.0) -> bytes:
    """Speech, and the silence that ends it."""
    return to_pcm(make_speech(seconds, seed)) + silence(800)


def finals_of(server: Server, pcm: bytes, *, live: bool, **query: object) -> list[Message]:
    """Finals of audio that is sent in real time (`live`) or as fast as it goes, and then committed."""
    with session(server.ws(**query)) as client:
        (client.speak if live else client.send)(pcm, CHUNK)
        client.commit()
        messages = client.until("final", reason="commit")
    return [message for message in messages if message["type"] == "final"]


def joined_text(finals: Sequence[Message]) -> str:
    """The texts of all finals."""
    return " ".join(final["text"] for final in finals if final["text"])


def compare_final_latency(server: Server, alone: Qwen3Backend) -> tuple[list[int], list[float]]:
    """Latency of finals of four speakers at once, and the duration of decodes in another engine meanwhile.

    Returns:
        `latency_ms` of all finals at endpoints, and the time in ms of decodes of as much speech in the idle engine
        `alone`, on the same cores; both ascending.
    """
    with ThreadPoolExecutor(4) as speakers:
        conversations = [speakers.submit(_speak, server, seed) for seed in range(4)]
        bare: list[float] = []
        while not all(conversation.done() for conversation in conversations):
            bare.append(round(1000 * decode(alone, make_speech(3.0, len(bare))).inference_seconds, 1))
            time.sleep(0.5)
    return sorted(latency for conversation in conversations for latency in conversation.result()), sorted(bare)


def _speak(server: Server, seed: int) -> list[int]:
    time.sleep(seed * 0.37)
    pcm = b"".join(utterance(100 * seed + number, 3.0) for number in range(UTTERANCES))
    finals = finals_of(server, pcm, live=True)
    return [final["latency_ms"] for final in finals if final["reason"] == "endpoint"]
