"""OpenAI's own JavaScript client, unmodified, over TLS: it knows no other way. On whisper's real weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from bench.common.word_error_rate import rate, score
from tests.audio import reference, text_of
from tests.certificate import certificate
from tests.server import ROOT, Server, eventually
from tests.weights import settings_of

pytest.importorskip("faster_whisper")
NODE = shutil.which("node")
FOLDER = ROOT / "tests" / "clients" / "js"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NODE is None, reason="Node is not installed"),
    pytest.mark.skipif(not (FOLDER / "node_modules").exists(), reason="run `npm install` in tests/clients/js"),
]
KEY = "sk-test-0123456789abcdef"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openai-js")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    cert, key = certificate(folder)
    settings = {"STT_API_KEYS": f"test={KEY}", "STT_TLS_CERT": str(cert), "STT_TLS_KEY": str(key)}
    with Server(folder, settings_of("base") | settings, script=True, wait=False) as server:
        eventually(lambda: "is ready on https" in server.output())
        yield server


def _run(server: Server, folder: Path, mode: str) -> dict[str, Any]:
    """What the script prints."""
    file = folder / "meeting.wav"
    with wave.open(str(file), "wb") as written:
        written.setparams((1, 2, 24_000, 0, "NONE", ""))
        samples: Any = soxr.resample(np.frombuffer(reference("meeting"), "<i2"), 16_000, 24_000)
        written.writeframes(samples.astype("<i2").tobytes())
    arguments = [f"https://localhost:{server.port}", KEY, str(file), mode]
    command = [str(NODE), "--experimental-websocket", "client.mjs", *arguments]
    environment = os.environ | {"NODE_EXTRA_CA_CERTS": str(folder / "cert.pem")}
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    printed: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        printed |= json.loads(line)
    return printed


def _wrong(said: str) -> float:
    return rate([score(text_of("meeting"), said, "en")]) or 0.0


def test_files(server: Server, folder: Path) -> None:
    """Every format that the client asks for, and a stream."""
    printed = _run(server, folder, "files")

    assert _wrong(printed["json"]["text"]) <= 0.1
    assert "-->" in printed["srt"]
    assert _wrong(" ".join(word["word"] for word in printed["verbose"]["words"])) <= 0.1
    assert printed["streamed"][-1] == "".join(printed["streamed"][:-1])


@pytest.mark.parametrize(("mode", "subprotocol"), [("ws", ""), ("browser", "realtime")])
def test_realtime(server: Server, folder: Path, mode: str, subprotocol: str) -> None:
    """With a header, and as a browser with a client secret in a subprotocol."""
    printed = _run(server, folder, mode)

    assert printed["subprotocol"] == subprotocol
    assert _wrong(printed["completed"]) <= 0.1
    assert printed["kinds"][0] == "session.created"
