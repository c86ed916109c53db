"""OpenAI's own Python client, unmodified, with files: on whisper's real weights and recordings of speech."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from bench.common.word_error_rate import rate, score
from tests.audio import REFERENCES, text_of
from tests.patience import PATIENCE_SECONDS
from tests.server import ROOT, Server
from tests.weights import settings_of

openai = pytest.importorskip("openai")
pytest.importorskip("faster_whisper")
pytestmark = pytest.mark.slow

KEY = "sk-test-0123456789abcdef"
SPOKEN = "meeting"
SHARED = ROOT.parent / "shared" / "speech"
GERMAN = "Der hinter diesem Portal liegende Raum wurde als Leichenhalle genutzt."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = settings_of("base") | {"STT_API_KEYS": f"test={KEY}"}
    with Server(tmp_path_factory.mktemp("openai-server"), settings) as server:
        yield server


@contextmanager
def _client(server: Server, key: str = KEY) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server.http}/v1", api_key=key, max_retries=0, timeout=PATIENCE_SECONDS) as client:
        yield client


def _ask(server: Server, file: Path = REFERENCES / f"{SPOKEN}.wav", **options: Any) -> Any:  # noqa: ANN401 - the package is optional
    with file.open("rb") as opened, _client(server) as client:
        answer = client.audio.transcriptions.create(**{"file": opened, "model": "whisper-1"} | options)
        return list(answer) if options.get("stream") else answer


def _wrong(said: str, text: str = text_of(SPOKEN), language: str = "en") -> float:
    return rate([score(text, said, language)]) or 0.0


def test_json(server: Server) -> None:
    """The text and the usage."""
    answer = _ask(server)
    assert _wrong(answer.text) <= 0.1
    assert answer.usage.seconds > 0


@pytest.mark.parametrize("form", ["text", "srt", "vtt"])
def test_texts(server: Server, form: str) -> None:
    """A plain text, and subtitles with the same words."""
    answer = _ask(server, response_format=form)
    lines = [line for line in answer.splitlines() if line and "-->" not in line and not line.isdigit()]
    assert _wrong(" ".join(lines).removeprefix("WEBVTT ")) <= 0.1
    assert (form == "text") != ("-->" in answer)
    assert all(len(line) <= 42 for line in lines if form != "text")


def test_verbose_json(server: Server) -> None:
    """Segments, words with times, duration and language."""
    answer = _ask(server, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    words = [word.word for word in answer.words]

    assert answer.language == "english"
    assert _wrong(" ".join(words)) <= 0.1
    assert _wrong(" ".join(segment.text for segment in answer.segments)) <= 0.1
    assert all(word.start <= word.end <= answer.duration for word in answer.words)


def test_every_field_is_taken(server: Server) -> None:
    """All that the client can send, in one request."""
    answer = _ask(
        server,
        model="gpt-transcribe",
        languages=["en", "de"],
        keywords=["meeting"],
        prompt="A meeting.",
        temperature=0.2,
        include=["logprobs"],
        response_format="json",
        chunking_strategy={
            "type": "server_vad",
            "threshold": 0.5,
            "silence_duration_ms": 300,
            "prefix_padding_ms": 200,
        },
        known_speaker_names=["x"],
        known_speaker_references=["data:audio/wav;base64,AA"],
    )
    assert _wrong(answer.text) <= 0.1
    assert answer.languages[0].code == "en"


@pytest.mark.parametrize("strategy", ["auto", None])
def test_streamed(server: Server, strategy: Literal["auto"] | None) -> None:
    """Deltas that make the text of the last event."""
    options = {"chunking_strategy": strategy} if strategy else {}
    pauses = REFERENCES / "pauses_meeting.wav"
    events = _ask(server, pauses, stream=True, model="gpt-4o-transcribe", **options)

    assert events[-1].type == "transcript.text.done"
    assert len(events) > 2
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert _wrong(events[-1].text, text_of("pauses_meeting")) <= 0.15


def test_asynchronously(server: Server) -> None:
    """The asynchronous client, plain and streamed."""

    async def ask() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{server.http}/v1", api_key=KEY, timeout=PATIENCE_SECONDS) as client:
            content = ("a.wav", (REFERENCES / f"{SPOKEN}.wav").read_bytes())
            plain = await client.audio.transcriptions.create(file=content, model="whisper-1")
            events = await client.audio.transcriptions.create(file=content, model="whisper-1", stream=True)
            return plain.text, [event async for event in events][-1].text

    plain, streamed = asyncio.run(ask())
    assert _wrong(plain) <= 0.1
    assert streamed == plain


@pytest.mark.skipif(not SHARED.exists(), reason="shared speech is not here")
@pytest.mark.filterwarnings("ignore:deprecated")  # translations are, says the client
def test_another_language(server: Server) -> None:
    """German, detected and told; translated into English."""
    answer = _ask(server, SHARED / "de_leopard.wav", response_format="verbose_json")
    with (SHARED / "de_leopard.wav").open("rb") as file, _client(server) as client:
        english = client.audio.translations.create(file=file, model="whisper-1").text

    assert answer.language == "german"
    assert _wrong(answer.text, GERMAN, "de") <= 0.4
    assert {"the", "this", "room"} & set(english.lower().replace(".", "").split())


def test_models(server: Server) -> None:
    """The list, one of it, and one that is not there."""
    with _client(server) as client:
        ids = [model.id for model in client.models.list()]
        one = client.models.retrieve("whisper-1")
        with pytest.raises(openai.NotFoundError) as missing:
            client.models.retrieve("nope")

    assert {"whisper", "whisper-1"} <= set(ids)
    assert one.id == "whisper-1"
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


def test_errors_are_those_of_the_client(server: Server, tmp_path: Path) -> None:
    """Its classes, with code, parameter and request id."""
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with _client(server, "sk-another-0123456789") as client, pytest.raises(openai.AuthenticationError) as wrong_key:
        client.models.list()
    with pytest.raises(openai.BadRequestError) as diarized:
        _ask(server, response_format="diarized_json")
    with pytest.raises(openai.BadRequestError) as no_audio:
        _ask(server, tmp_path / "a.wav", stream=True)

    assert wrong_key.value.code == "invalid_api_key"
    assert diarized.value.param == "response_format"
    assert diarized.value.request_id
    assert "is not audio" in no_audio.value.message
