"""API keys, tokens and TLS, on a real server."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.audio import REFERENCES, reference, text_of
from tests.certificate import certificate
from tests.client import Client, connect, refused
from tests.http_client import HTTP
from tests.patience import PATIENCE_SECONDS
from tests.server import Server, eventually
from transport.api_keys import Keyring, KeysRefused
from transport.serving import is_reachable, uvicorn_host

PHONE, WEB = "phone-key-0123456789", "web-key-0123456789abc"
KEYS = {"STT_BACKEND": "mock", "STT_API_KEYS": f"phone={PHONE}, web={WEB}"}


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _status(url: str, **options: Any) -> int:  # noqa: ANN401 - websockets' own
    try:
        with connect(url, **options):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


@pytest.fixture(scope="module")
def locked_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two keys."""
    with Server(tmp_path_factory.mktemp("locked"), KEYS | {"STT_LOG_LEVEL": "DEBUG"}, script=True) as server:
        yield server


PROTECTED = [
    ("GET", "/metrics/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/stt/ws"),
    ("GET", "/nowhere"),
    ("GET", "/health/x"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/whisper-1"),
    ("POST", "/v1/stt/transcribe"),
    ("POST", "/v1/stt/token"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/audio/translations"),
    ("POST", "/v1/realtime/client_secrets"),
]


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_every_route_needs_a_key(locked_server: Server, method: str, path: str) -> None:
    """401 without a key and with a wrong one, in the error form of the path's dialect."""
    for headers in ({}, _bearer("wrong-key-0123456789")):
        answer = HTTP.request(method, f"{locked_server.http}{path}", headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert "API key" in str(answer.json())
        if path.startswith(("/v1/audio", "/v1/models", "/v1/realtime")):
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert answer.headers["x-request-id"]
        else:
            assert answer.json()["code"] == 401


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
def test_health_and_metrics_need_no_key(locked_server: Server, path: str) -> None:
    """Probes and Prometheus go on as before."""
    assert HTTP.get(f"{locked_server.http}{path}").status_code == 200


def test_the_page_needs_no_key(locked_server: Server) -> None:
    """It asks for the key itself: `/` and its files are not 401."""
    assert HTTP.get(f"{locked_server.http}/").status_code != 401
    assert HTTP.get(f"{locked_server.http}/page/page.js").status_code != 401


def test_a_preflight_needs_no_key(locked_server: Server) -> None:
    """A browser asks before it sends the key."""
    headers = {"origin": locked_server.http, "access-control-request-method": "POST"}
    assert HTTP.options(f"{locked_server.http}/v1/stt/transcribe", headers=headers).status_code == 204


BASIC = base64.b64encode(f"user:{WEB}".encode()).decode()


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({"additional_headers": _bearer(WEB)}, None),
        ({"additional_headers": {"authorization": f"Token {WEB}"}}, None),
        ({"additional_headers": {"authorization": f"Basic {BASIC}"}}, None),
        ({"subprotocols": ["realtime", f"openai-insecure-api-key.{WEB}"]}, "realtime"),
        ({"subprotocols": ["token", WEB]}, "token"),
        ({"subprotocols": ["stt", f"stt-token.{WEB}"]}, "stt"),
    ],
)
def test_a_socket_opens_with_a_key_in_any_form(
    locked_server: Server, options: dict[str, Any], chosen: str | None
) -> None:
    """A subprotocol that carries a key is never the one that is chosen."""
    with connect(locked_server.ws(), **options) as socket:
        assert socket.subprotocol == chosen


def test_a_socket_without_a_key_is_refused_before_the_upgrade(locked_server: Server) -> None:
    """401, on paths that exist and on others; a key in the query does not count."""
    before = locked_server.metric('stt_refusals_total{protocol="websocket",reason="key"}')
    refusal = refused(locked_server.ws())
    assert (refusal.status_code, refusal.headers["www-authenticate"]) == (401, "Bearer")
    assert refused(locked_server.ws(api_key=WEB)).status_code == 401
    assert refused(locked_server.ws().replace("/v1/stt/ws", "/nowhere")).status_code == 401
    assert locked_server.metric('stt_refusals_total{protocol="websocket",reason="key"}') == before + 3


def test_usage_is_counted_by_the_name_of_the_key(locked_server: Server) -> None:
    """Sessions, audio and uploads of `phone` are not those of `web`."""
    with connect(locked_server.ws(), additional_headers=_bearer(PHONE)) as socket:
        client = Client(socket)
        client.send(reference("hello"), 3200)
        client.commit()
        client.until("final")
        assert locked_server.metric('stt_key_sessions{key="phone"}') == 1
    upload = HTTP.post(
        f"{locked_server.http}/v1/stt/transcribe",
        files={"file": (REFERENCES / "hello.wav").read_bytes()},
        headers=_bearer(PHONE),
    )
    seconds = len(reference("hello")) / 32_000

    assert upload.json()["text"] == text_of("hello")
    eventually(lambda: locked_server.metric('stt_key_sessions{key="phone"}') == 0)
    assert locked_server.metric('stt_key_connections_total{key="phone"}') == 1
    assert locked_server.metric('stt_key_http_requests_total{key="phone"}') == 1
    for source in ("websocket", "http"):
        counted = locked_server.metric(f'stt_key_audio_seconds_total{{key="phone",source="{source}"}}')
        assert counted == pytest.approx(seconds, abs=0.1)


def test_a_token_stands_for_its_key(locked_server: Server) -> None:
    """It opens sockets in the name of its key, and does not issue tokens itself."""
    url = f"{locked_server.http}/v1/stt/token"
    answer = HTTP.post(url, headers=_bearer(WEB), json={"seconds": 60})
    token = answer.json()["token"]

    assert answer.headers["cache-control"] == "no-store"
    assert HTTP.post(url, headers=_bearer(token)).status_code == 403
    with connect(locked_server.ws(), subprotocols=["stt", f"stt-token.{token}"]):
        assert locked_server.metric('stt_key_sessions{key="web"}') >= 1
    assert HTTP.post(url, headers=_bearer(WEB), json={"seconds": 5}).status_code == 422


def test_a_token_counts_without_keys_too(mock_server: Server) -> None:
    """It carries the session that it was issued for, and issues no tokens itself."""
    url = f"{mock_server.http}/v1/stt/token"
    token = HTTP.post(url).json()["token"]
    assert HTTP.post(url, headers=_bearer(token)).status_code == 403


def test_no_key_is_written_anywhere(locked_server: Server) -> None:
    """After all of the above, at DEBUG: neither keys nor tokens in the log, in answers or in metrics."""
    token = HTTP.post(f"{locked_server.http}/v1/stt/token", headers=_bearer(WEB)).json()["token"]
    wrong = HTTP.get(f"{locked_server.http}/v1/models?api_key={WEB}", headers=_bearer("wrong-key-0123456789")).text
    shown = locked_server.output() + HTTP.get(f"{locked_server.http}/metrics").text + wrong
    digest = hashlib.sha256(WEB.encode()).hexdigest()

    assert not [secret for secret in (PHONE, WEB, BASIC, token, digest, "wrong-key") if secret in shown]
    assert "no_api_keys" not in shown


def test_keys_are_read_from_a_file_that_changes(folder: Path) -> None:
    """A key that is added works and one that is removed does not; a file that cannot be used changes nothing."""
    file = folder / "keys"
    file.write_text(f"# our clients\nphone={PHONE}\n")
    with Server(folder, {"STT_BACKEND": "mock", "STT_API_KEYS": f"@{file}"}) as server:
        url = f"{server.http}/v1/stt/token"

        def status(key: str) -> int:
            return HTTP.post(url, headers=_bearer(key)).status_code

        before = status(PHONE), status(WEB)
        file.write_text(f"web={WEB}\n")
        eventually(lambda: status(WEB) == 200)
        after = status(PHONE)
        file.write_text("nonsense\n")
        eventually(lambda: "api_keys_refused" in server.output())
        kept = status(WEB)
        assert "nonsense" not in server.output()

    assert (before, after, kept) == ((200, 401), 401, 200)


def test_one_key_may_have_so_many_sessions(folder: Path) -> None:
    """Beyond STT_MAX_KEY_SESSIONS its next handshake gets 429 with Retry-After; other keys are not touched."""
    with Server(folder, KEYS | {"STT_MAX_KEY_SESSIONS": "1"}) as server:
        with connect(server.ws(), additional_headers=_bearer(PHONE)):
            with pytest.raises(InvalidStatus) as refusal:
                connect(server.ws(), additional_headers=_bearer(PHONE))
            other = _status(server.ws(), additional_headers=_bearer(WEB))
        eventually(lambda: _status(server.ws(), additional_headers=_bearer(PHONE)) == 101)

    assert refusal.value.response.status_code == 429
    assert refusal.value.response.headers["retry-after"]
    assert other == 101


def test_keys_may_stand_in_the_query_and_metrics_may_need_one(folder: Path) -> None:
    """With STT_API_KEY_IN_QUERY and STT_METRICS_KEY_REQUIRED."""
    settings = {"STT_API_KEY_IN_QUERY": "true", "STT_METRICS_KEY_REQUIRED": "true"}
    with Server(folder, KEYS | settings) as server:
        opened = _status(server.ws(api_key=WEB))
        statuses = [HTTP.get(f"{server.http}/metrics{query}").status_code for query in ("", f"?api_key={WEB}")]
        assert WEB not in server.output()

    assert opened == 101
    assert statuses == [401, 200]


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False)])  # noqa: S104 - a test
def test_a_server_that_everybody_may_use_says_so(folder: Path, host: str, warned: bool) -> None:
    """One warning at the start where others can reach it and no key is needed."""
    with Server(folder, {"STT_BACKEND": "mock", "STT_HOST": host}, script=True) as server:
        lines = [line for line in server.log() if line["event"] == "no_api_keys"]
    assert len(lines) == warned


@pytest.mark.parametrize(
    ("arguments", "environment", "host"),
    [
        (["/bin/uvicorn", "app:app", "--port", "8000"], {}, "127.0.0.1"),
        (["/lib/uvicorn/__main__.py", "app:app", "--host=::"], {}, "::"),
        (["uvicorn", "--host", "10.0.0.1", "app:app"], {}, "10.0.0.1"),
        (["uvicorn", "app:app"], {"UVICORN_HOST": "::1"}, "::1"),
        (["uvicorn", "app:app", "--uds", "/run/stt"], {}, "localhost"),
        (["app.py"], {}, None),
    ],
)
def test_uvicorns_address_is_known(arguments: list[str], environment: dict[str, str], host: str | None) -> None:
    """As its command line or its environment names it."""
    assert uvicorn_host(arguments, environment) == host


@pytest.mark.parametrize(
    ("host", "reachable"),
    [("0.0.0.0", True), ("::", True), ("::1", False), ("127.0.0.2", False), ("localhost", False), ("a.example", True)],  # noqa: S104 - a test
)
def test_only_loopback_addresses_are_out_of_reach(host: str, reachable: bool) -> None:
    """A name other than localhost may be anything."""
    assert is_reachable(host) == reachable


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ("short=abc", "the key of short needs 16 printable ASCII characters or more"),
        ("only-a-secret-0123456789", "number 1 is not name=key"),
        (f"a={WEB},b={WEB}", "one key is there twice"),
        ("@/no/such/file", "the file cannot be read"),
        ("#", None),
    ],
)
def test_keys_that_cannot_be_used_are_refused(keys: str, reason: str | None) -> None:
    """With a reason that repeats no key."""
    if reason is None:
        assert not Keyring(keys).required
        return
    with pytest.raises(KeysRefused, match=reason) as refusal:
        Keyring(keys)
    assert keys.partition("=")[2] not in str(refusal.value) or not keys.partition("=")[2]


def test_a_refused_start_does_not_show_the_keys(folder: Path) -> None:
    """One sentence that names the setting."""
    with Server(folder, KEYS | {"STT_API_KEYS": "phone=too-short-key"}, script=True, wait=False) as server:
        status = server.ended()
        written = server.output()
    assert (status, written.count("\n")) == (1, 1)
    assert written.startswith("STT_API_KEYS=*** cannot be used: the key of phone needs")


def test_replicas_agree_on_tokens() -> None:
    """By the keys alone, or by STT_TOKEN_SECRET; a removed key takes its tokens along; expired ones are refused."""
    first, second = Keyring(f"a={PHONE}"), Keyring(f"b={WEB},a={PHONE}")
    token, expires = first.issue(first.identify([PHONE], 0), 60, {"x": 1}, 1_000.5)
    caller = second.identify([token], 1_059)

    assert (caller.name, caller.session, expires) == ("a", {"x": 1}, 1_060)
    for keyring, now in ((second, 1_060), (Keyring(f"a={WEB}"), 1_001), (Keyring(f"b={PHONE}"), 1_001)):
        with pytest.raises(Exception, match="not valid"):
            keyring.identify([token], now)
    shared = [Keyring(f"a={key}", "one secret for all servers") for key in (PHONE, WEB)]
    token, _ = shared[0].issue(shared[0].identify([PHONE], 0), 60, {}, 1_000)
    assert shared[1].identify([token], 1_001).name == "a"


def test_tls(folder: Path) -> None:
    """With STT_TLS_CERT and STT_TLS_KEY both HTTPS and secure WebSockets work."""
    cert, key = certificate(folder)
    settings = {"STT_BACKEND": "mock", "STT_TLS_CERT": str(cert), "STT_TLS_KEY": str(key)}
    trust = ssl.create_default_context(cafile=str(cert))
    with Server(folder, settings, script=True, wait=False) as server:
        eventually(lambda: f"ready on https://127.0.0.1:{server.port}" in server.output())
        health = httpx.get(f"https://127.0.0.1:{server.port}/health", verify=trust, timeout=PATIENCE_SECONDS)
        with connect(server.ws().replace("ws:", "wss:"), ssl=trust) as socket:
            client = Client(socket)
            client.send(reference("hello"), 3200)
            client.commit()
            final = client.until("final")[-1]

    assert health.json()["status"] == "ok"
    assert final["text"] == text_of("hello")


@pytest.mark.parametrize("broken", ["half", "missing", "foreign"])
def test_tls_that_cannot_be_used_is_refused(folder: Path, broken: str) -> None:
    """One sentence and exit status 1, before anything listens."""
    cert, key = certificate(folder)
    settings = {"STT_BACKEND": "mock", "STT_TLS_CERT": str(cert), "STT_TLS_KEY": str(key)}
    if broken == "half":
        del settings["STT_TLS_KEY"]
    elif broken == "missing":
        cert.unlink()
    else:
        (folder / "other").mkdir()
        settings["STT_TLS_KEY"] = str(certificate(folder / "other")[1])
    with Server(folder, settings, script=True, wait=False) as server:
        status = server.ended()
        written = server.output()
    assert (status, written.count("\n")) == (1, 1)
    assert written.startswith("STT_TLS_CERT")
