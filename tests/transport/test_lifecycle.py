"""Starting, refusing, failing and stopping: real processes, real signals, and faults on demand."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import structlog
from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed

from app import create_app
from tests.audio import REFERENCES, reference, silence, text_of
from tests.client import Client, client_that_never_reads, conversation, refused, session
from tests.http_client import HTTP
from tests.patience import PATIENCE_SECONDS
from tests.server import ROOT, Server, eventually
from tests.weights import settings_of
from transport.admission import Admission


def _utterance() -> bytes:
    return reference("hello") + silence(700)


@pytest.mark.parametrize("script", [False, True], ids=["uvicorn app:app", "python app.py"])
def test_sigterm_gives_speakers_their_last_words(folder: Path, script: bool) -> None:
    """Eight speakers in mid-speech get their finals, then error and close 1012, and the process ends."""
    with Server(folder, {"STT_BACKEND": "mock"}, script=script) as server:
        clients = [conversation(server.ws(call_id=f"speaker-{number}")) for number in range(8)]
        speakers = [client.__enter__() for client in clients]
        for speaker in speakers:
            speaker.receive()
            speaker.command("configure", endpointing=False)  # else the utterance ends where no audio comes
            speaker.send(reference("hello")[:48_000], 3200)
        for speaker in speakers:
            speaker.until("partial")
        server.signal(signal.SIGTERM)
        endings = [speaker.rest() for speaker in speakers]
        for client in clients:
            client.__exit__(None, None, None)
        server.ended()

    for messages, code in endings:
        *_, final, error = messages
        assert final["type"] == "final"
        assert final["reason"] == "drain"
        assert final["text"]
        assert text_of("hello").startswith(final["text"])
        assert 1300 < final["end_ms"] <= 1500
        assert error["code"] == code == 1012
    assert server.process.returncode == (0 if script else -signal.SIGTERM)


def test_during_the_drain_nothing_is_admitted_and_finals_are_awaited(folder: Path) -> None:
    """While a final is decoded, handshakes and uploads get 503; the final is sent when it comes."""
    with Server.with_fault(folder, "stuck") as server, session(server.ws()) as speaker:
        speaker.send(_utterance(), 3200)
        eventually(lambda: server.metric("stt_in_queue_messages") == 0)
        server.signal(signal.SIGTERM)
        eventually(lambda: HTTP.get(f"{server.http}/health").json()["status"] == "draining")
        health = HTTP.get(f"{server.http}/health")
        upload = HTTP.post(f"{server.http}/v1/stt/transcribe", files={"file": b"RIFF"})
        late = refused(server.ws())
        server.release()
        messages, end = speaker.rest()
        server.ended()

    assert health.status_code == upload.status_code == 503
    assert "Retry-After" in upload.headers
    assert (late.status_code, late.headers["Retry-After"]) == (503, upload.headers["Retry-After"])
    assert [message["type"] for message in messages] == ["partial", "final", "error"]
    assert end == 1012


def test_a_session_that_finishes_during_the_drain_is_closed_as_finished(folder: Path) -> None:
    """The client asked for its end before the server did: it must not connect again."""
    with Server.with_fault(folder, "stuck") as server, session(server.ws(events="speech")) as speaker:
        speaker.send(reference("hello"), 3200)
        speaker.until("partial")
        speaker.command("finish")
        speaker.until("speech_stopped")
        server.signal(signal.SIGTERM)
        eventually(lambda: HTTP.get(f"{server.http}/health").json()["status"] == "draining")
        server.release()
        messages, code = speaker.rest()
        server.ended()

    assert [(message["type"], message.get("reason")) for message in messages] == [
        ("final", "finish"),
        ("finished", None),
    ]
    assert code == 1000


def test_what_a_drain_cuts_short_is_answered(folder: Path) -> None:
    """Finals that do not come are sent as the newest partial, a request gets 503, and the process ends."""
    with Server.with_fault(folder, "stuck", {"STT_DRAIN_SECONDS": "2"}) as server, session(server.ws()) as speaker:
        speaker.send(_utterance() + reference("hello"), 3200)
        speaker.until("partial")
        eventually(lambda: server.metric("stt_in_queue_messages") == 0)
        answers: list[int] = []
        upload = threading.Thread(target=_post_hello, args=(server, answers))
        upload.start()
        eventually(lambda: server.metric("stt_http_requests_in_progress") == 1)
        server.signal(signal.SIGTERM)
        messages, code = speaker.rest()
        server.ended()
        upload.join()

    *_, first, last, error = messages
    assert (first["type"], first["text"], first["reason"]) == ("final", "so far", "endpoint")
    assert (last["type"], last["reason"]) == ("final", "drain")
    assert error["code"] == code == 1012
    assert answers == [503]


@pytest.mark.parametrize("path", ["/v1/stt/transcribe", "/v1/audio/transcriptions"])
def test_an_upload_that_is_still_on_its_way_when_the_drain_ends_is_answered(folder: Path, path: str) -> None:
    """With 503, as those that are decoded; the process ends cleanly and logs no exception."""
    part = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + bytes(100_000)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n"
    head += "Content-Type: multipart/form-data; boundary=B\r\n\r\n"
    with (
        Server(folder, {"STT_BACKEND": "mock", "STT_DRAIN_SECONDS": "1"}, script=True) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS) as client,
    ):
        client.sendall(head.encode() + part)
        eventually(lambda: server.metric("stt_http_requests_in_progress") == 1)
        server.signal(signal.SIGTERM)
        answer = client.recv(1000)
        status = server.ended()

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert status == 0
    assert "Traceback" not in server.output()


def build_with_drain_in_the_log() -> FastAPI:
    """The server, with a log line about the seconds that its drain is given."""
    drain = Admission.drain

    async def log_and_drain(admission: Admission, seconds: float) -> None:
        structlog.get_logger().warning("drain_given", seconds=seconds)
        await drain(admission, seconds)

    Admission.drain = log_and_drain  # type: ignore[assignment, method-assign]
    return create_app()


def test_a_drain_may_last_as_long_as_its_setting_says(folder: Path) -> None:
    """What happens in that time is tested in test_admission.py, without waiting."""
    settings = {"STT_BACKEND": "mock", "STT_DRAIN_SECONDS": "1234"}
    module = "tests.transport.test_lifecycle:build_with_drain_in_the_log"
    with Server(folder, settings, module=module) as server:
        server.signal(signal.SIGTERM)
        server.ended()

    assert [line["seconds"] for line in server.log() if line["event"] == "drain_given"] == [1234]


def _post_hello(server: Server, answers: list[int]) -> None:
    wav = (REFERENCES / "hello.wav").read_bytes()
    answers.append(HTTP.post(f"{server.http}/v1/stt/transcribe", files={"file": wav}).status_code)


def test_a_second_signal_ends_at_once(folder: Path) -> None:
    """Whatever the first signal waits for."""
    with Server.with_fault(folder, "stuck", {"STT_DRAIN_SECONDS": "3600"}) as server, session(server.ws()) as speaker:
        speaker.send(_utterance(), 3200)
        eventually(lambda: server.metric("stt_in_queue_messages") == 0)
        server.signal(signal.SIGTERM)
        eventually(lambda: HTTP.get(f"{server.http}/health").json()["status"] == "draining")
        server.signal(signal.SIGTERM)
        server.ended()


def test_a_running_request_may_finish(folder: Path) -> None:
    """An HTTP transcription that runs when the signal comes is answered."""
    with Server.with_fault(folder, "stuck") as server:
        answers: list[int] = []
        request = threading.Thread(target=_post_hello, args=(server, answers))
        request.start()
        eventually(lambda: server.metric("stt_http_requests_in_progress") == 1)
        server.signal(signal.SIGTERM)
        eventually(lambda: HTTP.get(f"{server.http}/health").json()["status"] == "draining")
        server.release()
        request.join()
        server.ended()

    assert answers == [200]


def test_a_stop_without_sessions_waits_for_nothing(folder: Path) -> None:
    """No session is open: the process is gone long before the drain's time is over."""
    with Server(folder, {"STT_BACKEND": "mock", "STT_DRAIN_SECONDS": "3600"}) as server:
        server.signal(signal.SIGINT)
        server.ended()


def test_while_loading_the_server_listens_and_refuses(folder: Path) -> None:
    """/health and handshakes get 503 until the engine is warm; /health/live is 200 throughout."""
    with Server.with_fault(folder, "slow_to_load", wait=False) as server:
        eventually(server.answers)
        health = HTTP.get(f"{server.http}/health")
        live = HTTP.get(f"{server.http}/health/live")
        upload = HTTP.post(f"{server.http}/v1/stt/transcribe", files={"file": b"RIFF"})
        late = refused(server.ws())
        server.release()
        server.wait_ready()

    assert health.status_code == upload.status_code == 503
    assert health.json()["status"] == "loading"
    assert live.status_code == 200
    assert late.status_code == 503


def test_an_engine_that_dies(folder: Path) -> None:
    """/health is 503, every open session gets 1011, one without audio too, and new handshakes get 503."""
    with (
        Server.with_fault(folder, "dying") as server,
        session(server.ws()) as silent,
        session(server.ws()) as speaker,
    ):
        speaker.send(reference("hello")[:48_000], 3200)
        speaker.until("partial")
        server.release()
        eventually(lambda: HTTP.get(f"{server.http}/health").status_code == 503)
        late = refused(server.ws())
        endings = [silent.rest(), speaker.rest()]

    assert late.status_code == 503
    for messages, code in endings:
        assert [message["code"] for message in messages if message["type"] == "error"] == [code] == [1011]


def test_a_first_load_that_fails_ends_the_process(folder: Path) -> None:
    """The log says why."""
    with Server.with_fault(folder, "unloadable", wait=False) as server:
        code = server.ended()

    assert code == 1
    assert any(line["event"] == "engine_failed_to_load" for line in server.log())


def test_an_engine_that_cannot_run_here_is_one_sentence(folder: Path) -> None:
    """What an engine itself says comes without a traceback."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    if ctranslate2.get_cuda_device_count():
        pytest.skip("CUDA is here")
    with Server(folder, settings_of("tiny.en") | {"STT_WHISPER_DEVICE": "cuda"}, wait=False) as server:
        code = server.ended()
    (failure,) = (line for line in server.log() if line["event"] == "engine_failed_to_load")
    assert code == 1
    assert failure["reason"] == "STT_WHISPER_DEVICE=cuda, but no CUDA device is there: set STT_WHISPER_DEVICE=cpu"
    assert "exception" not in failure


@pytest.mark.parametrize("script", [False, True], ids=["uvicorn app:app", "python app.py"])
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "STT_BACKEND=qwen3 needs "),
        ({"STT_BACKEND": "nemo"}, "STT_BACKEND=nemo is not in this version yet: set "),
        ({"STT_BACKEND": "whisper", "STT_WHISPER_MODEL": "/nowhere"}, "STT_WHISPER_MODEL=/nowhere cannot be used: "),
        ({"STT_BACKEND": "parrot"}, "STT_BACKEND=parrot is unknown: set "),
        ({"STT_BACKEND": "mock", "STT_IN_QUEUE_SIZE": "0"}, "STT_IN_QUEUE_SIZE=0 cannot be used: "),
        ({"STT_BACKEND": "mock", "STT_MAX_SESSIONS": "many"}, "STT_MAX_SESSIONS=many cannot be used: "),
        ({"STT_BACKEND": "mock", "STT_HOST": ""}, "STT_HOST= cannot be used: "),
        ({"STT_BACKEND": "mock", "STT_REFERENCES": "/nowhere"}, "STT_REFERENCES=/nowhere cannot be used: there is no"),
        ({"STT_BACKEND": "mock", "STT_REFERENCES": "docs"}, "STT_REFERENCES=docs cannot be used: it has no WAV"),
    ],
)
def test_what_cannot_work_ends_the_start_with_one_plain_sentence(
    folder: Path, settings: dict[str, str], sentence: str, script: bool
) -> None:
    """Before anything listens the process ends non-zero and says what to set; no traceback."""
    with Server(folder, settings, script=script, wait=False) as server:
        code = server.ended()

    assert code != 0
    assert sentence in server.output()
    assert "Traceback" not in server.output()
    assert "running on" not in server.output()


def test_an_engine_that_fails_is_our_fault(folder: Path) -> None:
    """1011 without internals; the log has them, with the connection's id."""
    with Server.with_fault(folder, "failing") as server:
        with session(server.ws(call_id="unlucky")) as client:
            client.send(_utterance(), 3200)
            (*_, error), code = client.rest()
        upload = HTTP.post(f"{server.http}/v1/stt/transcribe", files={"file": (REFERENCES / "hello.wav").read_bytes()})

    assert error["code"] == code == 1011
    assert error["message"] == "internal error"
    assert upload.status_code == 500
    assert upload.json() == {"code": 500, "message": "internal error"}
    assert any(line.get("connection_id") == upload.headers["X-Connection-Id"] for line in server.log())
    failed = [line for line in server.log() if line["event"] == "session_failed"]
    assert failed[0]["call_id"] == "unlucky"
    assert failed[0]["connection_id"] == error["connection_id"]
    assert "secret internals" in failed[0]["exception"]


def test_beyond_the_limit_handshakes_are_refused(folder: Path) -> None:
    """The third of two gets 503, which a proxy can try elsewhere; a place that is left is free again."""
    with Server(folder, {"STT_BACKEND": "mock", "STT_MAX_SESSIONS": "2"}) as server:
        with session(server.ws()), session(server.ws()):
            third = refused(server.ws())
        eventually(lambda: server.metric("stt_sessions") == 0)
        with session(server.ws()) as fourth:
            fourth.commit()
            assert fourth.receive()["type"] == "final"
        counted = server.metric('stt_refused_handshakes_total{status="503"}')

    assert third.status_code == 503
    assert json.loads(third.body) == {"code": 503, "message": "full: 2 of 2 sessions are open"}
    assert third.headers["Retry-After"]
    assert counted == 1


def test_a_late_engine_drops_the_oldest_audio_then_gives_the_client_up(folder: Path) -> None:
    """With two finals stuck nothing is processed: a live client's drops are counted, and too many of them are 1013."""
    queue = {"STT_IN_QUEUE_SECONDS": "3", "STT_IN_QUEUE_MAX_DROPS": "60"}
    with Server.with_fault(folder, "stuck", queue) as server, session(server.ws()) as client:
        _fill_both_places(client, server)
        time.sleep(2)  # the client was ahead of real time: its socket has to be empty for 1 s
        with contextlib.suppress(ConnectionClosed):  # it may be over before all is sent
            client.speak(silence(6000))
        server.release()
        messages, code = client.rest()
        dropped = server.metric("stt_dropped_audio_seconds_total")
        overloads = server.metric("stt_overload_closes_total")

    assert messages[-1]["code"] == code == 1013
    assert overloads == 1
    assert "the engine is late" in messages[-1]["message"]
    assert 1.2 < dropped <= 4
    assert any(line["event"] == "audio_dropped" for line in server.log())


def test_dropped_audio_is_reported_and_counts_and_a_commit_is_never_dropped(folder: Path) -> None:
    """A `warning` has the span, the next final `dropped_ms`; times stay those of the connection's audio."""
    with Server.with_fault(folder, "stuck", {"STT_IN_QUEUE_SECONDS": "3"}) as server, session(server.ws()) as client:
        _fill_both_places(client, server)
        time.sleep(2)  # as above
        sent = 2 * len(_utterance())
        client.commit()
        client.speak(silence(6000), 3200)
        sent += 6000 * 32
        eventually(lambda: server.metric("stt_dropped_audio_seconds_total") > 2)
        client.commit()
        server.release()
        messages = [*client.until("final", reason="commit"), *client.until("final", reason="commit")]

    finals = [message for message in messages if message["type"] == "final"]
    warnings = [message for message in messages if message["type"] == "warning"]
    assert [final["reason"] for final in finals] == ["endpoint", "endpoint", "commit", "commit"]
    assert finals[2]["end_ms"] == 2 * len(_utterance()) // 32
    assert finals[3]["end_ms"] == sent // 32
    assert [warning["code"] for warning in warnings] == ["audio_dropped"]
    assert finals[3]["dropped_ms"] > 2000
    assert f"from {finals[2]['end_ms']} to {finals[2]['end_ms'] + finals[3]['dropped_ms']} ms" in warnings[0]["message"]


def test_a_client_ahead_of_real_time_loses_nothing(folder: Path) -> None:
    """A recording sent unpaced, far more than may wait, is throttled by its socket and comes back whole."""
    pcm = (reference("hello") + silence(700)) * 20
    with Server(folder, {"STT_BACKEND": "mock", "STT_IN_QUEUE_SECONDS": "3"}) as server:
        with session(server.ws()) as client:
            sender = threading.Thread(target=client.send, args=(pcm, 3200))
            sender.start()
            finals = client.finals(20)
            sender.join()
        dropped = server.metric("stt_dropped_audio_seconds_total")

    assert [final["text"] for final in finals] == [text_of("hello")] * 20
    assert dropped == 0


def _fill_both_places(client: Client, server: Server) -> None:
    """Two utterances whose finals do not come, so that the worker stops reading at the second's endpoint."""
    client.send(2 * _utterance(), 3200)
    eventually(lambda: server.metric('stt_audio_seconds_total{source="websocket"}') >= 5.6)


def test_a_client_that_does_not_read_is_cut_off(folder: Path) -> None:
    """Counted as 1008, and its session, thread and socket are gone though it holds its end."""
    with Server.with_fault(folder, "wordy", {"STT_SEND_TIMEOUT_SECONDS": "0.5"}) as server:
        threads, files = server.threads(), server.descriptors()
        with client_that_never_reads(server.ws()) as send:
            for _ in range(3):
                send(_utterance())
            eventually(lambda: server.metric('stt_closes_total{by="server",code="1008"}') == 1)
            eventually(lambda: server.metric("stt_sessions") == 0)
            eventually(lambda: server.threads() <= threads)
            eventually(lambda: server.descriptors() <= files + 1)


def test_importing_the_app_does_nothing() -> None:
    """Not even with settings that cannot work: no output, no thread, no process."""
    look = "import threading, app; print(app.app.title, threading.active_count())"
    imported = subprocess.run(
        [sys.executable, "-W", "error", "-c", look],
        cwd=ROOT,
        env=os.environ | {"STT_PORT": "abc"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (imported.returncode, imported.stdout, imported.stderr) == (0, "realtime-stt-ws 1\n", "")
