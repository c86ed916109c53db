"""An engine that falls behind live audio: nobody new is let in, until it has caught up."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from protocol.pcm import BYTES_PER_SECOND
from tests.audio import reference, silence
from tests.client import Client, client_that_never_reads, refused, session
from tests.http_client import HTTP
from tests.server import Server, eventually
from transport.admission import SATURATED_SECONDS

WORD = reference("hello")[:16_000] + silence(300)
"""An utterance of 0.8 s, where 200 ms of silence end one."""
SETTINGS = {"STT_VAD_SILENCE_MS": "200"}


def _readiness(server: Server) -> str:
    return str(HTTP.get(f"{server.http}/health/ready").json()["status"])


def _speak_until_saturated(client: Client, server: Server) -> None:
    while _readiness(server) != "saturated":
        client.speak(WORD)


@pytest.mark.slow
def test_a_saturated_server_admits_nothing(folder: Path) -> None:
    """An engine that hardly moves is 5 s behind soon; when it is quick again new sessions are let in."""
    settings = {"FAULT_SPEED": "0.001", **SETTINGS}
    with Server.with_fault(folder, "slow", settings) as server, session(server.ws()) as client:
        _speak_until_saturated(client, server)
        refusal = refused(server.ws())
        ready = HTTP.get(f"{server.http}/health/ready")
        health = HTTP.get(f"{server.http}/health")
        behind, saturation = server.metric("stt_seconds_behind"), server.metric("stt_saturation")
        counted = server.metric('stt_refusals_total{protocol="websocket",reason="saturated"}')
        server.release()
        eventually(lambda: _readiness(server) == "ready")
        with session(server.ws()):
            pass

    assert (refusal.status_code, ready.status_code, health.status_code) == (503, 503, 200)
    assert "saturated" in json.loads(refusal.body)["message"]
    assert refusal.headers["Retry-After"]
    assert ready.headers["Retry-After"]
    assert behind > SATURATED_SECONDS
    assert saturation > 1
    assert counted == 1


@pytest.mark.slow
def test_a_client_ahead_of_real_time_saturates_nothing(folder: Path) -> None:
    """One sends far ahead of real time: what waits of it says nothing of the engine."""
    with Server.with_fault(folder, "stuck", SETTINGS) as server, session(server.ws()) as ahead:
        sender = threading.Thread(target=ahead.send, args=(WORD * 20,))
        sender.start()
        eventually(lambda: server.metric("stt_in_queue_age_seconds") > SATURATED_SECONDS + 1)
        ready = _readiness(server)
        with session(server.ws()):
            pass
        server.release()
        ahead.finals(20)
        sender.join()
    assert ready == "ready"


@pytest.mark.slow
def test_a_client_that_does_not_read_saturates_nothing(folder: Path) -> None:
    """Its worker waits for it, so that its audio waits too."""
    settings = {**SETTINGS, "STT_OUT_QUEUE_SIZE": "3", "STT_SEND_TIMEOUT_SECONDS": "60"}
    with Server.with_fault(folder, "wordy", settings) as server, client_that_never_reads(server.ws()) as send:
        while server.metric("stt_in_queue_age_seconds") < SATURATED_SECONDS + 1:
            send(WORD)
            time.sleep(len(WORD) / BYTES_PER_SECOND)
        assert _readiness(server) == "ready"
        assert server.metric("stt_seconds_behind") == 0
