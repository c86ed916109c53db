"""The messages of our own dialect, field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from protocol import native_client_messages as client
from protocol import native_server_messages as server
from protocol.errors import BadRequest
from protocol.events import Reason
from protocol.native_client_messages import ConnectParams, parse_client_message, parse_connect
from protocol.timed_word import TimedWord


def messages() -> list[type[BaseModel]]:
    """Every model of the wire."""
    models = [*vars(client).values(), *vars(server).values()]
    return [each for each in models if isinstance(each, type) and issubclass(each, BaseModel) and each is not BaseModel]


GOOD = {"call_id": "a call", "sample_rate": "16000"}

# Connect parameters


def test_defaults() -> None:
    """Only `call_id` and `sample_rate` must be given."""
    assert parse_connect(GOOD).model_dump() == {
        "call_id": "a call",
        "sample_rate": 16000,
        "codec": "pcm_s16le",
        "channels": 1,
        "frame_ms": 20,
        "partial_ms": 500,
        "language": "auto",
        "hotwords": (),
        "vad_silence_ms": None,
        "vad_threshold": None,
        "words": False,
        "events": (),
    }


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("call_id", "x" * 128, "x" * 128),
        ("call_id", "電話 1", "電話 1"),
        ("frame_ms", "10", 10),
        ("frame_ms", "1000", 1000),
        ("partial_ms", "100", 100),
        ("partial_ms", "10000", 10_000),
        ("language", "AUTO", "AUTO"),
        ("language", "zh-Hant-TW", "zh-Hant-TW"),
        ("language", "yue", "yue"),
        ("language", "en_US", "en-US"),
        ("hotwords", "", ()),
        ("hotwords", " a, b c ,,d", ("a", "b c", "d")),
        ("hotwords", ",".join(["x" * 64] * 100), ("x" * 64,) * 100),
        ("vad_silence_ms", "100", 100),
        ("vad_silence_ms", "5000", 5000),
        ("vad_threshold", "0", 0.0),
        ("vad_threshold", "149.5", 149.5),
        ("vad_threshold", "32768", 32768.0),
        ("words", "true", True),
        ("words", "0", False),
        ("events", "", ()),
        ("events", "speech", ("speech",)),
        ("events", " speech ,", ("speech",)),
    ],
)
def test_good_parameter(name: str, value: str, parsed: object) -> None:
    """Everything up to its limits is taken."""
    assert getattr(parse_connect(GOOD | {name: value}), name) == parsed


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("call_id", None, "is required"),
        ("call_id", "", "string should have at least 1 character"),
        ("call_id", "x" * 129, "string should have at most 128 characters"),
        ("call_id", "a\nb", "must be printable characters"),
        ("call_id", "\x7f", "must be printable characters"),
        ("sample_rate", None, "is required"),
        ("sample_rate", "abc", "input should be a valid integer, unable to parse string as an integer"),
        ("sample_rate", "", "input should be a valid integer, unable to parse string as an integer"),
        ("sample_rate", "7999", "input should be greater than or equal to 8000"),
        ("sample_rate", "9" * 5000, "unable to parse input string as an integer, exceeded maximum size"),
        ("codec", "mp3", "input should be 'pcm_s16le', 'pcm_f32le', 'mulaw', 'alaw' or 'opus'"),
        ("channels", "3", "input should be less than or equal to 2"),
        ("channels", "one", "input should be a valid integer, unable to parse string as an integer"),
        ("frame_ms", "9", "input should be greater than or equal to 10"),
        ("frame_ms", "1001", "input should be less than or equal to 1000"),
        ("frame_ms", "20.5", "input should be a valid integer, unable to parse string as an integer"),
        ("partial_ms", "99", "input should be greater than or equal to 100"),
        ("partial_ms", "10001", "input should be less than or equal to 10000"),
        ("partial_ms", "nan", "input should be a valid integer, unable to parse string as an integer"),
        *(
            ("language", tag, "must be auto or a BCP-47 tag such as en or zh-CN")
            for tag in (
                "",
                "e",
                "en-",
                "-en",
                "en us",
                "englishmen-x",
                "12",
                "én",
                "en\n",
                "en-toolongsub",
            )
        ),
        ("hotwords", "x" * 65, "string should have at most 64 characters"),
        ("hotwords", ",".join(["x"] * 101), "at most 100 are allowed"),
        ("vad_silence_ms", "99", "input should be greater than or equal to 100"),
        ("vad_silence_ms", "5001", "input should be less than or equal to 5000"),
        ("vad_silence_ms", "", "input should be a valid integer, unable to parse string as an integer"),
        ("vad_threshold", "-1", "input should be greater than or equal to 0"),
        ("vad_threshold", "32769", "input should be less than or equal to 32768"),
        ("vad_threshold", "nan", "input should be a finite number"),
        ("words", "maybe", "input should be a valid boolean, unable to interpret input"),
        ("events", "speech,music", "input should be 'speech' or 'level'"),
    ],
)
def test_bad_parameter(name: str, value: str | None, reason: str) -> None:
    """A parameter that is wrong is refused by its name, with the reason."""
    query = {key: each for key, each in (GOOD | {name: value}).items() if each is not None}
    with pytest.raises(BadRequest) as refused:
        parse_connect(query)
    assert str(refused.value) == f"{name}: {reason}"


def test_unknown_parameter() -> None:
    """Unknown parameters are ignored."""
    assert parse_connect(GOOD | {"colour": "blue"}) == parse_connect(GOOD)


names = st.sampled_from(sorted(ConnectParams.model_fields)) | st.text(max_size=10)
values = st.text() | st.integers().map(str) | st.sampled_from(["16000", "1", "pcm_s16le", "en", "auto", "a,b"])


@given(st.dictionaries(names, values), st.booleans())
def test_any_query(query: dict[str, str], is_good: bool) -> None:
    """Whatever a query says, it is taken or refused by name, never anything else."""
    try:
        params = parse_connect(GOOD | query if is_good else query)
    except BadRequest as refused:
        name, _, reason = str(refused).partition(": ")
        assert name in ConnectParams.model_fields
        assert reason
    else:
        assert (params.sample_rate, params.channels, params.codec) == (16_000, 1, "pcm_s16le")
        assert 1 <= len(params.call_id) <= 128
        assert params.call_id.isprintable()
        assert 100 <= params.partial_ms <= 10_000
        assert len(params.hotwords) <= 100
        assert all(0 < len(word) <= 64 for word in params.hotwords)


# Client messages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"commit"}', client.Commit(type="commit")),
        (' {"type" : "commit", "why": 1} ', client.Commit(type="commit")),
        ('{"type":"commit","id":"a"}', client.Commit(type="commit", id="a")),
        ('{"type":"commit","id":7}', client.Commit(type="commit", id=7)),
        ('{"type":"commit","id":{"a":1}}', client.Commit(type="commit")),
        (f'{{"type":"commit","id":"{"x" * 129}"}}', client.Commit(type="commit")),
        ('{"type":"clear"}', client.Clear(type="clear")),
        ('{"type":"keepalive"}', client.KeepAlive(type="keepalive")),
        ('{"type":"finish"}', client.Finish(type="finish")),
        ('{"type":"configure"}', client.Configure(type="configure")),
        (
            '{"type":"configure","hotwords":[" a ","","b c"]}',
            client.Configure(type="configure", hotwords=("a", "b c")),
        ),
        (
            '{"type":"configure","language":"de","hotwords":["a","b c"],"vad_silence_ms":700,"endpointing":false}',
            client.Configure(
                type="configure", language="de", hotwords=("a", "b c"), vad_silence_ms=700, endpointing=False
            ),
        ),
        ('{"type":"configure","hotwords":"a, b"}', client.Configure(type="configure", hotwords=("a", "b"))),
        ('{"type":"configure","hotwords":[]}', client.Configure(type="configure", hotwords=())),
    ],
)
def test_client_message(text: str, message: object) -> None:
    """A message is known by its type; fields that are unknown or null count for nothing."""
    assert parse_client_message(text) == message


NO_MESSAGES = """commit|"commit"|null|[]|{}|{"type":"Commit"}|{"type":["commit"]}|{"type":"stop"}|[|{"type":"commit\""""


@pytest.mark.parametrize("text", ["", "\x00", "\ud800", "[" * 100_000, *NO_MESSAGES.split("|")])
def test_no_client_message(text: str) -> None:
    """Any other text is none."""
    with pytest.raises(ValidationError):
        parse_client_message(text)


# Server messages

BASE = {"call_id", "created_at", "type"}
FINAL_FIELDS = "segment_seq text final first_token_ms latency_ms segment_duration_ms start_ms end_ms reason language"
FINAL: dict[str, Any] = {
    "call_id": "a",
    "created_at": 1.5,
    "segment_seq": 0,
    "text": "hi",
    "first_token_ms": 1,
    "latency_ms": 2,
    "segment_duration_ms": 4,
    "start_ms": 3,
    "end_ms": 7,
    "reason": Reason.MAX_LENGTH,
    "language": "en",
}


READY_FIELDS = "sample_rate codec channels frame_ms partial_ms language backend hotwords_used"
READY_FIELDS += " connection_id vad_silence_ms vad_threshold words events"


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (
            server.Ready(
                call_id="a",
                created_at=1.5,
                sample_rate=16_000,
                codec="pcm_s16le",
                channels=1,
                frame_ms=20,
                partial_ms=500,
                language="auto",
                backend="mock",
                connection_id="c1",
                hotwords_used=False,
                vad_silence_ms=500,
                vad_threshold=300,
                words=True,
                events=("speech",),
            ),
            READY_FIELDS,
        ),
        (
            server.Partial(call_id="a", created_at=1.5, segment_seq=0, text="hi", stable_chars=0),
            "segment_seq text stable_chars final",
        ),
        (server.Final(**FINAL), FINAL_FIELDS),
        (server.Final(**FINAL, words=[]), FINAL_FIELDS + " words"),
        (server.Final(**FINAL, id="x"), FINAL_FIELDS + " id"),
        (
            server.ErrorMessage(call_id="", created_at=1.5, connection_id="c1", code=1008, message="no"),
            "connection_id code message",
        ),
    ],
)
def test_fields(message: Any, fields: str) -> None:  # noqa: ANN401 - any of them
    """Each message has exactly its fields; `words` and `id` only where there are some."""
    assert set(json.loads(message.to_json())) == BASE | set(fields.split())


def test_final_as_json() -> None:
    """A final on the wire, word by word."""
    word = TimedWord(word="hi", start_ms=3, end_ms=7, confidence=0.5)
    assert json.loads(server.Final(**FINAL, words=[word]).to_json()) == FINAL | {
        "type": "final",
        "final": True,
        "reason": "max_length",
        "words": [{"word": "hi", "start_ms": 3, "end_ms": 7, "confidence": 0.5}],
    }


@pytest.mark.parametrize("model", messages(), ids=lambda model: model.__name__)
def test_every_field_is_defined(model: type[BaseModel]) -> None:
    """Every field on the wire has its one definition."""
    assert [name for name, field in model.model_fields.items() if not field.description] == []
