"""The lines of the log: they are JSON, and name the connection that they are about."""

from __future__ import annotations

import json
from pathlib import Path

from config import Settings
from observability.version import VERSION
from tests.audio import reference
from tests.client import connect, conversation, refused, session
from tests.server import Server, eventually

MOCK = {"STT_BACKEND": "mock"}


def test_the_log_tells_version_and_settings_at_the_start(folder: Path) -> None:
    """All of them, as in effect."""
    with Server(folder, MOCK | {"STT_MAX_SESSIONS": "7"}) as server:
        [line] = [line for line in server.log() if line["event"] == "server_starting"]

    assert line["version"] == VERSION
    assert line["settings"]["STT_MAX_SESSIONS"] == 7
    assert set(line["settings"]) == {f"STT_{name}".upper() for name in Settings.model_fields}


def test_a_connection_has_one_id_everywhere(folder: Path) -> None:
    """In the handshake's header, `ready`, `error` and the log, which knows address and user agent too."""
    with Server(folder, MOCK) as server:
        with connect(server.ws(), user_agent_header="tester/1") as raw:
            assert raw.response is not None
            header = raw.response.headers["X-Connection-Id"]
            ready = json.loads(raw.recv())
        with conversation(server.ws(language="!")) as client:
            error = client.receive()
        refusal = refused(server.ws(), origin="https://evil.example")
        log = server.log()

    assert header == ready["connection_id"]
    opened = next(line for line in log if line["event"] == "session_opened")
    assert (opened["connection_id"], opened["peer"], opened["user_agent"]) == (header, "127.0.0.1", "tester/1")
    assert error["connection_id"] in {line.get("connection_id") for line in log}
    assert refusal.headers["X-Connection-Id"] in {line.get("connection_id") for line in log}


def test_every_log_line_of_a_connection_has_its_ids(folder: Path) -> None:
    """Lines are JSON with call_id and connection_id; an abnormal end tells its last events and queue peaks."""
    with Server(folder, {"STT_BACKEND": "mock"}) as server:
        before = len(server.log())
        with session(server.ws(call_id="logged", hotwords="secret")) as client:
            client.send(reference("hello"), 3200)
            client.commit()
            client.until("final")
            client.socket.send(bytes(262_145))
            client.rest()
        eventually(lambda: server.log()[-1]["event"] == "session_ended_abnormally")
        lines = [line for line in server.log()[before:] if "/health" not in line["event"]]

    assert [line["event"] for line in lines] == ["session_opened", "session_ended_abnormally"]
    assert {line["call_id"] for line in lines} == {"logged"}
    assert len({line["connection_id"] for line in lines}) == 1
    assert lines[-1]["code"] == 1009
    assert "final 0 commit" in " ".join(lines[-1]["last_events"])
    assert lines[-1]["queue_peaks"]["in_queue"] >= 1
    assert "secret" not in server.output()
