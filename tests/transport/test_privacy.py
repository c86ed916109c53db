"""What the log may not have: words that were spoken or expected, audio, and credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.audio import REFERENCES, reference, text_of
from tests.client import Client, connect
from tests.http_client import HTTP
from tests.server import Server

SECRETS = ("SECRET-TOKEN", "SECRET-COOKIE", "SECRET-KEY", "SECRET-QUERY")
HOTWORD = "Xylophonia"


@pytest.mark.parametrize(
    ("level", "uvicorn_arguments"),
    [
        ("DEBUG", None),
        ("INFO", None),
        ("WARNING", None),
        ("ERROR", None),
        ("DEBUG", ("--log-level", "debug")),
        ("DEBUG", ("--log-level", "trace")),
    ],
    ids=str,
)
def test_no_level_logs_words_or_secrets(folder: Path, level: str, uvicorn_arguments: tuple[str, ...] | None) -> None:
    """Neither texts, hotwords, audio, credentials nor cookies, under `python app.py` and uvicorn's own debug levels."""
    settings = {"STT_BACKEND": "mock", "STT_LOG_LEVEL": level}
    script = uvicorn_arguments is None
    with Server(folder, settings, script=script, arguments=uvicorn_arguments or ()) as server:
        texts = [_converse(server), _upload(server)]
        written = server.output()

    assert texts == [text_of("weather")] * 2
    spoken = {word for word in text_of("weather").lower().split() if len(word) > 3}
    assert spoken
    assert not {word for word in spoken if word in written.lower()}
    assert not {each for each in (*SECRETS, HOTWORD, "BINARY", "authorization") if each in written}


def _converse(server: Server) -> str:
    url = server.ws(call_id="call-7", hotwords=HOTWORD, ticket="SECRET-QUERY")
    headers = {"Authorization": "Bearer SECRET-TOKEN", "Cookie": "session=SECRET-COOKIE"}
    subprotocols = ["openai-insecure-api-key.SECRET-KEY", "realtime"]
    with connect(url, additional_headers=headers, subprotocols=subprotocols, compression=None) as socket:
        client = Client(socket)
        client.send(reference("weather"), 3200)
        client.commit()
        messages = client.until("final")
    return str(messages[-1]["text"])


def _upload(server: Server) -> str:
    answer = HTTP.post(
        f"{server.http}/v1/stt/transcribe",
        params={"hotwords": HOTWORD, "ticket": "SECRET-QUERY"},
        files={"file": (REFERENCES / "weather.wav").read_bytes()},
        headers={"Authorization": "Bearer SECRET-TOKEN", "Cookie": "session=SECRET-COOKIE"},
    )
    return str(answer.json()["text"])
