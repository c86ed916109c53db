"""Many sessions at once: no text, time or thread of one is another's."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.frames import Opcode

from bench.common.paced_sender import PacedSender, sending
from bench.common.websocket_client import StreamClient, client_frame, commit_all, connected
from tests.audio import reference, silence, text_of
from tests.patience import PATIENCE_SECONDS
from tests.server import Server, eventually

SPEAKERS = 48
_AUDIO = silence(200) + reference("hello") + silence(700) + reference("price")[:32_000] + silence(700)


def _frames(pcm: bytes) -> Iterator[bytes]:
    for first in range(0, len(pcm), 640):
        yield client_frame(Opcode.BINARY, pcm[first : first + 640])


def _finals(speaker: StreamClient) -> list[dict[str, Any]]:
    messages = [json.loads(raw) for _, raw in speaker.received]
    assert [each for each in messages if each["type"] == "error"] == []
    return [each for each in messages if each["type"] == "final"]


@asynccontextmanager
async def _spoken(server: Server, speakers: int, pcm: bytes) -> AsyncIterator[list[StreamClient]]:
    """So many speakers that have just said it, live (one is quicker) and spread over the 20 ms of a frame."""
    frames = len(list(_frames(pcm)))
    async with connected(server.port, [_frames(pcm) for _ in range(speakers)], wait_for_message=True) as clients:
        async with sending(PacedSender(clients, 1, 8.0 if speakers == 1 else 1.0)):
            while any(len(speaker.sent) < frames for speaker in clients):  # noqa: ASYNC110 - it is another thread's
                await asyncio.sleep(0.001)
        yield clients


async def _converse(server: Server, speakers: int, pcm: bytes) -> list[list[dict[str, Any]]]:
    """The finals of speakers who end with a commit."""
    async with _spoken(server, speakers, pcm) as clients:
        assert await commit_all(clients, PATIENCE_SECONDS) == 0
        return [_finals(speaker) for speaker in clients]


def test_many_sessions_get_what_one_gets(folder: Path) -> None:
    """The same utterances with the same text and times; then all leave, and no thread or file stays."""
    with Server(folder, {"STT_BACKEND": "mock"}) as server:
        (alone,) = asyncio.run(_converse(server, 1, _AUDIO))
        threads, files = server.threads(), server.descriptors()
        clients = asyncio.run(_converse(server, SPEAKERS, _AUDIO))
        eventually(lambda: server.metric("stt_sessions") == 0)
        eventually(lambda: server.threads() <= threads)
        eventually(lambda: server.descriptors() <= files + 1)
        assert server.metric("stt_dropped_messages_total") == 0

    assert [each["text"] for each in alone] == [text_of("hello"), " ".join(text_of("price").split()[:3]), ""]
    assert [each["reason"] for each in alone] == ["endpoint", "endpoint", "commit"]
    fields = ("segment_seq", "text", "reason", "start_ms", "end_ms")
    expected = [[each[name] for name in fields] for each in alone]
    assert [[[each[name] for name in fields] for each in finals] for finals in clients] == [expected] * SPEAKERS


def test_a_drain_processes_all_that_was_sent(folder: Path) -> None:
    """SIGTERM just after the last message: every speaker's final reaches as far as if it had been committed."""
    pcm = reference("hello")[: 32 * 800]  # in the middle of a vowel
    with Server(folder, {"STT_BACKEND": "mock"}) as server:
        ((committed,),) = asyncio.run(_converse(server, 1, pcm))
        assert committed["end_ms"] == 800
        finals = asyncio.run(_interrupted(server, pcm))
        server.ended()

    assert [each["reason"] for each in finals] == ["drain"] * SPEAKERS
    assert [(each["end_ms"], each["text"]) for each in finals] == [(committed["end_ms"], committed["text"])] * SPEAKERS


async def _interrupted(server: Server, pcm: bytes) -> list[dict[str, Any]]:
    async with _spoken(server, SPEAKERS, pcm) as clients:
        server.signal(signal.SIGTERM)
        await asyncio.wait_for(asyncio.gather(*(speaker.closed for speaker in clients)), PATIENCE_SECONDS)
        assert {speaker.close_code for speaker in clients} == {1012}
        return [json.loads(speaker.received[-2][1]) for speaker in clients]
