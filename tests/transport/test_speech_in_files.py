"""One recording in every container and codec says the same, through a real server with whisper."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from bench.common.word_error_rate import rate, score
from protocol.pcm import Samples
from tests.audio import reference, silence, text_of
from tests.http_client import HTTP
from tests.protocol.audio_files import FORMATS, Format
from tests.server import Server
from tests.weights import settings_of

pytest.importorskip("faster_whisper")
pytestmark = pytest.mark.slow

NAMES = ("weather", "wind", "train", "school", "price", "pauses_meeting", "radio")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("whisper-server"), settings_of("base")) as server:
        yield server


@pytest.fixture(scope="module")
def speech() -> Samples:
    return np.frombuffer(b"".join(reference(name) + silence(1_000) for name in NAMES), "<i2")


@pytest.fixture(scope="module")
def original(server: Server, speech: Samples) -> str:
    """What the recording says as 16 kHz WAV."""
    return words_of(server, FORMATS[0], speech)


def words_of(server: Server, form: Format, samples: Samples) -> str:
    answer = HTTP.post(
        f"{server.http}/v1/stt/transcribe?language=en",
        files={"file": (form.file_name, form.encoded(samples))},
        timeout=100,
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["warnings"] == []
    text: str = answer.json()["text"]
    return text


def test_the_recording_itself(original: str) -> None:
    """Of the words of 16 kHz WAV at most one in twenty is wrong."""
    assert (rate([score(" ".join(map(text_of, NAMES)), original)]) or 0.0) <= 0.05


@pytest.mark.parametrize("form", FORMATS[1:], ids=str)
def test_another_format_says_the_same(server: Server, speech: Samples, original: str, form: Format) -> None:
    """The same words where the format is lossless, and at most one in twenty another one where it is not."""
    differences = score(original, words_of(server, form, speech))

    assert differences.errors == 0 if form.is_lossless else (rate([differences]) or 0.0) <= 0.05
