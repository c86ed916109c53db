"""What `python app.py` prints, where it listens, and how it ends."""

from __future__ import annotations

import errno
import re
import select
import signal
import socket
from pathlib import Path

import pytest

from tests.http_client import HTTP
from tests.patience import PATIENCE_SECONDS
from tests.server import Server, eventually
from transport.serving import ServingOptions, base_url, listen

MOCK = {"STT_BACKEND": "mock"}


def _printed_url(server: Server) -> str:
    found = eventually(lambda: re.search(r"is ready on (\S+)", server.output()))
    return str(found[1])


def _start(folder: Path, **settings: str) -> Server:
    return Server(folder, MOCK | settings, script=True, wait=False)


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


@needs_ipv6
def test_an_ipv6_address_is_printed_so_that_it_can_be_used(folder: Path) -> None:
    """With brackets around it."""
    with _start(folder, STT_HOST="::1") as server:
        url = _printed_url(server)
        assert url == f"http://[::1]:{server.port}"
        assert HTTP.get(f"{url}/health").status_code == 200


@needs_ipv6
def test_every_ipv6_address_is_every_ipv4_address_too(folder: Path) -> None:
    """STT_HOST=:: answers on both, and the printed name works."""
    with _start(folder, STT_HOST="::") as server:
        url = _printed_url(server)
        for each in (url, server.http, f"http://[::1]:{server.port}"):
            assert HTTP.get(f"{each}/health").status_code == 200


def test_any_free_port_is_printed_by_its_number(folder: Path) -> None:
    """STT_PORT=0: the URL shown is the one that answers."""
    with _start(folder, STT_PORT="0") as server:
        url = _printed_url(server)
        assert not url.endswith(":0")
        assert HTTP.get(f"{url}/health").status_code == 200


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://localhost:80/x"),  # noqa: S104 - shown, not bound
        ("::", "http://localhost:80/x"),
        ("::1", "http://[::1]:80/x"),
        ("example.org", "http://example.org:80/x"),
    ],
)
def test_the_url_is_one_that_works_on_this_machine(host: str, url: str) -> None:
    """Wildcards are shown as localhost, IPv6 addresses in brackets."""
    assert base_url(host, 80, "/x") == url


def test_a_taken_port_is_refused_by_the_name_of_its_setting(folder: Path) -> None:
    """One sentence, status 1, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _start(folder, STT_PORT=str(port)) as server:
            code = server.ended()

    assert code == 1
    assert server.output().strip() == f"STT_PORT={port} cannot be used: the port is taken; set STT_PORT to a free one."


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_this_machine_is_refused_by_the_name_of_its_setting(folder: Path, host: str) -> None:
    """One sentence, status 1, no traceback."""
    with _start(folder, STT_HOST=host) as server:
        code = server.ended()

    assert code == 1
    assert server.output().strip() == f"STT_HOST={host} cannot be used: it is none of this machine's addresses."


def _takes_more(sender: socket.socket) -> bool:
    try:
        return sender.send(bytes(65_536)) > 0
    except BlockingIOError:
        return False


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such limit")
def test_a_connection_whose_client_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the system, whatever the server does: a socket may be closed, or its answer half sent over HTTP."""
    monkeypatch.setattr("transport.serving._UNREAD_SECONDS", 1)
    (listener,) = listen(ServingOptions("127.0.0.1", 0, keep_alive_seconds=5))
    with listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            accepted.setblocking(False)
            while _takes_more(accepted):
                pass
            events = select.poll()
            events.register(accepted, select.POLLERR)
            assert events.poll(PATIENCE_SECONDS * 1000)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ETIMEDOUT
        assert client.recv(1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_has_exit_status_0(folder: Path, number: signal.Signals) -> None:
    """Under `python app.py`; uvicorn ends by the signal itself."""
    with Server(folder, MOCK, script=True) as server:
        server.signal(number)
        assert server.ended() == 0
