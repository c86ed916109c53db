"""Our own dialect: messages in, commands out; events in, messages out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import events
from protocol.dialect import Handshake, ServerInfo, SessionOptions
from protocol.errors import BadRequest, InternalError
from protocol.native import NativeDialect

SERVER = ServerInfo(
    "mock", frozenset({"de", "en"}), uses_hotwords=True, has_words=True, silence_ms=500, vad_threshold=300.0
)
QUERY = "call_id=a&sample_rate=16000"
BASE = {"call_id": "a", "created_at": 1.5}
REFUSED = events.WarningCode.CONFIGURE_REFUSED


def opened(query: str = "") -> NativeDialect:
    dialect = NativeDialect(SERVER)
    dialect.open(Handshake("/v1/stt/ws", f"{QUERY}&{query}", {}, "c1"))
    return dialect


def messages_of(event: events.Event, query: str = "") -> list[dict[str, Any]]:
    return [json.loads(message) for message in opened(query).tell(event, 1.5)]


def test_open() -> None:
    """The query's parameters become the session's options; what is not given is the server's."""
    asked = "language=de&hotwords=a,b&frame_ms=40&partial_ms=200&vad_silence_ms=700&vad_threshold=90&words=true"
    options = NativeDialect(SERVER).open(Handshake("", f"{QUERY}&{asked}", {}))
    assert options == SessionOptions("a", "de", ("a", "b"), 40, 200, 700, 90.0, words=True, binary_is_pcm=True)
    assert NativeDialect(SERVER).open(Handshake("", QUERY, {})) == SessionOptions("a", binary_is_pcm=True)


@pytest.mark.parametrize(
    ("codec", "is_pcm"), [("pcm_s16le&sample_rate=48000", True), ("opus&sample_rate=48000", False)]
)
def test_only_pcm_messages_may_be_joined(codec: str, is_pcm: bool) -> None:
    """A message of Opus is a packet, which must stay whole."""
    options = NativeDialect(SERVER).open(Handshake("", f"call_id=a&sample_rate=48000&codec={codec}", {}))
    assert isinstance(options, SessionOptions)
    assert options.binary_is_pcm is is_pcm


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "call_id: is required"),
        ("call_id=a&sample_rate=7999", "sample_rate: input should be greater than or equal to 8000"),
        (f"{QUERY}&language=fr", "language fr is not supported: use auto or de, en"),
    ],
)
def test_wrong_parameters(query: str, reason: str) -> None:
    """A wrong parameter is reported after the upgrade, as `error` and 1008."""
    dialect = NativeDialect(SERVER)
    with pytest.raises(BadRequest) as refused:
        dialect.open(Handshake("", query, {}))
    close = dialect.goodbye(refused.value, 1.5)
    (message,) = map(json.loads, close.messages)
    assert (message["type"], message["code"], message["message"], close.code) == ("error", 1008, reason, 1008)


def test_hello() -> None:
    """`ready` has every setting in effect."""
    (ready,) = map(json.loads, opened("hotwords=a&vad_silence_ms=700&events=speech").hello(1.5))
    assert ready == BASE | {
        "type": "ready",
        "sample_rate": 16000,
        "codec": "pcm_s16le",
        "channels": 1,
        "frame_ms": 20,
        "partial_ms": 500,
        "language": "auto",
        "backend": "mock",
        "connection_id": "c1",
        "hotwords_used": True,
        "vad_silence_ms": 700,
        "vad_threshold": 300.0,
        "words": False,
        "events": ["speech"],
    }


@pytest.mark.parametrize(
    ("message", "command"),
    [
        (b"ab", events.Audio(b"ab")),
        ('{"type":"commit"}', events.Commit()),
        ('{"type":"commit","id":"x"}', events.Commit("x")),
        ('{"type":"clear"}', events.Clear()),
        (
            '{"event":"start","streamSid":"x"}',
            events.Unknown("text message is not one of commit, clear, configure, keepalive, finish"),
        ),
        ('{"type":"keepalive"}', events.KeepAlive()),
        ('{"type":"finish"}', events.Finish()),
        ('{"type":"configure","language":"de"}', events.Configure(language="de")),
        (
            '{"type":"configure","vad_silence_ms":99}',
            events.Reject(REFUSED, "vad_silence_ms: input should be greater than or equal to 100"),
        ),
        (
            '{"type":"configure","language":"fr"}',
            events.Reject(REFUSED, "language fr is not supported: use auto or de, en"),
        ),
        ('{"type":"configure","hotwords":7}', events.Reject(REFUSED, "hotwords: input should be a valid array")),
    ],
)
def test_take(message: str | bytes, command: events.Command) -> None:
    """Every message is one command; settings that cannot be used change nothing."""
    assert list(opened().take(message)) == [command]


@given(st.text() | st.dictionaries(st.sampled_from(["type", "id"]), st.text() | st.just("commit")).map(json.dumps))
def test_take_anything(text: str) -> None:
    """Any text is one command, and what is unknown is not repeated."""
    (command,) = opened().take(text)
    if isinstance(command, events.Unknown):
        assert command.message == "text message is not one of commit, clear, configure, keepalive, finish"


@pytest.mark.parametrize(
    ("message", "command"),
    [
        (b'{"type":"commit"}', events.Commit()),
        (b'{"type":"stop"}', events.Audio(b'{"type":"stop"}')),
        (b"{}", events.Audio(b"{}")),
        (b"", events.Audio(b"")),
    ],
)
def test_a_command_sent_as_binary_is_understood(message: bytes, command: events.Command) -> None:
    """Some client libraries know binary messages only; everything else stays audio."""
    assert list(opened().take(message)) == [command]


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            events.Hypothesis(3, "hi yo", 2),
            {"type": "partial", "segment_seq": 3, "text": "hi yo", "stable_chars": 2, "final": False},
        ),
        (events.Warning(REFUSED, "why"), {"type": "warning", "code": "configure_refused", "message": "why"}),
        (events.Cleared(), {"type": "cleared"}),
        (
            events.Configured("de", ("a",), 700, endpointing=False),
            {
                "type": "configured",
                "language": "de",
                "hotwords": ["a"],
                "hotwords_used": True,
                "vad_silence_ms": 700,
                "endpointing": False,
            },
        ),
        (events.Finished(), {"type": "finished"}),
        (
            events.Final(0, "hi", 3, 7, events.Reason.COMMIT, "en", 1, 9.0, 2, (events.Word("hi", 3, 7, 0.5),), "x"),
            {
                "type": "final",
                "segment_seq": 0,
                "text": "hi",
                "final": True,
                "first_token_ms": 1,
                "latency_ms": 2,
                "segment_duration_ms": 4,
                "start_ms": 3,
                "end_ms": 7,
                "reason": "commit",
                "language": "en",
                "words": [{"word": "hi", "start_ms": 3, "end_ms": 7, "confidence": 0.5}],
                "id": "x",
            },
        ),
    ],
)
def test_tell(event: events.Event, message: dict[str, Any]) -> None:
    """Every event is one message, field by field."""
    assert messages_of(event) == [BASE | message]


def test_speech_events() -> None:
    """Only the client that asked gets them."""
    started, stopped = events.SpeechStarted(60), events.SpeechStopped(90)
    assert messages_of(started) == messages_of(stopped) == []
    assert messages_of(started, "events=speech") == [BASE | {"type": "speech_started", "start_ms": 60}]
    assert messages_of(stopped, "events=speech") == [BASE | {"type": "speech_stopped", "end_ms": 90}]


def test_goodbye() -> None:
    """A session that is finished ends with 1000 and no more messages; an error has its own code."""
    close = opened().goodbye(None, 1.5)
    assert (list(close.messages), close.code) == ([], 1000)
    close = opened().goodbye(InternalError(), 1.5)
    assert [json.loads(each) for each in close.messages] == [
        BASE | {"type": "error", "connection_id": "c1", "code": 1011, "message": "internal error"}
    ]
    assert (close.code, close.reason) == (1011, "internal error")
