"""OpenAI's forms, answers and errors for files, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from protocol.dialect import ServerInfo
from protocol.errors import BadRequest, InternalError, KeyLimitReached, RefusalReason, ServerBusy, Unauthorized
from protocol.events import Word
from protocol.file_dialect import FileOptions, FileProgress, FileSegment, FileTranscript
from protocol.openai_errors import BadParameter
from protocol.openai_files import OpenAiFiles, OpenAiTranslations

SERVER = ServerInfo("whisper", frozenset({"en", "de"}), True, True, 500, 300.0, translates=True)
PLAIN = ServerInfo("mock", None, False, False, 500, 300.0)
WORDS = (Word("Hello", 100, 400, 0.9),)
TRANSCRIPT = FileTranscript(
    [
        FileSegment(start_ms=100, end_ms=400, text="Hello", words=WORDS),
        FileSegment(start_ms=900, end_ms=1300, text="world."),
    ],
    1_400,
    "en",
    [],
    7,
)


def _read(*fields: tuple[str, str], server: ServerInfo = SERVER) -> FileOptions:
    return OpenAiFiles(server).open("", [("model", "whisper-1"), *fields])


def _answer(*fields: tuple[str, str]) -> Any:  # noqa: ANN401 - whatever JSON holds
    dialect = OpenAiFiles(SERVER)
    dialect.open("", [("model", "whisper-1"), *fields])
    answer = dialect.answer(TRANSCRIPT)
    return json.loads(answer.body) if answer.content_type == "application/json" else answer.body


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ([], FileOptions()),
        ([("language", "de"), ("prompt", "before")], FileOptions(language="de", context="before")),
        ([("language", "German")], FileOptions(language="de")),
        ([("languages[]", "de")], FileOptions(language="de")),
        ([("languages[]", "de"), ("languages[]", "en")], FileOptions()),
        ([("keywords[]", "a"), ("keywords[]", "b")], FileOptions(hotwords=("a", "b"))),
        ([("keywords", "a")], FileOptions(hotwords=("a",))),
        ([("stream", "true")], FileOptions(stream=True)),
        ([("response_format", "srt")], FileOptions(words=True)),
        ([("response_format", "verbose_json"), ("timestamp_granularities[]", "word")], FileOptions(words=True)),
        ([("chunking_strategy", "auto")], FileOptions()),
        (
            [("chunking_strategy[type]", "server_vad"), ("chunking_strategy[silence_duration_ms]", "300")],
            FileOptions(silence_ms=300),
        ),
        ([("chunking_strategy[silence_duration_ms]", "25")], FileOptions(silence_ms=100)),
        ([("chunking_strategy[threshold]", "0.5")], FileOptions()),
        ([("chunking_strategy[threshold]", "0.25")], FileOptions(vad_threshold=150.0)),
        ([("chunking_strategy", '{"type":"server_vad","threshold":1}')], FileOptions(vad_threshold=600.0)),
        ([("temperature", "0.2"), ("include[]", "logprobs"), ("known_speaker_names[]", "x")], FileOptions()),
    ],
)
def test_fields_are_read(fields: list[tuple[str, str]], options: FileOptions) -> None:
    """With and without brackets; what this server has no use for is ignored."""
    assert _read(*fields) == options


@pytest.mark.parametrize(
    ("name", "value", "server", "param"),
    [
        ("response_format", "diarized_json", SERVER, "response_format"),
        ("response_format", "xml", SERVER, "response_format"),
        ("language", "fr", SERVER, "language"),
        ("language", "!", SERVER, "language"),
        ("stream", "maybe", SERVER, "stream"),
        ("temperature", "warm", SERVER, "temperature"),
        ("chunking_strategy", "never", SERVER, "chunking_strategy"),
        ("chunking_strategy[threshold]", "nan", SERVER, "chunking_strategy[threshold]"),
        ("timestamp_granularities[]", "line", SERVER, "timestamp_granularities"),
        ("keywords[]", "x" * 65, SERVER, "keywords"),
        ("timestamp_granularities[]", "word", PLAIN, "timestamp_granularities"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(name: str, value: str, server: ServerInfo, param: str) -> None:
    """Status 400, the type `invalid_request_error`, and the parameter."""
    with pytest.raises(BadParameter) as refused:
        _read(("response_format", "verbose_json"), (name, value), server=server) if "gran" in name else _read(
            (name, value), server=server
        )
    refusal = OpenAiFiles(server).refusal(refused.value)
    error = json.loads(refusal.body)["error"]

    assert (refusal.status, error["type"], error["param"]) == (400, "invalid_request_error", param)


def test_json() -> None:
    """Text, usage and the language."""
    assert _answer() == {
        "text": "Hello world.",
        "usage": {"type": "duration", "seconds": 2},
        "languages": [{"code": "en"}],
    }


def test_verbose_json() -> None:
    """Segments by default, words and segments as asked for, and the language by its English name."""
    answer = _answer(("response_format", "verbose_json"), ("temperature", "0.2"))
    words = _answer(("response_format", "verbose_json"), ("timestamp_granularities[]", "word"))

    assert (answer["task"], answer["language"], answer["duration"]) == ("transcribe", "english", 1.4)
    assert "words" not in answer
    first = answer["segments"][0]
    assert set(first) == set(
        "id seek start end text tokens temperature avg_logprob compression_ratio no_speech_prob".split()  # noqa: SIM905 - short
    )
    assert (first["id"], first["start"], first["end"], first["text"], first["temperature"]) == (
        0,
        0.1,
        0.4,
        "Hello",
        0.2,
    )
    assert words["words"] == [{"word": "Hello", "start": 0.1, "end": 0.4}]
    assert "segments" not in words


def test_texts() -> None:
    """`text`, `srt` and `vtt` are bare texts."""
    assert _answer(("response_format", "text")) == "Hello world.\n"
    assert _answer(("response_format", "srt")).startswith("1\n00:00:00,100 --> 00:00:00,900\nHello\n\n2\n")
    assert _answer(("response_format", "vtt")).startswith("WEBVTT\n\n00:00:00.100 --> ")


def test_deltas_make_the_text() -> None:
    """Each segment is a delta; together they are the text of `done`."""
    dialect = OpenAiFiles(SERVER)
    dialect.open("", [("stream", "true")])
    deltas = [json.loads(data) for each in TRANSCRIPT.segments for data in dialect.report(each)]
    (done,) = map(json.loads, dialect.finish(TRANSCRIPT))

    assert dialect.report(FileProgress(10_000)) == ()
    assert {each["type"] for each in deltas} == {"transcript.text.delta"}
    assert "".join(each["delta"] for each in deltas) == done["text"] == "Hello world."
    assert (done["type"], done["usage"]["seconds"]) == ("transcript.text.done", 2)


def test_translations() -> None:
    """The task is `translate` where the engine translates; else the request is refused."""
    dialect = OpenAiTranslations(SERVER)
    options = dialect.open("", [("model", "whisper-1"), ("language", "de"), ("response_format", "verbose_json")])
    verbose = json.loads(dialect.answer(TRANSCRIPT).body)
    with pytest.raises(BadRequest, match="does not translate"):
        OpenAiTranslations(PLAIN).open("", [])

    assert (options.translate, options.language) == (True, "auto")
    assert (verbose["task"], verbose["language"]) == ("translate", "english")


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (Unauthorized("x"), 401, "invalid_request_error", "invalid_api_key"),
        (KeyLimitReached("x"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (BadRequest("x"), 400, "invalid_request_error", None),
        (ServerBusy("x", RefusalReason.FULL), 503, "server_error", None),
        (InternalError(), 500, "server_error", None),
    ],
)
def test_errors(error: Any, status: int, kind: str, code: str | None) -> None:  # noqa: ANN401 - any ServiceError
    """Status, type and code are those that OpenAI's clients know."""
    refusal = OpenAiFiles(SERVER).refusal(error)
    shown = json.loads(refusal.body)["error"]

    assert (refusal.status, shown["type"], shown["code"]) == (status, kind, code)
    assert ("retry-after" in refusal.headers) == (status in (429, 503))
