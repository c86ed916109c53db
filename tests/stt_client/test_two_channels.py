"""Streams of two channels: the library and the program `stt`, on real servers."""

from __future__ import annotations

import asyncio
import signal
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stt_client import AsyncClient, AsyncStream, AudioLost, Client, Event, Final, Partial, Reconnected
from tests.audio import interleaved, reference, silence, text_of
from tests.patience import PATIENCE_SECONDS
from tests.server import Server
from tests.stt_client.restarted_server import RestartedServer
from tests.stt_client.terminal import piped

CALLER = reference("hello") + silence(700)
AGENT = silence(600) + reference("price") + silence(700)
BOTH = interleaved(CALLER, AGENT)


def texts(events: list[Event], channel: int) -> list[str]:
    """A channel's finals that have text, checked to be numbered without gaps."""
    finals = [event for event in events if isinstance(event, Final) and event.channel == channel]
    assert [final.segment_seq for final in finals] == list(range(len(finals)))
    return [final.text for final in finals if final.text]


@pytest.mark.parametrize("kind", ["bytes", "int16", "float32"])
def test_each_channel_has_its_own_events(mock_server: Server, kind: str) -> None:
    """Bytes are interleaved, and arrays have the shape [n, 2]; a commit has an answer from each channel."""
    samples = np.frombuffer(BOTH, "<i2").reshape(-1, 2)
    forms: dict[str, bytes | npt.NDArray[Any]] = {
        "bytes": BOTH,
        "int16": samples,
        "float32": (samples / 32768).astype(np.float32),
    }
    events: list[Event] = []
    with Client(mock_server.http).stream(channels=2, vad_silence_ms=600) as stream:
        stream.send(forms[kind])
        stream.commit(id="all")
        stream.finish()
        events.extend(stream)

    assert texts(events, 0) == [text_of("hello")]
    assert texts(events, 1) == [text_of("price")]
    assert {event.channel for event in events if isinstance(event, Final) and event.id == "all"} == {0, 1}
    assert {event.channel for event in events if isinstance(event, Partial)} <= {0, 1}


@pytest.mark.parametrize("shape", [(100, 1), (2, 100), (50, 2, 2)])
def test_an_array_of_other_channels_is_refused(mock_server: Server, shape: tuple[int, ...]) -> None:
    """It would play at another speed, or mix the speakers up."""
    with Client(mock_server.http).stream(channels=2) as stream, pytest.raises(ValueError, match=r"\[n, 2\]"):
        stream.send(np.zeros(shape, np.int16))


@pytest.mark.parametrize("arguments", [(), ("--json",)], ids=["text", "json"])
def test_the_program_shows_who_speaks(mock_server: Server, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A stereo file with `--channels 2` has a line for each final, behind its speaker; in JSON with its channel."""
    path = tmp_path / "call.wav"
    with wave.open(str(path), "wb") as recording:
        recording.setnchannels(2)
        recording.setsampwidth(2)
        recording.setframerate(16_000)
        recording.writeframes(BOTH)
    done = piped({"STT_SERVER": mock_server.http}, "stream", str(path), "--channels", "2", *arguments)
    shown = done.stdout.decode().splitlines()
    if arguments:
        finals = [Final.model_validate_json(line) for line in shown if '"type":"final"' in line]
        shown = [f"{('left', 'right')[final.channel]}: {final.text}" for final in finals if final.text]

    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(shown) == [f"left: {text_of('hello')}", f"right: {text_of('price')}"]


def test_a_file_of_one_channel_is_not_split(mock_server: Server) -> None:
    """It has no second speaker, and the program says so."""
    server = {"STT_SERVER": mock_server.http}
    done = piped(server, "stream", "references/hello.wav", "--channels", "2")

    assert done.returncode == 1
    assert "references/hello.wav has 1 channel, not 2" in done.stderr.decode()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restarts_in_the_midst_of_two_speakers_cost_no_word(folder: Path, number: signal.Signals) -> None:
    """Each sentence of each channel has one final, though the server restarts while both speak, and while one does."""
    with RestartedServer(folder, {"STT_BACKEND": "mock"}) as server:
        events = asyncio.run(_converse(server, number))

    assert texts(events, 0) == [text_of(name) for name in ("hello", "radio", "train")]
    assert texts(events, 1) == [text_of(name) for name in ("price", "school")]
    assert not [event for event in events if isinstance(event, AudioLost)]


async def _read(stream: AsyncStream, events: list[Event], reconnections: asyncio.Queue[Event]) -> None:
    async for event in stream:
        events.append(event)
        if isinstance(event, Reconnected):
            reconnections.put_nowait(event)


async def _converse(server: RestartedServer, number: signal.Signals) -> list[Event]:
    """The server restarts after 1.5 s and 7 s; then each speaker's sentences are over."""
    left = b"".join(reference(name) + silence(1_500) for name in ("hello", "radio", "train"))
    right = silence(800) + reference("price") + silence(1_500) + reference("school") + silence(1_000)
    audio = interleaved(left, right)
    cuts = [0, int(1.5 * 64_000), 7 * 64_000, len(audio)]
    events: list[Event] = []
    reconnections: asyncio.Queue[Event] = asyncio.Queue()
    async with AsyncClient(server.http, connect_seconds=PATIENCE_SECONDS).stream(language="en", channels=2) as stream:
        reader = asyncio.create_task(_read(stream, events, reconnections))
        for first, last in pairwise(cuts):
            if first:
                await asyncio.to_thread(server.restart, number)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await reconnections.get()
            due = asyncio.get_running_loop().time()
            for at in range(first, last, 6_400):
                await stream.send(audio[at : min(at + 6_400, last)])
                due += 0.1
                await asyncio.sleep(due - asyncio.get_running_loop().time())
        await stream.finish()
        await reader
    return events
