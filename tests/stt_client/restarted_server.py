"""A server that restarts while a stream of the client library speaks."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Mapping
from itertools import cycle, islice
from pathlib import Path

from protocol.pcm import BYTES_PER_SECOND
from stt_client import AsyncClient, AsyncStream, AudioLost, Event, Final, Reconnected
from tests.audio import reference, silence
from tests.patience import PATIENCE_SECONDS
from tests.server import Server, eventually, free_port

RECORDINGS = ("hello", "keys", "price", "radio", "school", "train", "weather", "wind")
MESSAGE = 3200
"""Bytes: 100 ms."""


class RestartedServer:
    """A server that comes back on the same port."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._settings = settings
        self._port = free_port()
        self._server = self._new()

    def _new(self) -> Server:
        server = Server(self._folder, self._settings, wait=False, arguments=["--port", str(self._port)])
        server.port = self._port
        return server

    def __enter__(self) -> RestartedServer:
        eventually(lambda: self._server.answers() == 200)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__()

    @property
    def http(self) -> str:
        return self._server.http

    def restart(self, number: signal.Signals) -> None:
        self._server.signal(number)
        self._server.ended()
        self._server.__exit__()
        self._server = self._new()


async def speak(stream: AsyncStream, pcm: bytes) -> None:
    """Send audio at the speed of speech."""
    due = time.monotonic()
    for first in range(0, len(pcm), MESSAGE):
        piece = pcm[first : first + MESSAGE]
        await stream.send(piece)
        due += len(piece) / BYTES_PER_SECOND
        await asyncio.sleep(due - time.monotonic())


async def read(stream: AsyncStream, events: list[Event], spoken: asyncio.Queue[Final]) -> None:
    async for event in stream:
        events.append(event)
        if isinstance(event, Final):
            spoken.put_nowait(event)


async def converse(server: RestartedServer, restarts: int, number: signal.Signals | None) -> list[Event]:
    """Say one recording after another; in the middle of each the server restarts, unless `number` is None."""
    events: list[Event] = []
    spoken: asyncio.Queue[Final] = asyncio.Queue()
    async with AsyncClient(server.http, connect_seconds=PATIENCE_SECONDS, reconnect_seconds=PATIENCE_SECONDS).stream(
        language="en"
    ) as stream:
        reader = asyncio.create_task(read(stream, events, spoken))
        for name in islice(cycle(RECORDINGS), restarts):
            pcm = reference(name)
            await speak(stream, pcm[: len(pcm) // 2 & ~1])
            restart = asyncio.create_task(asyncio.to_thread(server.restart, number)) if number else None
            await speak(stream, pcm[len(pcm) // 2 & ~1 :] + silence(1000))
            if restart:
                await restart
            async with asyncio.timeout(PATIENCE_SECONDS):
                await spoken.get()
        await stream.finish()
        await reader
    return events


def words(text: str) -> list[str]:
    """Words of a text without case and punctuation."""
    return re.findall(r"[a-z']+", text.lower())


def texts(events: list[Event]) -> list[list[str]]:
    return [words(event.text) for event in events if isinstance(event, Final)]


def check(events: list[Event], restarts: int, expected: list[list[str]]) -> None:
    finals = [event for event in events if isinstance(event, Final)]
    names = list(islice(cycle(RECORDINGS), restarts))

    assert texts(events) == expected
    assert [final.segment_seq for final in finals] == list(range(restarts))
    assert not [event for event in events if isinstance(event, AudioLost)]
    assert sum(isinstance(event, Reconnected) for event in events) >= restarts
    begins = [0]
    for name in names:
        begins.append(begins[-1] + len(reference(name)) // 32 + 1000)
    for final, begin, end in zip(finals, begins, begins[1:], strict=False):
        assert begin <= final.start_ms < final.end_ms <= end
