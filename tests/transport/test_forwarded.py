"""What proxies say of the requests that they pass on."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.types import Scope
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from config import Settings
from tests.client import connect
from tests.http_client import HTTP
from tests.server import Server
from transport.forwarded import TrustedProxies

PROXIES = TrustedProxies([ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1")])
ORIGIN = "https://speech.example.com"


def request(peer: str | None, **headers: str) -> Scope:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "client": peer and (peer, 1234), "headers": raw}


@pytest.mark.parametrize("peer", ["10.1.2.3", "::1"])
def test_a_trusted_proxy_is_believed(peer: str) -> None:
    """Its X-Forwarded-Host is the host, and the nearest address that is no proxy's is the client."""
    scope = PROXIES.original(
        request(
            peer, host="internal", x_forwarded_host="speech.example.com", x_forwarded_for="6.6.6.6, 1.2.3.4, 10.0.0.9"
        )
    )

    assert Headers(scope=scope)["host"] == "speech.example.com"
    assert scope["client"][0] == "1.2.3.4"


@pytest.mark.parametrize("peer", ["11.0.0.1", "192.168.0.1", None, "unix:"])
def test_others_are_not_believed(peer: str | None) -> None:
    """A request of any other peer stays as it is."""
    scope = request(peer, host="internal", x_forwarded_host="speech.example.com", x_forwarded_for="1.2.3.4")

    assert PROXIES.original(scope) is scope


def test_a_client_cannot_invent_a_host() -> None:
    """Of several hosts the last counts, which the proxy added."""
    scope = PROXIES.original(request("10.0.0.1", host="internal", x_forwarded_host="evil.example, speech.example.com"))

    assert Headers(scope=scope)["host"] == "speech.example.com"
    assert scope["client"][0] == "10.0.0.1"


def test_networks_are_checked() -> None:
    """STT_TRUSTED_PROXIES takes addresses and networks, and nothing else."""
    assert Settings.model_validate({"trusted_proxies": "127.0.0.1, fd00::/8"}).trusted_proxies == (
        ipaddress.ip_network("127.0.0.1"),
        ipaddress.ip_network("fd00::/8"),
    )
    with pytest.raises(ValueError, match="trusted_proxies"):
        Settings.model_validate({"trusted_proxies": "proxy.example.com"})


@pytest.mark.parametrize(("trusted", "status"), [("127.0.0.1", 101), ("10.0.0.1", 403), ("", 403)])
def test_the_origin_is_compared_with_the_host_that_a_trusted_proxy_names(
    folder: Path, trusted: str, status: int
) -> None:
    """X-Forwarded-Host counts from STT_TRUSTED_PROXIES only, on the socket and for CORS."""
    settings = {"STT_BACKEND": "mock", "STT_TRUSTED_PROXIES": trusted}
    headers = {"X-Forwarded-Host": "speech.example.com", "X-Forwarded-For": "1.2.3.4"}
    with Server(folder, settings, script=True) as server:
        answer = HTTP.get(f"{server.http}/health", headers={"Origin": ORIGIN, **headers})
        status_of_handshake = 101
        try:
            with connect(server.ws(), origin=Origin(ORIGIN), additional_headers=headers):
                pass
        except InvalidStatus as refusal:
            status_of_handshake = refusal.response.status_code
        opened = [line for line in server.log() if line["event"] == "session_opened"]

    assert status_of_handshake == status
    assert ("access-control-allow-origin" in answer.headers) == (status == 101)
    assert [line["peer"] for line in opened] == ["1.2.3.4"] * (status == 101)
