"""Agent frameworks, unmodified, with a server in the place of OpenAI's: on whisper's real weights."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.common.word_error_rate import rate, score
from tests.audio import REFERENCES, text_of
from tests.patience import PATIENCE_SECONDS
from tests.server import ROOT, Server
from tests.weights import settings_of

pytest.importorskip("faster_whisper")
PYTHON = Path(os.environ.get("FRAMEWORKS_PYTHON", ROOT / ".venv-frameworks" / "bin" / "python"))
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(not PYTHON.exists(), reason="`make frameworks` installs the frameworks and runs this"),
]
KEY = "sk-test-0123456789abcdef"
SPOKEN = "meeting"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = settings_of("base") | {"STT_API_KEYS": f"test={KEY}"}
    with Server(tmp_path_factory.mktemp("frameworks"), settings) as server:
        yield server


def _texts(server: Server, program: str, mode: str, final: str) -> list[str]:
    """The finals that a framework's user sees."""
    script = Path(__file__).parent / f"{program}.py"
    command = [str(PYTHON), str(script), server.http, KEY, str(REFERENCES / f"{SPOKEN}.wav"), mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3_000:]
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [each["text"] for each in printed if each["event"] == final]


def _wrong(said: str) -> float:
    return rate([score(text_of(SPOKEN), said, "en")]) or 0.0


@pytest.mark.parametrize(("mode", "count"), [("rest", 1), ("server_vad", 1), ("own_vad", 1), ("twice", 2)])
def test_livekit(server: Server, mode: str, count: int) -> None:
    """Correct finals over REST, with the server's turns, with LiveKit's own, and twice over one pooled socket."""
    texts = _texts(server, "livekit_openai", mode, "FINAL_TRANSCRIPT")
    assert len(texts) == count
    assert all(_wrong(text) <= 0.1 for text in texts)


@pytest.mark.parametrize("mode", ["rest", "server_vad", "own_vad"])
def test_pipecat(server: Server, mode: str) -> None:
    """Correct finals over REST, with the server's turns, and with Pipecat's own."""
    (text,) = _texts(server, "pipecat_openai", mode, "TranscriptionFrame")
    assert _wrong(text) <= 0.1
