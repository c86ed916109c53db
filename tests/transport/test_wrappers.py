"""The server inside other ASGI applications' wrappers, and with middleware of others inside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.audio import reference, silence
from tests.client import client_that_never_reads, connect
from tests.server import Server, eventually


def _server(folder: Path, build: str) -> Server:
    settings = {"STT_BACKEND": "mock", "FAULT": "wordy", "FAULT_FILE": "", "STT_SEND_TIMEOUT_SECONDS": "0.5"}
    return Server(folder, settings, module=f"tests.wrapped:{build}")


@pytest.mark.parametrize("build", ["wrapped", "with_middleware"])
def test_a_client_that_does_not_read_is_cut_off_behind_wrappers(folder: Path, build: str) -> None:
    """The socket is found through the scope, whatever stands around `receive` and `send`."""
    with _server(folder, build) as server:
        files = server.descriptors()
        with client_that_never_reads(server.ws(), {"x-pass": "yes"}) as send:
            for _ in range(3):
                send(reference("hello") + silence(700))
            eventually(lambda: server.metric('stt_closes_total{by="server",code="1008"}') == 1)
            eventually(lambda: server.metric("stt_sessions") == 0)
            eventually(lambda: server.descriptors() <= files + 1)
        assert "plain_websocket_protocol" not in server.output()


@pytest.mark.parametrize("build", ["with_middleware", "instrumented"])
def test_middleware_protects_the_socket_too(folder: Path, build: str) -> None:
    """What it refuses never becomes a session, although sockets skip FastAPI's layers where nobody added one."""
    with _server(folder, build) as server:
        with pytest.raises(InvalidStatus) as refusal, connect(server.ws()):
            pass
        with connect(server.ws(), additional_headers={"x-pass": "yes"}) as client:
            assert "ready" in str(client.recv())
        opened = server.metric("stt_connections_total")
    assert refusal.value.response.status_code == 403
    assert opened == 1
