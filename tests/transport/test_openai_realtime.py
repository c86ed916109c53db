"""OpenAI's Realtime dialect on a real server with the mock engine."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import soxr
from websockets.sync.client import ClientConnection

from tests.audio import reference, silence, text_of
from tests.client import connect
from tests.http_client import HTTP
from tests.server import Server

COMPLETED = "conversation.item.input_audio_transcription.completed"
NULL_TURNS = {"audio": {"input": {"turn_detection": None}}}


def _at_24_khz(pcm: bytes) -> bytes:
    samples: Any = soxr.resample(np.frombuffer(pcm, "<i2"), 16_000, 24_000)
    return bytes(samples.astype("<i2").tobytes())


HELLO = _at_24_khz(reference("hello") + silence(1_000))


class Client:
    """Sends and reads events; every wait is bounded."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    def send(self, kind: str, **fields: object) -> None:
        self._socket.send(json.dumps({"type": kind, **fields}))

    def speak(self, audio: bytes, chunk: int = 2_400) -> None:
        for first in range(0, len(audio), chunk):
            self.send("input_audio_buffer.append", audio=base64.b64encode(audio[first : first + chunk]).decode())

    def until(self, kind: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        while not events or events[-1]["type"] != kind:
            events.append(json.loads(self._socket.recv()))
        return events


@contextmanager
def _session(server: Server, path: str = "/v1/realtime?intent=transcription", **options: Any) -> Iterator[Client]:  # noqa: ANN401 - websockets' own
    with connect(f"ws://127.0.0.1:{server.port}{path}", max_size=None, **options) as socket:
        client = Client(socket)
        client.until("session.created")
        yield client


def _kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events if not event["type"].endswith(".delta")]


def test_a_turn_with_server_vad(mock_server: Server) -> None:
    """Its events in OpenAI's order, and the words of the recording."""
    with _session(mock_server) as client:
        client.send("session.update", session={"type": "transcription"})
        client.speak(HELLO)
        events = client.until(COMPLETED)

    assert _kinds(events) == [
        "session.updated",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        COMPLETED,
    ]
    assert events[-1]["transcript"] == text_of("hello")
    deltas = [event["delta"] for event in events if event["type"].endswith(".delta")]
    assert "".join(deltas) == text_of("hello")


def test_a_long_message_is_one_of_many(mock_server: Server) -> None:
    """A minute of audio in one message of 3.8 MB, without turn detection: one item."""
    minute = HELLO + bytes(60 * 48_000 - 2 * len(HELLO)) + HELLO
    with _session(mock_server) as client:
        client.send("session.update", session=NULL_TURNS)
        client.speak(minute, len(minute))
        client.send("input_audio_buffer.commit")
        events = client.until(COMPLETED)

    assert events[-1]["transcript"] == f"{text_of('hello')} {text_of('hello')}"
    assert _kinds(events) == [
        "session.updated",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        COMPLETED,
    ]


@pytest.mark.parametrize("session", [NULL_TURNS, {}], ids=["null", "server_vad"])
def test_commits_without_audio_are_completed_at_once(mock_server: Server, session: dict[str, Any]) -> None:
    """Two of them, and a clear, one after another: two empty items."""
    with _session(mock_server) as client:
        client.send("session.update", session=session)
        client.send("input_audio_buffer.commit")
        client.send("input_audio_buffer.clear")
        client.send("input_audio_buffer.commit")
        events = [*client.until(COMPLETED), *client.until(COMPLETED)]

    assert [event["transcript"] for event in events if event["type"] == COMPLETED] == ["", ""]
    assert _kinds(events).count("input_audio_buffer.cleared") == 1


def test_a_socket_serves_one_stream_after_another(mock_server: Server) -> None:
    """The next update drops what the last stream left uncommitted."""
    with _session(mock_server) as client:
        client.send("session.update", session=NULL_TURNS)
        client.speak(HELLO)
        client.send("session.update", session=NULL_TURNS)
        client.speak(_at_24_khz(reference("weather")))
        client.send("input_audio_buffer.commit")
        events = client.until(COMPLETED)
    assert events[-1]["transcript"] == text_of("weather")


def test_noise_that_is_no_speech_is_completed(mock_server: Server) -> None:
    """Whatever was committed is completed, so that no client waits for ever."""
    with _session(mock_server) as client:
        client.speak(_at_24_khz(silence(200)))
        client.send("input_audio_buffer.commit")
        assert client.until(COMPLETED)[-1]["transcript"] == ""


def test_a_threshold_in_mid_session(mock_server: Server) -> None:
    """1.0 is twice the server's own: what was speech no longer is, and then is again."""
    loud = {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 1.0}}}}
    quiet = (np.frombuffer(HELLO, "<i2") // 8).astype("<i2").tobytes()
    with _session(mock_server) as client:
        client.send("session.update", session=loud)
        client.speak(quiet)
        client.send("input_audio_buffer.clear")
        too_quiet = _kinds(client.until("input_audio_buffer.cleared"))
        client.send("session.update", session={"audio": {"input": {"turn_detection": {"threshold": 0.1}}}})
        client.speak(quiet)
        client.until("input_audio_buffer.speech_started")
    assert "input_audio_buffer.speech_started" not in too_quiet


def test_a_client_secret_opens_its_session(mock_server: Server) -> None:
    """The browser that holds it offers it as a subprotocol, and gets the session that it was made for."""
    url = f"{mock_server.http}/v1/realtime/client_secrets"
    body = {
        "expires_after": {"anchor": "created_at", "seconds": 60},
        "session": {"type": "transcription", **NULL_TURNS},
    }
    secret = HTTP.post(url, json=body).json()
    subprotocols = ["realtime", f"openai-insecure-api-key.{secret['value']}"]
    with connect(f"ws://127.0.0.1:{mock_server.port}/v1/realtime", subprotocols=subprotocols) as socket:
        created = json.loads(socket.recv())
        chosen = socket.subprotocol

    assert secret["value"].startswith("ek_")
    assert secret["session"]["audio"]["input"]["turn_detection"] is None
    assert created["session"]["audio"]["input"]["turn_detection"] is None
    assert chosen == "realtime"
    for wrong in ({"expires_after": {"seconds": 5}}, {"session": {"audio": {"input": {"format": {"type": "x"}}}}}):
        refused = HTTP.post(url, json=wrong)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")
    for text in (b"[", b"[]", b'{"session": {"foo": 1e400}}', b'{"session": {"foo": "\\ud800"}}', b"\xff"):
        refused = HTTP.post(url, content=text)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")
