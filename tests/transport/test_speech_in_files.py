"""One recording in every container and codec says the same, through a real server with whisper."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator

import numpy as np
import pytest

from bench.common.word_error_rate import normalise, rate, score
from protocol.pcm import Samples
from tests.audio import silence
from tests.http_client import HTTP
from tests.protocol.audio_files import FORMATS, Format
from tests.server import ROOT, Server
from tests.weights import settings_of

pytest.importorskip("faster_whisper")
pytestmark = pytest.mark.slow

SHARED = ROOT.parent / "shared" / "speech"
NAMES = ("en_jfk", "en_lj050_0131", "en_lj002_0020", "en_libri_2412_153948_0000")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("whisper-server"), settings_of("base")) as server:
        yield server


@pytest.fixture(scope="module")
def spoken() -> str:
    """What is said in the recordings, by their readers."""
    lines = map(json.loads, (SHARED / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
    texts = {line["file"]: line["text"] for line in lines}
    return " ".join(texts[f"{name}.wav"] for name in NAMES)


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Human speech: what is synthesised is too near to other words."""
    if not SHARED.exists():
        pytest.skip("shared speech is not here")
    pieces = []
    for name in NAMES:
        with wave.open(str(SHARED / f"{name}.wav")) as recording:
            pieces.append(recording.readframes(recording.getnframes()) + silence(1_000))
    return np.frombuffer(b"".join(pieces), "<i2")


@pytest.fixture(scope="module")
def original(server: Server, speech: Samples) -> str:
    """What the recording says as 16 kHz WAV."""
    return words_of(server, FORMATS[0], speech)


def words_of(server: Server, form: Format, samples: Samples) -> str:
    answer = HTTP.post(
        f"{server.http}/v1/stt/transcribe?language=en",
        files={"file": (form.file_name, form.encoded(samples))},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["warnings"] == []
    text: str = answer.json()["text"]
    return text


@pytest.mark.parametrize("form", FORMATS[1:], ids=str)
def test_another_format_says_the_same(
    server: Server, speech: Samples, spoken: str, original: str, form: Format
) -> None:
    """The same words where the format is lossless; elsewhere a word error rate at most 0.05 higher."""
    text = words_of(server, form, speech)
    best = rate([score(spoken, original)]) or 0.0

    if form.is_lossless:
        # Not letter by letter: which pieces are decoded together, and so how they are rounded, is a matter of timing.
        assert normalise(text) == normalise(original)
    else:
        assert (rate([score(spoken, text)]) or 0.0) <= best + 0.05
