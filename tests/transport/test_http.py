"""Files over HTTP, against a real server with the mock backend."""

from __future__ import annotations

import io
import socket
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from protocol.pcm import to_signal
from tests.audio import REFERENCES, reference, silence, text_of
from tests.server import Server, eventually

SENTENCES = sorted(path.stem for path in REFERENCES.glob("*.wav"))


def _post(server: Server, content: bytes, query: str = "", name: str = "a.wav") -> httpx.Response:
    return httpx.post(f"{server.http}/v1/stt/transcribe{query}", files={"file": (name, content)}, timeout=30)


def _wav(name: str = "hello") -> bytes:
    return (REFERENCES / f"{name}.wav").read_bytes()


def _encoded(pcm: bytes, container: str = "WAV", subtype: str | None = None) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, to_signal(np.frombuffer(pcm, "<i2")), 16_000, format=container, subtype=subtype)
    return out.getvalue()


@pytest.mark.parametrize("name", SENTENCES)
def test_every_reference_is_read(mock_server: Server, name: str) -> None:
    """Text, duration, latency, language and segments of a recording."""
    answer = _post(mock_server, _wav(name)).json()

    assert answer["text"] == text_of(name)
    assert answer["duration_ms"] == pytest.approx(len(reference(name)) / 32, abs=1)
    assert answer["latency_ms"] >= 0
    assert answer["language"] == "en"
    assert " ".join(segment["text"] for segment in answer["segments"]) == answer["text"]
    edges = [segment[edge] for segment in answer["segments"] for edge in ("start_ms", "end_ms")]
    assert edges == sorted(edges)
    assert len(answer["segments"]) == len((REFERENCES / f"{name}.txt").read_text().splitlines())


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_32"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAV", "PCM_24"),
        ("FLAC", None),
        ("OGG", "VORBIS"),
        ("MP3", None),
    ],
)
def test_every_format_is_read(mock_server: Server, container: str, subtype: str | None) -> None:
    """The same recording in another format says the same."""
    assert _post(mock_server, _encoded(reference("weather"), container, subtype)).json()["text"] == text_of("weather")


def test_http_and_websocket_cut_at_the_same_places(mock_server: Server) -> None:
    """Segments have the times that finals have."""
    answer = _post(mock_server, _encoded(silence(300) + reference("pauses_meeting") + silence(900))).json()

    assert [segment["text"] for segment in answer["segments"]] == [
        *(REFERENCES / "pauses_meeting.txt").read_text().splitlines()
    ]
    assert answer["segments"][0]["start_ms"] == 400


def test_the_language_goes_by_its_primary_subtag(mock_server: Server) -> None:
    """`language=zh-CN` is taken by an engine for any language, and a malformed tag is refused."""
    assert _post(mock_server, _wav(), "?language=zh-CN").json()["language"] == "zh"
    refused = _post(mock_server, _wav(), "?language=!")
    assert refused.status_code == 422
    assert refused.json()["message"].startswith("language: must be auto")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not audio"),
        (b"hello, this is text and not sound at all", "is not audio"),
        (_wav()[:20_000], "is truncated"),
        (b"RIFF", "is"),
    ],
)
def test_what_is_not_audio_is_refused_with_the_reason(mock_server: Server, content: bytes, reason: str) -> None:
    """422 says what the file is or is not."""
    refused = _post(mock_server, content)

    assert refused.status_code == 422
    assert reason in refused.json()["message"]


def test_an_empty_recording_has_an_empty_text(mock_server: Server) -> None:
    """No samples, or nothing but silence: no segments."""
    for pcm in (b"", silence(2_000)):
        answer = _post(mock_server, _encoded(pcm)).json()
        assert (answer["text"], answer["segments"], answer["duration_ms"]) == ("", [], len(pcm) // 32)


@pytest.mark.parametrize(
    "request_",
    [
        {"content": b"not a form", "headers": {"content-type": "text/plain"}},
        {"content": b"--x\r\ngarbage", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {"content": b"", "headers": {"content-type": "multipart/form-data"}},
        {"data": {"file": "no file but a field"}},
        {"files": {"other": b"RIFF"}},
    ],
)
def test_a_body_without_a_file_is_refused(mock_server: Server, request_: dict[str, object]) -> None:
    """422 says what the body must be."""
    refused = httpx.post(f"{mock_server.http}/v1/stt/transcribe", **request_)  # type: ignore[arg-type]

    assert refused.status_code == 422
    assert "multipart/form-data" in refused.json()["message"]


def test_limits_of_size_and_length(folder: Path) -> None:
    """413 over STT_MAX_UPLOAD_BYTES, declared or only streamed, and over STT_MAX_AUDIO_SECONDS."""
    limits = {"STT_BACKEND": "mock", "STT_MAX_UPLOAD_BYTES": "200000", "STT_MAX_AUDIO_SECONDS": "3"}
    with Server(folder, limits) as server:
        assert _post(server, _wav()).status_code == 200
        declared = _post(server, bytes(300_000))
        streamed = _stream(server, chunks=300)
        long = _post(server, _wav("weather"))

    assert declared.status_code == long.status_code == 413
    assert "200000 bytes" in declared.json()["message"]
    assert "longer than 3 s" in long.json()["message"]
    assert b" 413 " in streamed.splitlines()[0]


def _stream(server: Server, chunks: int) -> bytes:
    """Upload 1 KB chunks without a Content-Length; the answer's bytes, read as soon as they come."""
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.settimeout(10)
        raw.sendall(
            b"POST /v1/stt/transcribe HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        try:
            for piece in [head, *[bytes(1024)] * chunks]:
                raw.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        except ConnectionError:
            pass  # the server has answered and closed
        return raw.recv(65536)


def test_beyond_the_limit_requests_are_told_when_to_come_back(folder: Path) -> None:
    """503 with Retry-After while STT_HTTP_CONCURRENCY requests run; then there is room again."""
    with Server.with_fault(folder, "stuck", {"STT_HTTP_CONCURRENCY": "1"}) as server:
        answers: list[httpx.Response] = []
        first = threading.Thread(target=lambda: answers.append(_post(server, _wav())))
        first.start()
        eventually(lambda: server.metric("stt_http_requests_in_progress") == 1)
        refused = _post(server, _wav())
        server.release()
        first.join(20)
        again = _post(server, _wav())

    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert answers[0].status_code == again.status_code == 200


def test_the_work_of_a_client_that_left_stops(folder: Path) -> None:
    """A disconnected client's place is free again though its final never came."""
    with Server.with_fault(folder, "stuck", {"STT_HTTP_CONCURRENCY": "1"}) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.http}/v1/stt/transcribe", files={"file": _wav()}, timeout=0.5)
        eventually(lambda: server.metric("stt_http_requests_in_progress") == 0)
        assert server.metric('stt_http_requests_total{status="499"}') == 1


def test_health_and_schema(mock_server: Server) -> None:
    """/health names the backend; the API describes itself."""
    health = httpx.get(f"{mock_server.http}/health")
    schema = httpx.get(f"{mock_server.http}/openapi.json").json()

    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    assert health.json()["backend"] == "mock"
    assert set(schema["paths"]) == {"/v1/stt/transcribe", "/health", "/health/ready", "/health/live", "/metrics"}
    assert httpx.get(f"{mock_server.http}/metrics").headers["content-type"].startswith("text/plain")
