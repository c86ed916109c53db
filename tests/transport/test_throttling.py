"""Clients that send ahead of real time, on real servers whose engine is slow: they wait, and lose nothing."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_asynchronously
from websockets.frames import Frame, Opcode

from protocol.pcm import BYTES_PER_SECOND
from tests.audio import reference, silence
from tests.client import client_that_never_reads, connect, session
from tests.patience import PATIENCE_SECONDS
from tests.server import Server, eventually

UTTERANCE = reference("hello") + silence(700)
MESSAGE = 640
MOST_SECONDS = 10
"""Within which a ping is answered."""


@dataclass
class Observations:
    """What one client saw."""

    pings: list[float] = field(default_factory=list)
    """Seconds until each was answered."""
    finals: list[dict[str, Any]] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    """Resident bytes of the server."""


def _socket(server: Server) -> socket.socket:
    """A connection whose buffers are those of a fresh Linux machine.

    BBR, chosen by some, buffers 1 MB. And Linux remembers for each pair of addresses how far packets were out of order:
    after other tests on loopback a send buffer would have many megabytes. So the client has an address of its own.
    """
    raw = socket.socket()
    with suppress(AttributeError, OSError):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    with suppress(OSError):  # macOS has 127.0.0.1 alone
        raw.bind((str(IPv4Address("127.1.0.0") + secrets.randbelow(1 << 16)), 0))
    raw.connect(("127.0.0.1", server.port))
    return raw


async def _converse(server: Server, utterances: int) -> Observations:
    """Send so many utterances as fast as the socket takes them, with a ping every 2 s."""
    observed = Observations()
    async with connect_asynchronously(server.ws(), sock=_socket(server), open_timeout=PATIENCE_SECONDS) as client:
        sender = asyncio.create_task(_send(client, UTTERANCE * utterances))
        watch = asyncio.create_task(_watch(client, server, observed))
        async for message in client:
            event = json.loads(message)
            if event["type"] == "final":
                observed.finals.append(event)
        watch.cancel()
        await sender
    return observed


async def _send(client: ClientConnection, pcm: bytes) -> None:
    for first in range(0, len(pcm), MESSAGE):
        await client.send(pcm[first : first + MESSAGE])
    await client.send('{"type": "finish"}')


async def _watch(client: ClientConnection, server: Server, observed: Observations) -> None:
    while True:
        observed.pings.append(await (await client.ping()))
        observed.memory.append(server.resident_bytes())
        await asyncio.sleep(2)


@pytest.mark.parametrize(
    ("minutes", "speed"),
    [
        pytest.param(2, 8, marks=pytest.mark.slow),
        pytest.param(30, 2, marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
def test_half_an_hour_at_once_is_transcribed_and_its_pings_are_answered(folder: Path, minutes: int, speed: int) -> None:
    """By an unmodified client, at an engine of a few times real time; memory stays as it was."""
    utterances = minutes * 60 * BYTES_PER_SECOND // len(UTTERANCE)
    with Server.with_fault(folder, "slow", {"FAULT_SPEED": str(speed)}, script=True) as server:
        observed = asyncio.run(_converse(server, utterances))
        dropped = server.metric("stt_dropped_audio_seconds_total")

    assert len(observed.finals) >= utterances
    assert observed.finals[-1]["end_ms"] > (utterances - 1) * len(UTTERANCE) // 32
    assert dropped == 0
    assert max(observed.pings) < MOST_SECONDS
    assert max(observed.memory) - min(observed.memory) < 20_000_000


def test_a_pause_ends_when_the_queue_is_empty(folder: Path) -> None:
    """Not when it was due: after a message of 30 s that fills the queue, that would be in two minutes, each time."""
    messages = 8
    with (
        Server(folder, {"STT_BACKEND": "mock", "STT_IN_QUEUE_SECONDS": "3"}) as server,
        session(server.ws(codec="mulaw", sample_rate="8000")) as client,
    ):
        client.send(b"\xff" * 240_000 * messages, 240_000)
        client.commit()
        final = client.receive()

    assert final["end_ms"] == 30_000 * messages


def test_the_pongs_of_a_client_that_is_not_read_are_waited_for(folder: Path) -> None:
    """However slow the engine: they wait in the socket, behind audio. test_idle.py has the limits of idle clients."""
    settings, pings = {"STT_IN_QUEUE_SECONDS": "3"}, ("--ws-ping-interval", "1", "--ws-ping-timeout", "8")
    with Server.with_fault(folder, "stuck", settings, arguments=pings) as server, session(server.ws()) as client:
        sender = threading.Thread(target=client.send, args=(UTTERANCE * 40,))
        sender.start()
        eventually(lambda: server.metric("stt_in_queue_messages") >= 3 * BYTES_PER_SECOND / MESSAGE)
        time.sleep(10)  # longer than a client may take
        server.release()
        finals = client.finals(40)
        sender.join()

    assert [final["reason"] for final in finals] == ["endpoint"] * 40


def test_little_waits_in_the_sockets_of_a_throttled_client(folder: Path) -> None:
    """Under 1 MB on both sides together, where the system alone lets 6 MB wait: a ping waits behind it."""
    settings = {"STT_IN_QUEUE_SECONDS": "3"}
    with (
        Server.with_fault(folder, "stuck", settings, script=True) as server,
        connect(server.ws(), sock=_socket(server)) as client,
    ):
        sent, refused = 0, 0
        pieces = (UTTERANCE[first : first + MESSAGE] for first in range(0, len(UTTERANCE), MESSAGE))
        frames = b"".join(Frame(Opcode.BINARY, piece).serialize(mask=True) for piece in pieces) * 100
        while refused < 20:
            try:
                sent += client.socket.send(frames[sent : sent + 10_000], socket.MSG_DONTWAIT)
                refused = 0
            except BlockingIOError:
                refused += server.metric("stt_in_queue_messages") >= 3 * BYTES_PER_SECOND / MESSAGE
                time.sleep(0.05)
        processed = server.metric('stt_audio_seconds_total{source="websocket"}') * BYTES_PER_SECOND
        client.socket.close()  # a goodbye would wait behind the audio

    assert sent - processed - 3 * BYTES_PER_SECOND < 1_000_000


def test_a_client_that_answers_no_ping_is_let_go(folder: Path) -> None:
    """Nothing comes from it, though the server reads."""
    pings = ("--ws-ping-interval", "1", "--ws-ping-timeout", "1")
    with (
        Server.with_fault(folder, "none", arguments=pings) as server,
        client_that_never_reads(server.ws()),
    ):
        eventually(lambda: server.metric("stt_connections_total") == 1)
        eventually(lambda: server.metric("stt_sessions") == 0)
