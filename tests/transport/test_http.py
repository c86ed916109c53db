"""Files over HTTP, against a real server with the mock backend."""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from protocol.pcm import to_signal
from tests.audio import REFERENCES, reference, silence, text_of
from tests.http_client import HTTP
from tests.patience import PATIENCE_SECONDS
from tests.processes import runs
from tests.server import Server, eventually

SENTENCES = sorted(path.stem for path in REFERENCES.glob("*.wav"))


def _post(server: Server, content: bytes, query: str = "", name: str = "a.wav") -> httpx.Response:
    return HTTP.post(f"{server.http}/v1/stt/transcribe{query}", files={"file": (name, content)})


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
    assert answer["segments"][0]["start_ms"] == 420


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
        (_encoded(b""), "holds no audio"),
        (b"RIFF", "is"),
    ],
)
def test_what_is_not_audio_is_refused_with_the_reason(mock_server: Server, content: bytes, reason: str) -> None:
    """422 says what the file is or is not."""
    refused = _post(mock_server, content)

    assert refused.status_code == 422
    assert reason in refused.json()["message"]


def test_silence_is_said_to_be_silence(mock_server: Server) -> None:
    """A file in which nothing was loud enough: empty text, and a warning that says how loud it was."""
    pcm = np.resize(np.array([100, -100], "<i2"), 32_000).tobytes()
    answer = _post(mock_server, _encoded(pcm)).json()
    assert (answer["text"], answer["segments"], answer["duration_ms"]) == ("", [], 2_000)
    (warning,) = answer["warnings"]
    assert warning["code"] == "no_speech"
    assert "RMS of 100 of 32768, and only 300 counts as voice" in warning["message"]


def test_a_quiet_file_is_reported_with_the_threshold(mock_server: Server) -> None:
    """The warning of a quiet file names the threshold that was in effect."""
    quiet = np.frombuffer(reference("weather"), "<i2") // 32
    content = _encoded(quiet.astype("<i2").tobytes())
    (warning,) = _post(mock_server, content, "?vad_threshold=200").json()["warnings"]
    assert "only 200 counts as voice" in warning["message"]


def test_a_file_that_ends_early_is_transcribed(mock_server: Server) -> None:
    """200, the words that could be had, and a warning with both lengths."""
    answer = _post(mock_server, _wav("pauses_meeting")[:-30_000]).json()
    assert answer["text"]
    (warning,) = answer["warnings"]
    assert warning["code"] == "truncated"
    assert warning["message"].startswith("the file ends early: ")


def test_split_channels(mock_server: Server) -> None:
    """`channel_mode=split` gives each channel its own segments."""
    said = np.frombuffer(reference("weather"), "<i2")
    both = np.stack((said, np.zeros_like(said)), axis=1)
    out = io.BytesIO()
    soundfile.write(out, both, 16_000, format="WAV")
    split = _post(mock_server, out.getvalue(), "?channel_mode=split").json()
    right = _post(mock_server, out.getvalue(), "?channel_mode=right").json()
    mixed = _post(mock_server, out.getvalue()).json()
    assert {segment["channel"] for segment in split["segments"]} == {0}
    assert split["text"] == mixed["text"] == text_of("weather")
    assert right["text"] == ""
    assert all("channel" not in segment for segment in mixed["segments"])


@pytest.mark.parametrize("as_form", [True, False])
def test_options_in_query_and_form(mock_server: Server, as_form: bool) -> None:
    """Options work as query parameters and as form fields alike."""

    def ask(**options: str) -> httpx.Response:
        where = {"data": options} if as_form else {"params": options}
        return HTTP.post(f"{mock_server.http}/v1/stt/transcribe", files={"file": _wav()}, **where)  # type: ignore[arg-type]

    assert ask(vad_threshold="32000").json()["text"] == ""
    assert ask(vad_silence_ms="5000", hotwords="a,b", words="true").json()["text"] == text_of("hello")
    assert ask(language="zh-CN").json()["language"] == "zh"
    wrong = {"language": "!", "vad_threshold": "-1", "vad_silence_ms": "1", "hotwords": "a," * 101, "words": "maybe"}
    for name, value in wrong.items():
        refused = ask(**{name: value})
        assert (refused.status_code, refused.json()["message"].split(":")[0]) == (422, name)


def test_an_unknown_form_field_is_named(mock_server: Server) -> None:
    """A misspelt field of the form is not ignored."""
    refused = HTTP.post(f"{mock_server.http}/v1/stt/transcribe", files={"file": _wav()}, data={"vad_treshold": "1"})
    assert refused.status_code == 422
    assert refused.json()["message"].startswith("vad_treshold: ")


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
    refused = HTTP.post(f"{mock_server.http}/v1/stt/transcribe", **request_)  # type: ignore[arg-type]

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
        raw.settimeout(PATIENCE_SECONDS)
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


def test_beyond_the_limit_requests_learn_when_to_come_back(folder: Path) -> None:
    """503 with Retry-After while STT_HTTP_UPLOADS uploads are open; then there is room again."""
    with Server.with_fault(folder, "stuck", {"STT_HTTP_UPLOADS": "1"}) as server:
        answers: list[httpx.Response] = []
        first = threading.Thread(target=lambda: answers.append(_post(server, _wav())))
        first.start()
        eventually(lambda: server.metric("stt_http_requests_in_progress") == 1)
        refused = _post(server, _wav())
        server.release()
        first.join()
        again = _post(server, _wav())

    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert answers[0].status_code == again.status_code == 200


def test_what_all_uploads_take_together_has_a_bound(folder: Path) -> None:
    """Bytes that came count, not places: beyond them 503, declared or not, until the other upload is over."""
    settings = {"STT_BACKEND": "mock", "STT_MAX_UPLOAD_BYTES": "200000", "STT_HTTP_UPLOAD_BYTES": "250000"}
    with Server(folder, settings) as server, socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"POST /v1/stt/transcribe HTTP/1.1\r\nHost: x\r\nContent-Length: 190000\r\n")
        slow.sendall(b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")
        eventually(lambda: server.metric("stt_http_requests_in_progress") == 1)
        assert _post(server, _wav()).status_code == 200, "what is only declared takes nothing"
        slow.sendall(b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + bytes(180_000))
        refused = eventually(lambda: (answer := _post(server, _wav())).status_code == 503 and answer)
        streamed = _stream(server, chunks=100)
        slow.close()
        eventually(lambda: server.metric("stt_http_requests_in_progress") == 0)
        again = _post(server, _wav())
        counted = server.metric('stt_refusals_total{protocol="http",reason="full"}')

    assert refused.json()["message"].startswith("full: uploads of ")
    assert int(refused.headers["Retry-After"]) > 0
    assert b" 503 " in streamed.splitlines()[0]
    assert again.status_code == 200
    assert counted == 2


def test_the_work_of_a_client_that_left_stops(folder: Path) -> None:
    """A disconnected client's place is free again though its final never came."""
    with Server.with_fault(folder, "stuck", {"STT_HTTP_CONCURRENCY": "1"}) as server:
        with pytest.raises(httpx.ReadTimeout):
            HTTP.post(f"{server.http}/v1/stt/transcribe", files={"file": _wav()}, timeout=0.5)
        eventually(lambda: server.metric("stt_http_requests_in_progress") == 0)
        assert server.metric('stt_http_requests_total{status="499"}') == 1


def test_health_and_schema(mock_server: Server) -> None:
    """/health names the backend; the API describes itself."""
    health = HTTP.get(f"{mock_server.http}/health")
    schema = HTTP.get(f"{mock_server.http}/openapi.json").json()

    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    assert health.json()["backend"] == "mock"
    ours = {"/v1/stt/transcribe", "/v1/stt/token", "/health", "/health/ready", "/health/live", "/metrics"}
    assert ours <= set(schema["paths"])
    assert HTTP.get(f"{mock_server.http}/metrics").headers["content-type"].startswith("text/plain")


def test_a_slow_upload_holds_no_place(folder: Path) -> None:
    """While one client still sends its file, another's is transcribed, with one transcription at once."""
    settings = {"STT_BACKEND": "mock", "STT_HTTP_CONCURRENCY": "1"}
    with Server(folder, settings) as server, socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"POST /v1/stt/transcribe HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n")
        slow.sendall(b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")
        eventually(lambda: server.metric("stt_http_requests_in_progress") == 1)
        assert _post(server, _wav()).status_code == 200


def test_a_crash_of_the_decoder_is_the_file_s_alone(folder: Path) -> None:
    """A decoding process that dies answers 422, and the next file gets another process."""
    pcm = (reference("hello") + silence(1_000)) * 100
    with Server.with_fault(folder, "stuck") as server:
        answers: list[httpx.Response] = []
        upload = threading.Thread(target=lambda: answers.append(_post(server, _encoded(pcm))))
        upload.start()
        (process,) = eventually(server.processes)
        eventually(lambda: server.metric("stt_http_requests_in_progress") == 1)
        os.kill(process, signal.SIGKILL)
        server.release()
        upload.join()
        again = _post(server, _wav())
        assert server.answers() == 200
    assert (answers[0].status_code, again.status_code) == (422, 200)
    assert answers[0].json()["message"] == "the file could not be decoded"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_decoding_processes_end_with_the_server(folder: Path, number: signal.Signals) -> None:
    """However the server ends, no process of it stays."""
    with Server(folder, {"STT_BACKEND": "mock"}) as server:
        assert server.processes() == set()
        assert _post(server, _wav()).status_code == 200
        (process,) = server.processes()
        server.signal(number)
        server.ended()
        eventually(lambda: not runs(process))
