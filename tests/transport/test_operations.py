"""What operators and load balancers see: readiness, the drain, errors, refusals, and full disks."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.audio import REFERENCES, reference
from tests.client import refused, session
from tests.http_client import HTTP
from tests.patience import PATIENCE_SECONDS
from tests.server import ROOT, Server, eventually

MOCK = {"STT_BACKEND": "mock"}
PAGE = "https://app.example.com"


def test_load_balancers_see_a_full_server(folder: Path) -> None:
    """/health stays 200, /health/ready is 503 with Retry-After; gauges of sessions and saturation agree."""
    with Server(folder, MOCK | {"STT_MAX_SESSIONS": "1"}) as server:
        before = HTTP.get(f"{server.http}/health/ready")
        with session(server.ws()):
            full = HTTP.get(f"{server.http}/health/ready")
            health = HTTP.get(f"{server.http}/health")
            saturation, most = server.metric("stt_saturation"), server.metric("stt_max_sessions")
            refused(server.ws())
            counted = server.metric('stt_refusals_total{protocol="websocket",reason="full"}')

    assert (before.status_code, before.json()["status"]) == (200, "ready")
    assert (full.status_code, full.json()["status"], health.status_code) == (503, "full", 200)
    assert full.headers["Retry-After"]
    assert (saturation, most, counted) == (1, 1, 1)


def test_a_loading_server_is_not_ready(folder: Path) -> None:
    """Nor is one whose engine died; its rebirth is counted as a restart."""
    with Server.with_fault(folder, "slow_to_load", wait=False) as server:
        eventually(server.answers)
        ready = HTTP.get(f"{server.http}/health/ready")
        server.release()
        server.wait_ready()
    assert (ready.status_code, ready.json()["status"]) == (503, "loading")


def test_engine_restarts_are_counted(folder: Path) -> None:
    """Once the engine is well again after its death."""
    with Server.with_fault(folder, "dying") as server:
        with session(server.ws()) as caller:
            server.release()
            caller.rest()  # the death was noticed
        assert HTTP.get(f"{server.http}/health/ready").json()["status"] == "dead"
        assert refused(server.ws()).status_code == 503
        (folder / "released").unlink()
        eventually(lambda: server.metric("stt_engine_restarts_total") == 1)


def test_calls_go_on_in_the_lame_duck_time(folder: Path) -> None:
    """After SIGTERM nobody new comes in, and a call goes on until its client ends it; the exit status is 0."""
    settings = MOCK | {"STT_LAME_DUCK_SECONDS": "3600"}
    with Server(folder, settings, script=True) as server:
        with session(server.ws()) as caller:
            server.signal(signal.SIGTERM)
            eventually(lambda: HTTP.get(f"{server.http}/health/ready").json()["status"] == "draining")
            late = refused(server.ws())
            caller.send(reference("hello"), 3200)
            caller.commit()
            final = caller.until("final", reason="commit")[-1]
            caller.command("finish")
            _, code = caller.rest()
        status = server.ended()

    assert late.status_code == 503
    assert late.headers["Retry-After"]
    assert final["end_ms"] > 0
    assert (code, status) == (1000, 0)


def test_the_lame_duck_time_ends(folder: Path) -> None:
    """A call that goes on longer gets its last final and 1012."""
    settings = MOCK | {"STT_LAME_DUCK_SECONDS": "0.5"}
    with Server(folder, settings, script=True) as server, session(server.ws()) as caller:
        caller.command("configure", endpointing=False)  # else the utterance ends where no audio comes
        caller.send(reference("hello")[:48_000], 3200)
        caller.until("partial")
        server.signal(signal.SIGTERM)
        (*_, final, error), code = caller.rest()
        status = server.ended()

    assert (final["reason"], error["code"], code, status) == ("drain", 1012, 1012, 0)


def test_the_age_of_the_queue_is_reported(folder: Path) -> None:
    """While two finals are stuck the worker reads nothing, and what waits grows old."""
    utterance = reference("hello") + bytes(32_000)
    with Server.with_fault(folder, "stuck") as server, session(server.ws()) as client:
        for _ in range(3):
            client.send(utterance, 25_600)
        eventually(lambda: server.metric("stt_in_queue_age_seconds") > 0.5)


def _big(server: Server) -> httpx.Response:
    with (REFERENCES / "hello.wav").open("rb") as file:
        content = file.read()
    return HTTP.post(f"{server.http}/v1/stt/transcribe", files={"file": content + bytes(1_500_000)})


def test_without_a_temporary_folder_large_uploads_get_507(folder: Path) -> None:
    """The log says so at the start; small uploads and everything else work."""
    with Server.with_fault(folder, "no_temporary_folder") as server:
        large = _big(server)
        small = HTTP.post(f"{server.http}/v1/stt/transcribe", files={"file": (REFERENCES / "hello.wav").read_bytes()})
        warned = [line["event"] for line in server.log() if line["level"] == "warning"]

    assert large.status_code == 507
    assert "disk" in large.json()["message"]
    assert small.status_code == 200
    assert "uploads_limited" in warned


def test_a_disk_that_fills_up_answers_507(folder: Path) -> None:
    """A fact about the server's disk, not `internal error`."""
    with Server.with_fault(folder, "small_disk") as server:
        assert _big(server).status_code == 507
        assert server.metric('stt_refusals_total{protocol="http",reason="storage"}') == 1


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
def test_head_is_answered(mock_server: Server, path: str) -> None:
    """Uptime checkers send HEAD."""
    answer = HTTP.head(f"{mock_server.http}{path}")
    assert (answer.status_code, answer.content) == (200, b"")


def test_every_error_has_the_documented_body(mock_server: Server) -> None:
    """No such path, not this method, and a WebSocket's path without Upgrade; each has a line in the log."""
    base = mock_server.http
    answers = [
        HTTP.get(f"{base}/nowhere"),
        HTTP.get(f"{base}/v1/stt/transcribe"),
        HTTP.get(f"{base}/v1/stt/ws?call_id=x"),
        HTTP.options(f"{base}/v1/stt/transcribe"),
    ]

    assert [answer.status_code for answer in answers] == [404, 405, 426, 405]
    assert [answer.json()["code"] for answer in answers] == [404, 405, 426, 405]
    assert "/nowhere" in answers[0].json()["message"]
    assert answers[1].headers["Allow"] == "POST"
    assert answers[2].headers["Upgrade"] == "websocket"
    assert "Upgrade" in answers[2].json()["message"]
    logged = {(line["status"], line["path"]) for line in mock_server.log() if line["event"] == "request_refused"}
    assert {(404, "/nowhere"), (426, "/v1/stt/ws")} <= logged


def test_pages_of_allowed_origins_may_read_the_answers(folder: Path) -> None:
    """By CORS headers and preflights; pages of other origins get neither."""
    with Server(folder, MOCK | {"STT_ALLOWED_ORIGINS": PAGE}) as server:
        url = f"{server.http}/v1/stt/transcribe"
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        files = {"file": (REFERENCES / "hello.wav").read_bytes()}
        preflight = HTTP.options(url, headers={"Origin": PAGE, **asked})
        upload = HTTP.post(url, headers={"Origin": PAGE}, files=files)
        health = HTTP.get(f"{server.http}/health", headers={"Origin": PAGE})
        other = HTTP.options(url, headers={"Origin": "https://evil.example", **asked})
        plain = HTTP.get(f"{server.http}/health")

    assert (preflight.status_code, upload.status_code, health.status_code) == (204, 200, 200)
    for answer in (preflight, upload, health):
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert "Origin" in answer.headers["Vary"]
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert (other.status_code, other.json()["code"]) == (403, 403)
    assert "Access-Control-Allow-Origin" not in other.headers
    assert "Access-Control-Allow-Origin" not in plain.headers


def test_a_path_prefix_works_stripped_and_not(folder: Path) -> None:
    """Whatever the proxy in front does with it, for HTTP and the WebSocket."""
    with Server(folder, MOCK | {"STT_PATH_PREFIX": "/speech"}, script=True) as server:
        for prefix in ("", "/speech"):
            assert HTTP.get(f"{server.http}{prefix}/health").status_code == 200
            with session(server.ws().replace("/v1", f"{prefix}/v1", 1)):
                pass
        assert HTTP.get(f"{server.http}/speechless/health").status_code == 404


def test_an_idle_connection_is_kept(folder: Path) -> None:
    """For STT_KEEP_ALIVE_SECONDS (75), which is longer than proxies' 60 s and uvicorn's own 5 s."""
    question = b"HEAD /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with (
        Server(folder, MOCK, script=True) as server,
        socket.create_connection(("127.0.0.1", server.port)) as raw,
    ):
        raw.settimeout(PATIENCE_SECONDS)
        raw.sendall(question)
        first = raw.recv(4096)
        time.sleep(6)  # uvicorn's own time is 5 s
        raw.sendall(question)
        second = raw.recv(4096)
    assert first[:12] == second[:12] == b"HTTP/1.1 200"


def test_several_processes_are_refused(folder: Path) -> None:
    """`uvicorn --workers 2` ends with one sentence; nothing is served."""
    with Server(folder, MOCK, arguments=("--workers", "2"), wait=False) as server:
        status = server.ended()

    assert "uvicorn --workers 2 cannot be used: one process is one engine" in server.output()
    assert "Traceback" not in server.output()
    assert "startup complete" not in server.output()
    assert isinstance(status, int)


UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(unit: Path) -> None:
    """Without a warning."""
    checked = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_there_is_a_unit() -> None:
    """The test above has something to verify."""
    assert [unit.name for unit in UNITS] == ["realtime-stt-ws.service"]
