"""Server-sent events while a file is decoded, and OpenAI's paths, on a real server."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from protocol.pcm import to_signal
from tests.audio import REFERENCES, reference, silence, text_of
from tests.http_client import HTTP
from tests.server import Server, eventually


def _wav(pcm: bytes) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, to_signal(np.frombuffer(pcm, "<i2")), 16_000, format="WAV")
    return out.getvalue()


HELLO = (REFERENCES / "hello.wav").read_bytes()


def _events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def _post(server: Server, path: str, content: bytes = HELLO, **data: Any) -> httpx.Response:  # noqa: ANN401 - form fields
    return HTTP.post(f"{server.http}{path}", files={"file": ("a.wav", content)}, data=data)


def test_segments_and_progress_come_as_events(mock_server: Server) -> None:
    """`stream=true`: a segment each, progress every 10 s of audio, and at last the whole answer."""
    pcm = (reference("hello") + silence(1_500)) * 8
    answer = _post(mock_server, "/v1/stt/transcribe", _wav(pcm), stream="true")
    plain = _post(mock_server, "/v1/stt/transcribe", _wav(pcm)).json()
    events = _events(answer.text)
    segments = [event for event in events if event["type"] == "segment"]
    progress = [event["position_ms"] for event in events if event["type"] == "progress"]

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-connection-id"]
    assert [segment["text"] for segment in segments] == [text_of("hello")] * 8
    assert segments == [{"type": "segment", **segment} for segment in plain["segments"]]
    assert progress == sorted(progress)
    assert len(progress) == len(pcm) // 32 // 10_000
    assert events[-1] | {"type": None, "latency_ms": 0} == plain | {"type": None, "latency_ms": 0}


def test_one_channel_is_not_split(mock_server: Server) -> None:
    """Segments of a mono file have no channel, neither while it is decoded nor at the end."""
    answer = _post(mock_server, "/v1/stt/transcribe", HELLO, stream="true", channel_mode="split")
    events = _events(answer.text)
    segments = [event for event in events if event["type"] == "segment"] + events[-1]["segments"]

    assert len(segments) == 2
    assert not any("channel" in segment for segment in segments)


def test_events_come_while_the_file_is_decoded(folder: Path) -> None:
    """The first segment is there though the last one never will be."""
    pcm = (reference("hello") + silence(1_500)) * 200
    with Server.with_fault(folder, "one_final", {"STT_HTTP_CONCURRENCY": "1"}) as server:
        url = f"{server.http}/v1/audio/transcriptions"
        files = {"file": ("a.wav", _wav(pcm))}
        with HTTP.stream("POST", url, files=files, data={"stream": "true"}) as answer:
            # Kept: without its iterator the answer is closed. A comment comes first where a segment takes over 10 s.
            events = (event for line in answer.iter_lines() for event in _events(line))
            first = next(events)
            in_work = server.metric("stt_http_requests_in_progress")
        # The client left in the middle: the work ends, and its place is free.
        eventually(lambda: server.metric("stt_http_requests_in_progress") == 0)
        done = server.metric('stt_http_requests_total{status="200"}')

    assert first == {"type": "transcript.text.delta", "delta": text_of("hello")}
    assert in_work == 1
    assert done == 1


def test_a_client_that_does_not_read_its_events_is_given_up(folder: Path) -> None:
    """The work ends, and the log says why in one line."""
    settings = {"STT_SEND_TIMEOUT_SECONDS": "0.5", "STT_HTTP_CONCURRENCY": "1"}
    with Server.with_fault(folder, "wordy", settings) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.connect(("127.0.0.1", server.port))
        request = httpx.Request("POST", f"{server.http}/v1/stt/transcribe?stream=true", files={"file": HELLO})
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        client.sendall(f"POST /v1/stt/transcribe?stream=true HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        ends = {"transcription_abandoned", "transcription_failed", "transcription_refused"}
        lines = eventually(lambda: [line for line in server.log() if line["event"] in ends])
        eventually(lambda: server.metric("stt_http_requests_in_progress") == 0)

    assert [(line["event"], line["reason"]) for line in lines] == [
        ("transcription_abandoned", "the client does not read")
    ]
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("path", ["/v1/stt/transcribe", "/v1/audio/transcriptions"])
def test_what_is_no_audio_has_a_status_of_its_own(mock_server: Server, path: str) -> None:
    """A refusal before the first event is no event."""
    refused = _post(mock_server, path, b"no sound", stream="true")
    assert refused.status_code == (422 if "stt" in path else 400)
    assert "is not audio" in refused.text


def test_a_failure_after_the_first_event_is_an_event(folder: Path) -> None:
    """The file's process dies behind the first segment: the last event says so, in each dialect's words."""
    broken = _wav((reference("hello") + silence(1_500)) * 4)
    with Server(folder, {"STT_BACKEND": "mock", "STT_MAX_AUDIO_SECONDS": "8"}) as server:
        native = _events(_post(server, "/v1/stt/transcribe", broken, stream="true").text)
        openai = _events(_post(server, "/v1/audio/transcriptions", broken, stream="true").text)

    assert [event["type"] for event in native][-1] == "error"
    assert native[-1]["code"] == 413
    assert native[0]["type"] == "segment"
    assert openai[-1]["error"]["code"] == "payload_too_large"


def test_silence_streams_an_empty_text(mock_server: Server) -> None:
    """Nothing said is no failure."""
    (done,) = _events(_post(mock_server, "/v1/audio/transcriptions", _wav(silence(500)), stream="true").text)
    assert (done["type"], done["text"]) == ("transcript.text.done", "")


def test_openais_answer_and_headers(mock_server: Server) -> None:
    """The transcript, `x-request-id`, and an error with its parameter."""
    answer = _post(mock_server, "/v1/audio/transcriptions", model="anything")
    refused = _post(mock_server, "/v1/audio/transcriptions", model="anything", response_format="diarized_json")
    no_file = HTTP.post(f"{mock_server.http}/v1/audio/transcriptions", data={"model": "x"})
    translation = _post(mock_server, "/v1/audio/translations", model="whisper-1")

    assert answer.json()["text"] == text_of("hello")
    assert answer.headers["x-request-id"] == answer.headers["x-connection-id"]
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "response_format")
    assert refused.headers["x-request-id"]
    assert (no_file.status_code, no_file.json()["error"]["type"]) == (400, "invalid_request_error")
    assert (translation.status_code, "does not translate" in translation.text) == (400, True)


def test_models(mock_server: Server) -> None:
    """The engine and its aliases; an unknown one is 404 in OpenAI's form, and so is an unknown path."""
    listed = HTTP.get(f"{mock_server.http}/v1/models").json()
    ids = [each["id"] for each in listed["data"]]
    unknown = HTTP.get(f"{mock_server.http}/v1/models/nope")

    assert listed["object"] == "list"
    assert ids[0] == "mock"
    assert "whisper-1" in ids
    assert HTTP.get(f"{mock_server.http}/v1/models/{ids[1]}").json() == listed["data"][1]
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    for path in ("/v1/audio/speech", "/v1/models/a/b"):
        missing = HTTP.get(f"{mock_server.http}{path}")
        assert (missing.status_code, missing.json()["error"]["type"]) == (404, "invalid_request_error")
        assert missing.headers["x-request-id"]
