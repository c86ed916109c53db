"""OpenAI's own Python client, unmodified, with live speech: on whisper's real weights and recordings of speech."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from bench.common.word_error_rate import rate, score
from tests.audio import REFERENCES, text_of
from tests.patience import PATIENCE_SECONDS
from tests.server import ROOT, Server
from tests.weights import settings_of

openai = pytest.importorskip("openai")
pytest.importorskip("faster_whisper")
pytestmark = pytest.mark.slow

PATIENT = {"open_timeout": PATIENCE_SECONDS, "ping_timeout": PATIENCE_SECONDS}
KEY = "sk-test-0123456789abcdef"
SPOKEN = REFERENCES / "meeting.wav"
SHARED = ROOT.parent / "shared" / "speech"
COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"
SERVER_VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500}
SPEED = 4
"""Times real time."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = settings_of("base") | {"STT_API_KEYS": f"test={KEY}"}
    with Server(tmp_path_factory.mktemp("openai-realtime"), settings) as server:
        yield server


def _audio(file: Path, rate_hz: int = 24_000, tail: float = 1.5) -> bytes:
    """A recording at another rate, with silence behind it."""
    with wave.open(str(file)) as recording:
        samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2")
        resampled: Any = soxr.resample(samples, recording.getframerate(), rate_hz)
    return bytes(resampled.astype("<i2").tobytes() + bytes(2 * int(rate_hz * tail)))


def _mu_law(pcm: bytes) -> bytes:
    """ITU-T G.711."""
    samples = np.frombuffer(pcm, "<i2").astype(np.int32)
    magnitude = np.minimum(np.abs(samples), 32_635) + 132
    exponent = np.maximum(np.floor(np.log2(magnitude)).astype(np.int32) - 7, 0)
    code = (samples < 0) * 0x80 | exponent << 4 | magnitude >> exponent + 3 & 15
    return bytes((~code & 0xFF).astype(np.uint8).tobytes())


def _pieces(audio: bytes, bytes_per_second: int) -> Iterator[str]:
    """Base64 of 50 ms each."""
    size = bytes_per_second // 20
    for first in range(0, len(audio), size):
        yield base64.b64encode(audio[first : first + size]).decode()


def _session(**asked: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON holds
    defaults = {"transcription": {"model": "gpt-4o-transcribe", "language": "en"}, "turn_detection": SERVER_VAD}
    return {"type": "transcription", "audio": {"input": defaults | asked}}


def _wrong(said: str, text: str = text_of("meeting"), language: str = "en") -> float:
    return rate([score(text, said, language)]) or 0.0


def _converse(
    server: Server,
    session: dict[str, Any],
    audio: bytes,
    bytes_per_second: int = 48_000,
    *,
    last: Callable[[Any], Any] | None = None,
    key: str = KEY,
) -> list[Any]:
    """All events up to the first `completed`; `last` is called with the connection when the audio was sent."""

    async def speak(connection: Any) -> None:  # noqa: ANN401 - the package is optional
        for piece in _pieces(audio, bytes_per_second):
            await connection.input_audio_buffer.append(audio=piece)
            await asyncio.sleep(0.05 / SPEED)
        if last is not None:
            await last(connection)

    async def run() -> list[Any]:
        client = openai.AsyncOpenAI(base_url=f"{server.http}/v1", api_key=key)
        events: list[Any] = []
        async with client.realtime.connect(
            extra_query={"intent": "transcription"}, websocket_connection_options=PATIENT
        ) as connection:
            await connection.session.update(session=session)
            speaker = asyncio.create_task(speak(connection))
            async with asyncio.timeout(PATIENCE_SECONDS):
                async for event in connection:
                    events.append(event)
                    if event.type in ("error", COMPLETED):
                        break
            speaker.cancel()
        await client.close()
        return events

    return asyncio.run(run())


def _deltas(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == DELTA)


def test_server_vad(server: Server) -> None:
    """A turn ends by silence; the client's own classes have every field they need."""
    events = _converse(server, _session(), _audio(SPOKEN))
    kinds = [event.type for event in events if event.type != DELTA]
    completed = events[-1]

    assert kinds == [
        "session.created",
        "session.updated",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        COMPLETED,
    ]
    assert _wrong(completed.transcript) <= 0.1
    assert len({event.item_id for event in events if getattr(event, "item_id", None)}) == 1
    assert events[0].session.type == "transcription"
    assert completed.usage.seconds > 1
    assert completed.transcript.startswith(_deltas(events)[:3])


@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "gpt-realtime-whisper"])
def test_the_client_commits(server: Server, model: str) -> None:
    """Without turn detection, said or implied by the model, one commit is one item."""
    asked = {"turn_detection": None, "transcription": {"model": model}}
    if model != "gpt-4o-transcribe":
        del asked["turn_detection"]
    session = {"type": "transcription", "audio": {"input": asked}}
    events = _converse(server, session, _audio(SPOKEN), last=lambda connection: connection.input_audio_buffer.commit())

    assert "input_audio_buffer.speech_started" not in {event.type for event in events}
    assert _wrong(events[-1].transcript) <= 0.1


def test_semantic_vad(server: Server) -> None:
    """It is a longer silence."""
    events = _converse(server, _session(turn_detection={"type": "semantic_vad", "eagerness": "high"}), _audio(SPOKEN))
    assert _wrong(events[-1].transcript) <= 0.1


def test_telephone_audio(server: Server) -> None:
    """G.711 mu-law at 8 kHz."""
    events = _converse(server, _session(format={"type": "audio/pcmu"}), _mu_law(_audio(SPOKEN, 8_000)), 8_000)
    assert _wrong(events[-1].transcript) <= 0.25


def test_what_was_cleared_is_not_transcribed(server: Server) -> None:
    """Nor is it an error to commit nothing."""

    async def clear_and_commit(connection: Any) -> None:  # noqa: ANN401 - the package is optional
        await connection.input_audio_buffer.clear()
        await connection.input_audio_buffer.commit()

    events = _converse(server, _session(turn_detection=None), _audio(SPOKEN), last=clear_and_commit)
    assert events[-1].transcript == ""
    assert "input_audio_buffer.cleared" in {event.type for event in events}


AUSTEN = """
and mister john dashwood had then leisure to consider how much there might be prudently in his power to do for them
"""
LEOPARD = "Der hinter diesem Portal liegenden Raum wurde als Leichenhalle genutzt"


@pytest.mark.skipif(not SHARED.exists(), reason="shared speech is not here")
@pytest.mark.parametrize(
    ("file", "text", "most"), [("en_austen_0870.wav", AUSTEN, 0.2), ("de_leopard.wav", LEOPARD, 0.4)]
)
def test_real_speech(server: Server, file: str, text: str, most: float) -> None:
    """Human voices, in two languages."""
    language = file[:2]
    asked = _session(transcription={"model": "whisper-1", "language": language}, turn_detection=None)
    events = _converse(
        server, asked, _audio(SHARED / file), last=lambda connection: connection.input_audio_buffer.commit()
    )
    assert _wrong(events[-1].transcript, text, language) <= most


def test_a_client_secret(server: Server) -> None:
    """Made with the key, it opens a session in its place."""
    with openai.OpenAI(base_url=f"{server.http}/v1", api_key=KEY) as client:
        secret = client.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60}, session=_session(turn_detection=None)
        )
    events = _converse(
        server,
        {"type": "transcription"},
        _audio(SPOKEN),
        key=secret.value,
        last=lambda connection: connection.input_audio_buffer.commit(),
    )

    assert secret.value.startswith("ek_")
    assert secret.expires_at > time.time()
    assert _wrong(events[-1].transcript) <= 0.1


@pytest.mark.filterwarnings("ignore:connect\\(\\) must be used")  # how the client uses its WebSocket library
def test_synchronously(server: Server) -> None:
    """The client that blocks."""
    events: list[Any] = []
    with (
        openai.OpenAI(base_url=f"{server.http}/v1", api_key=KEY) as client,
        client.realtime.connect(
            extra_query={"intent": "transcription"}, websocket_connection_options=PATIENT
        ) as connection,
    ):
        connection.session.update(session=_session())

        def speak() -> None:
            for piece in _pieces(_audio(SPOKEN), 48_000):
                connection.input_audio_buffer.append(audio=piece)
                time.sleep(0.05 / SPEED)

        speaker = threading.Thread(target=speak)
        speaker.start()
        for event in connection:
            events.append(event)
            if event.type in ("error", COMPLETED):
                break
        speaker.join()
    assert _wrong(events[-1].transcript) <= 0.1


def test_an_update_that_cannot_be_used(server: Server) -> None:
    """The client gets an error event with the parameter."""
    events = _converse(server, _session(transcription={"language": "tlh"}), b"")
    assert (events[-1].type, events[-1].error.param) == ("error", "language")
