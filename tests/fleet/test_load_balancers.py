"""What deploy/haproxy and deploy/nginx do with the requests to three servers that have 1, 3 and 3 places."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from stt_client import AsyncClient, AsyncStream, Final
from tests.audio import reference, text_of
from tests.certificate import certificate
from tests.fleet.programs import needs_haproxy
from tests.http_client import HTTP
from tests.nginx import nginx_command
from tests.patience import PATIENCE_SECONDS
from tests.processes import ending
from tests.server import ROOT, eventually, free_port
from tools.fleet.processes import Fleet, FleetPorts

PLACES = (1, 3, 3)
pytestmark = [needs_haproxy, pytest.mark.slow]


@dataclass(frozen=True, slots=True)
class Address:
    """The fleet, its HTTPS port, and what trusts its certificate."""

    fleet: Fleet
    tls_port: int
    trust: ssl.SSLContext


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    folder, tls_port = tmp_path_factory.mktemp("fleet"), free_port()
    cert, key = certificate(folder)
    both = folder / "both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    common = {"STT_BACKEND": "mock", "STT_TRUSTED_PROXIES": "127.0.0.1,::1"}
    settings = [common | {"STT_MAX_SESSIONS": str(places)} for places in PLACES]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROXY_CERT", str(both))
        patch.setenv("PROXY_TLS_BIND", f"127.0.0.1:{tls_port}")
        with Fleet(folder, FleetPorts.free(), settings) as fleet:
            yield Address(fleet, tls_port, ssl.create_default_context(cafile=cert))


@contextmanager
def nginx(folder: Path, fleet: Fleet) -> Iterator[str]:
    """Run nginx with our file in front of the fleet's servers; its URL."""
    port = free_port()
    text = (ROOT / "deploy" / "nginx" / "load-balancer.conf").read_text()
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};")
    for number, server in enumerate(fleet.servers, 1):
        text = text.replace(f"10.0.0.1{number}:8000", server.url.removeprefix("http://"))
    with ending(subprocess.Popen(nginx_command(folder, text))) as process:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: process.poll() is None and _answers(url))
        yield url


def _answers(url: str) -> bool:
    try:
        return HTTP.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def _sessions(fleet: Fleet) -> list[int]:
    return [HTTP.get(f"{server.url}/health").json()["sessions"] for server in fleet.servers]


async def _fill(url: str, fleet: Fleet, places: int) -> tuple[list[int], int]:
    """Open so many streams; the sessions of each server then, and the status that one more gets."""
    async with AsyncExitStack() as stack:
        for _ in range(places):
            await stack.enter_async_context(AsyncClient(url).stream())
        with pytest.raises(InvalidStatus) as refusal:
            await connect(
                f"{url}/v1/stt/ws?call_id=one-more&sample_rate=16000".replace("http", "ws", 1),
                open_timeout=PATIENCE_SECONDS,
            )
        return await asyncio.to_thread(_sessions, fleet), refusal.value.response.status_code


def test_haproxy_fills_unequal_servers_exactly(address: Address) -> None:
    """All 7 places are taken by 7 streams, and the eighth gets 503."""
    assert asyncio.run(_fill(address.fleet.url, address.fleet, sum(PLACES))) == (list(PLACES), 503)
    eventually(lambda: _sessions(address.fleet) == [0, 0, 0])


def test_nginx_fills_unequal_servers_exactly(address: Address, folder: Path) -> None:
    """The same by refusals alone: nginx asks the next server."""
    with nginx(folder, address.fleet) as url:
        assert asyncio.run(_fill(url, address.fleet, sum(PLACES))) == (list(PLACES), 503)
    eventually(lambda: _sessions(address.fleet) == [0, 0, 0])


async def _say(stream: AsyncStream, name: str) -> list[str]:
    return [event.text async for event in stream.transcribe(reference(name)) if isinstance(event, Final)]


def test_haproxy_ends_tls(address: Address) -> None:
    """A stream over WSS and an upload over HTTPS are transcribed."""

    async def both() -> tuple[list[str], str]:
        client = AsyncClient(f"https://localhost:{address.tls_port}", ssl_context=address.trust)
        async with client.stream() as stream:
            said = await _say(stream, "hello")
        return said, (await client.transcribe(ROOT / "references" / "price.wav")).text

    assert asyncio.run(both()) == ([text_of("hello")], text_of("price"))


def test_nginx_passes_streams_and_uploads_on(address: Address, folder: Path) -> None:
    """Both are transcribed."""

    async def both(url: str) -> tuple[list[str], str]:
        async with AsyncClient(url).stream() as stream:
            said = await _say(stream, "hello")
        return said, (await AsyncClient(url).transcribe(ROOT / "references" / "price.wav")).text

    with nginx(folder, address.fleet) as url:
        assert asyncio.run(both(url)) == ([text_of("hello")], text_of("price"))
        assert HTTP.get(f"{url}/metrics").status_code == 404


def test_uploads_go_to_full_servers_too(address: Address) -> None:
    """A server without a place for a stream is not down: its check is good, and it transcribes files."""

    async def full() -> list[str]:
        async with AsyncExitStack() as stack:
            for _ in range(sum(PLACES)):
                await stack.enter_async_context(AsyncClient(address.fleet.url).stream())
            client = AsyncClient(address.fleet.url)
            return [(await client.transcribe(ROOT / "references" / "hello.wav")).text for _ in PLACES]

    assert asyncio.run(full()) == [text_of("hello")] * len(PLACES)
    assert address.fleet.states() == ["UP"] * len(PLACES)


def test_the_page_may_use_the_proxys_address(address: Address) -> None:
    """The proxy passes Host on, so a page that came through it is the server's own, and no header makes another so."""
    url = address.fleet.url
    assert HTTP.get(f"{url}/").headers["content-type"].startswith("text/html")
    answer = HTTP.get(f"{url}/health", headers={"Origin": url})
    assert answer.headers["access-control-allow-origin"] == url
    evil = {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"}
    assert "access-control-allow-origin" not in HTTP.get(f"{url}/health", headers=evil).headers


def test_metrics_are_not_those_of_a_server_by_chance(address: Address) -> None:
    """The proxy does not pass /metrics on; its own state is on a port for this machine."""
    assert HTTP.get(f"{address.fleet.url}/metrics").status_code == 404
    assert "haproxy_server_status" in HTTP.get(f"{address.fleet.statistics_url}metrics").text
