"""OpenAI's Realtime dialect, message by message, without a server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import events
from protocol.dialect import Handshake, HttpRefusal, ServerInfo, SessionOptions
from protocol.errors import BadRequest, Idle, InternalError, PayloadTooLarge, ServerRestarting, ServiceError
from protocol.events import Reason, WarningCode
from protocol.openai_realtime import OpenAiRealtime

SERVER = ServerInfo("whisper", frozenset({"en", "de"}), True, True, 500, 300.0)
COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"
COMMITTED = ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]
NULL_TURNS = {"audio": {"input": {"turn_detection": None}}}


class Conversation:
    """A codec, and the session behind it where that is a matter of course."""

    def __init__(self, query: str = "intent=transcription", session: dict[str, Any] | None = None) -> None:
        self.dialect = OpenAiRealtime(SERVER)
        self.opened = self.dialect.open(Handshake("/v1/realtime", query, {}, "c0ffee", session or {}))
        self.created = self._read(self.dialect.hello(0.0))[0]

    def send(self, kind: str, **fields: Any) -> list[events.Command]:  # noqa: ANN401 - whatever JSON holds
        return list(self.dialect.take(json.dumps({"type": kind, **fields})))

    def update(self, session: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - likewise
        """Send a session.update, and let the session obey; what the client is told."""
        answers = []
        for command in self.send("session.update", session=session, **fields):
            match command:
                case events.Clear():
                    answers += self.tell(events.Cleared())
                case events.Configure():
                    answers += self.tell(events.Configured("auto", (), 500, True))
                case events.Reject(code, message):
                    answers += self.tell(events.Warning(code, message))
        return answers

    def tell(self, *happened: events.Event) -> list[dict[str, Any]]:
        return [each for event in happened for each in self._read(self.dialect.tell(event, 0.0))]

    def end(self, error: ServiceError | None) -> tuple[list[dict[str, Any]], int]:
        close = self.dialect.goodbye(error, 0.0)
        return self._read(close.messages), close.code

    def _read(self, messages: Iterable[str]) -> list[dict[str, Any]]:
        return [json.loads(message.encode(), parse_constant=_no_json) for message in messages]


def _final(text: str, start_ms: int = 500, end_ms: int = 1500, reason: Reason = Reason.ENDPOINT) -> events.Final:
    return events.Final(0, text, start_ms, end_ms, reason, "en", 0, 0.0)


def _no_json(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def _kinds(answers: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in answers]


def test_the_first_message() -> None:
    """`session.created` with the effective session, and event ids that are all different."""
    conversation = Conversation("intent=transcription&model=gpt-4o-transcribe")
    session = conversation.created["session"]
    asked = session["audio"]["input"]

    assert conversation.created["type"] == "session.created"
    assert (session["type"], session["object"]) == ("transcription", "realtime.transcription_session")
    assert session["id"] == "sess_c0ffee"
    assert asked["format"] == {"type": "audio/pcm", "rate": 24000}
    assert asked["transcription"] == {"model": "gpt-4o-transcribe"}
    assert asked["noise_reduction"] is None
    assert asked["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
    }
    answers = conversation.tell(events.SpeechStarted(800), events.SpeechStopped(1500), _final("Hello."))
    ids = [event["event_id"] for event in (conversation.created, *answers)]
    assert len(set(ids)) == len(ids)


def test_a_turn_with_server_vad() -> None:
    """The order of events, one item id in all of them, and deltas that are never taken back."""
    conversation = Conversation()
    answers = conversation.tell(
        events.SpeechStarted(800),
        events.Hypothesis(0, "He mite", 2),
        events.Hypothesis(0, "He might even have", 8),
        events.Hypothesis(0, "He might even have", 8),
        events.SpeechStopped(1500),
        _final("He might even have been."),
        events.SpeechStarted(3000),
        events.SpeechStopped(3500),
        _final("Yes."),
    )
    first = answers[:9]

    assert _kinds(first) == [
        "input_audio_buffer.speech_started",
        *[DELTA, DELTA],
        "input_audio_buffer.speech_stopped",
        *COMMITTED,
        *[DELTA, COMPLETED],
    ]
    assert (answers[0]["audio_start_ms"], answers[3]["audio_end_ms"]) == (500, 1500)
    assert [event["delta"] for event in first if event["type"] == DELTA] == ["He", " might", " even have been."]
    assert first[-1]["transcript"] == "He might even have been."
    assert first[-1]["usage"] == {"type": "duration", "seconds": 1.0}
    assert first[-1]["languages"] == [{"code": "en"}]
    ids = {event.get("item_id") or event["item"]["id"] for event in first}
    assert len(ids) == 1
    assert answers[4]["previous_item_id"] is None
    second = next(event for event in answers[9:] if event["type"] == "input_audio_buffer.committed")
    assert {second["previous_item_id"]} == ids
    assert first[6]["item"]["content"] == [{"type": "input_audio", "transcript": None}]


def test_a_final_that_contradicts_the_deltas_replaces_them() -> None:
    """No delta takes anything back; `completed` has the right text."""
    answers = Conversation().tell(
        events.SpeechStarted(800), events.Hypothesis(0, "He mite", 7), events.SpeechStopped(1500), _final("He might.")
    )
    assert [event["delta"] for event in answers if event["type"] == DELTA] == ["He mite"]
    assert answers[-1]["transcript"] == "He might."


def test_a_turn_without_words_is_completed() -> None:
    """Everything that was committed is completed, with an empty text if nothing was recognised."""
    answers = Conversation().tell(events.SpeechStarted(800), events.SpeechStopped(900), _final(""))
    assert (answers[-1]["type"], answers[-1]["transcript"]) == (COMPLETED, "")


def test_the_next_turn_may_begin_before_the_final() -> None:
    """Each final goes to its own item, in the order of speech."""
    answers = Conversation().tell(
        events.SpeechStarted(800),
        events.SpeechStopped(1500),
        events.SpeechStarted(2000),
        _final("One."),
        events.SpeechStopped(2500),
        _final("Two."),
    )
    started = [event["item_id"] for event in answers if event["type"] == "input_audio_buffer.speech_started"]
    completed = [(event["item_id"], event["transcript"]) for event in answers if event["type"] == COMPLETED]
    assert completed == [(started[0], "One."), (started[1], "Two.")]


def test_a_commit_makes_one_item_without_turn_detection() -> None:
    """Utterances that the server had to cut are joined; nothing is told before the commit but deltas."""
    conversation = Conversation()
    conversation.update(NULL_TURNS)
    before = conversation.tell(
        events.SpeechStarted(800),
        events.Hypothesis(0, "It was", 6),
        events.SpeechStopped(30_000, Reason.MAX_LENGTH),
        _final("It was the best", 800, 30_000, Reason.MAX_LENGTH),
        events.SpeechStarted(30_000),
        events.Hypothesis(1, "of times", 2),
    )
    answers = conversation.tell(
        events.SpeechStopped(31_000, Reason.COMMIT), _final("of times.", 30_000, 31_000, Reason.COMMIT)
    )

    assert [event["delta"] for event in before] == ["It was", " the best", " of"]
    assert _kinds(answers) == [*COMMITTED, DELTA, COMPLETED]
    assert answers[-1]["transcript"] == "It was the best of times."
    assert answers[-1]["usage"]["seconds"] == 30.2
    assert {event["item_id"] for event in before} == {answers[0]["item_id"]}


@pytest.mark.parametrize("session", [NULL_TURNS, {}])
def test_an_empty_commit_is_completed(session: dict[str, Any]) -> None:
    """With an empty text, and never an error."""
    conversation = Conversation()
    conversation.update(session)
    assert conversation.send("input_audio_buffer.commit") == [events.Commit()]
    answers = conversation.tell(events.SpeechStopped(0, Reason.COMMIT), _final("", 0, 0, Reason.COMMIT))
    assert _kinds(answers) == [*COMMITTED, COMPLETED]
    assert answers[-1]["transcript"] == ""


def test_a_stall_ends_no_item_without_turn_detection() -> None:
    """Only the client does."""
    conversation = Conversation()
    conversation.update(NULL_TURNS)
    answers = conversation.tell(
        events.SpeechStarted(0), events.SpeechStopped(900, Reason.STALLED), _final("One", reason=Reason.STALLED)
    )
    assert _kinds(answers) == [DELTA]


def test_clear() -> None:
    """The open item is forgotten, with the pieces of it that are still being decoded."""
    conversation = Conversation()
    conversation.update(NULL_TURNS)
    conversation.tell(events.SpeechStarted(0), events.SpeechStopped(30_000, Reason.MAX_LENGTH))
    assert conversation.send("input_audio_buffer.clear") == [events.Clear()]
    answers = conversation.tell(
        events.Cleared(),
        _final("forgotten", reason=Reason.MAX_LENGTH),
        events.SpeechStopped(31_000, Reason.COMMIT),
        _final("", reason=Reason.COMMIT),
    )
    assert _kinds(answers) == ["input_audio_buffer.cleared", *COMMITTED, COMPLETED]
    assert answers[-1]["transcript"] == ""


def test_audio_is_decoded_by_the_format_in_effect() -> None:
    """24 kHz at first; another format from its update on; an update without one changes nothing."""
    conversation = Conversation()

    def seconds(data: bytes) -> float:
        text = base64.b64encode(data).decode()
        commands = [
            *conversation.send("input_audio_buffer.append", audio=text),
            *conversation.send("input_audio_buffer.commit"),
        ]
        assert isinstance(commands[-1], events.Commit)
        return sum(len(command.data) for command in commands if isinstance(command, events.Audio)) / 32_000

    first = seconds(bytes(48_000))
    conversation.update({"audio": {"input": {"format": {"type": "audio/pcmu"}}}})
    second = seconds(b"\xff" * 8_000)
    conversation.update({"audio": {"input": {"transcription": {"language": "de"}}}})
    third = seconds(b"\xff" * 8_000)

    assert (first, second, third) == pytest.approx((1, 1, 1), abs=0.001)


@pytest.mark.parametrize(
    ("turn_detection", "expected"),
    [
        ({"type": "server_vad"}, (500, True, 300.0)),
        ({"type": "server_vad", "silence_duration_ms": 200, "threshold": 0.25}, (200, True, 150.0)),
        ({"type": "server_vad", "silence_duration_ms": 25}, (100, True, 300.0)),
        ({"type": "semantic_vad"}, (1000, True, 300.0)),
        ({"type": "semantic_vad", "eagerness": "low"}, (1500, True, 300.0)),
        ({"type": "semantic_vad", "eagerness": "high"}, (500, True, 300.0)),
        (None, (500, False, 300.0)),
    ],
)
def test_turn_detection(turn_detection: dict[str, Any] | None, expected: tuple[int, bool, float]) -> None:
    """0.5 is the server's own threshold; eagerness is a longer silence; null leaves the end to the client."""
    (command,) = Conversation().send("session.update", session={"audio": {"input": {"turn_detection": turn_detection}}})
    assert isinstance(command, events.Configure)
    assert (command.silence_ms, command.endpointing, command.vad_threshold) == expected


@pytest.mark.parametrize("model", ["gpt-realtime-whisper", "gpt-live-transcribe-2026-08-01"])
def test_some_models_imply_that_the_client_ends_turns(model: str) -> None:
    """In the query or in an update, unless the client says otherwise."""
    by_query = Conversation(f"intent=transcription&model={model}").opened
    conversation = Conversation()
    (implied,) = conversation.send("session.update", session={"audio": {"input": {"transcription": {"model": model}}}})
    *_, said = conversation.send(
        "session.update", session={"audio": {"input": {"turn_detection": {"type": "server_vad"}}}}
    )

    assert isinstance(by_query, SessionOptions)
    assert isinstance(implied, events.Configure)
    assert isinstance(said, events.Configure)
    assert (by_query.endpointing, implied.endpointing, said.endpointing) == (False, False, True)


def test_updates_are_merged() -> None:
    """Only what an update names changes; the answer has all."""
    conversation = Conversation()
    conversation.update({"audio": {"input": {"transcription": {"language": "en", "prompt": "p", "keywords": ["a"]}}}})
    (command,) = [
        each
        for each in conversation.send(
            "session.update", session={"audio": {"input": {"transcription": {"language": "de"}}}}
        )
        if isinstance(each, events.Configure)
    ]
    answer = conversation.tell(events.Cleared(), events.Configured("de", (), 500, True))[-1]

    assert (command.language, command.hotwords, command.context) == ("de", ("a",), "p")
    assert answer["type"] == "session.updated"
    assert answer["session"]["audio"]["input"]["transcription"] == {
        "model": "whisper", "language": "de", "prompt": "p", "keywords": ["a"],
    }  # fmt: skip


def test_another_type_of_turn_detection_replaces_the_old_one() -> None:
    """Its fields are not mixed with the old one's."""
    conversation = Conversation()
    conversation.update({"audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 200}}}})
    answer = conversation.update({"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}})[-1]
    assert answer["session"]["audio"]["input"]["turn_detection"] == {"type": "semantic_vad"}


def test_the_next_update_begins_anew() -> None:
    """The first one keeps what was sent before it; a later one drops the open utterance, and the client is told."""
    conversation = Conversation()
    first = conversation.send("session.update", session={})
    conversation.tell(events.Configured("auto", (), 500, True), events.SpeechStarted(0))
    second = conversation.send("session.update", session={})
    answers = conversation.tell(events.Cleared(), events.Configured("auto", (), 500, True))

    assert [type(command) for command in first] == [events.Configure]
    assert [type(command) for command in second] == [events.Clear, events.Configure]
    assert _kinds(answers) == [
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.cleared",
        "session.updated",
    ], "a client that was told of a start is told of an end"

    conversation.send("session.update", session={})
    answers = conversation.tell(events.Cleared(), events.Configured("auto", (), 500, True))
    assert _kinds(answers) == ["session.updated"], "nothing was dropped"


def test_the_beta_form_is_understood() -> None:
    """Of sessions that were retired with it."""
    (command,) = Conversation().send(
        "transcription_session.update",
        session={
            "input_audio_format": "g711_ulaw",
            "input_audio_transcription": {"model": "whisper-1", "language": "de"},
            "turn_detection": None,
        },
    )
    assert isinstance(command, events.Configure)
    assert (command.language, command.endpointing) == ("de", False)


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"audio": {"input": {"transcription": {"language": "fr"}}}}, "language"),
        ({"audio": {"input": {"format": {"type": "audio/opus"}}}}, "session.audio.input.format.type"),
        ({"audio": {"input": {"turn_detection": {"type": "psychic"}}}}, "session.audio.input.turn_detection.type"),
        ({"audio": {"input": {"turn_detection": {"threshold": 7}}}}, "session.audio.input.turn_detection.threshold"),
        ("nonsense", "session"),
    ],
)
def test_an_update_that_cannot_be_used_is_an_error(session: Any, param: str) -> None:  # noqa: ANN401 - whatever JSON holds
    """With the parameter and the client's event id; nothing changes."""
    conversation = Conversation()
    (error,) = conversation.update(session, event_id="mine")

    assert (error["type"], error["error"]["param"], error["error"]["event_id"]) == ("error", param, "mine")
    assert error["error"]["type"] == "invalid_request_error"
    answer = conversation.update({})[0]
    assert answer["session"] == conversation.created["session"]


@pytest.mark.parametrize(
    "kind", ["response.create", "conversation.item.create", "output_audio_buffer.clear", "anything"]
)
def test_other_events_are_ignored(kind: str) -> None:
    """An `error` would end LiveKit's stream."""
    assert Conversation().send(kind, response={}) == [events.KeepAlive()]


@pytest.mark.parametrize("message", ["", "no JSON", "[]", '{"type":1}', b"\x00\x01", "[" * 100_000])
def test_what_is_no_event_is_an_error(message: str | bytes) -> None:
    """Of which only the first is told."""
    conversation = Conversation()
    (command,) = conversation.dialect.take(message)
    assert isinstance(command, events.Unknown)
    (error,) = conversation.tell(events.Warning(WarningCode.UNKNOWN_MESSAGE, command.message))
    assert error["error"]["message"] == "the message is not a JSON object with a type"


@pytest.mark.parametrize("audio", [None, 1, "no base64!"])
def test_audio_that_is_no_base64_is_an_error(audio: object) -> None:
    """It names the field."""
    (command,) = Conversation().send("input_audio_buffer.append", audio=audio)
    assert command == events.Unknown("input_audio_buffer.append: audio must be base64")


def test_dropped_audio_is_no_event() -> None:
    """OpenAI has none for it, and an error would end the stream."""
    assert Conversation().tell(events.Warning(WarningCode.AUDIO_DROPPED, "late")) == []


@pytest.mark.parametrize(
    ("error", "code", "is_reported"),
    [
        (None, 1000, False),
        (ServerRestarting(), 1012, False),
        (InternalError(), 1011, False),
        (Idle("idle: nothing came for 300 seconds"), 1008, False),
        (BadRequest("flood"), 1008, True),
        (PayloadTooLarge("a message may have at most 25165824 bytes"), 1009, True),
    ],
)
def test_a_close_is_an_error_only_where_the_client_is_to_blame(
    error: ServiceError | None, code: int, is_reported: bool
) -> None:
    """Clients connect again by the close code alone, and do not after an `error`."""
    messages, closed = Conversation().end(error)
    assert (closed, [message["type"] for message in messages]) == (code, ["error"] if is_reported else [])


def test_a_close_completes_what_was_never_committed() -> None:
    """The words of a long item are not lost in a restart."""
    conversation = Conversation()
    conversation.update(NULL_TURNS)
    conversation.tell(
        events.SpeechStarted(0),
        events.SpeechStopped(30_000, Reason.MAX_LENGTH),
        _final("One", reason=Reason.MAX_LENGTH),
    )
    messages, _ = conversation.end(ServerRestarting())
    assert [message["type"] for message in messages] == [*COMMITTED, COMPLETED]
    assert messages[-1]["transcript"] == "One"


def test_a_token_s_session_is_the_first() -> None:
    """What it was issued for is in effect from the start; a client that is refused is told before the upgrade."""
    session = {"audio": {"input": {"turn_detection": None, "transcription": {"language": "de"}}}}
    conversation = Conversation(session=session)
    refused = OpenAiRealtime(SERVER).open(
        Handshake("/v1/realtime", "", {}, "c0ffee", {"audio": {"input": {"transcription": {"language": "fr"}}}})
    )

    assert isinstance(conversation.opened, SessionOptions)
    assert (conversation.opened.language, conversation.opened.endpointing) == ("de", False)
    assert conversation.created["session"]["audio"]["input"]["turn_detection"] is None
    assert isinstance(refused, HttpRefusal)
    assert refused.status == 400


@pytest.mark.parametrize(
    ("event_id", "session", "told"),
    [
        ('"e1"', '{"foo":1e999}', "e1"),
        ('"e1"', '{"foo":NaN}', "e1"),
        ('"e1"', '{"foo":"\\ud800"}', "e1"),
        ('"e1"', 300 * '{"a":' + "1" + 300 * "}", "e1"),
        ("1e999", "[]", None),
        ('"\\ud800"', "[]", None),
    ],
)
def test_a_session_that_could_not_be_sent_back_is_refused(event_id: str, session: str, told: str | None) -> None:
    """Each time, as the client's mistake and not the server's."""
    conversation = Conversation()
    message = f'{{"type":"session.update","event_id":{event_id},"session":{session}}}'
    for _ in range(2):
        (command,) = conversation.dialect.take(message)
        assert isinstance(command, events.Reject)
        (answer,) = conversation.tell(events.Warning(command.code, command.message))
        assert answer["error"]["event_id"] == told
        assert answer["error"]["param"] == "session"


def test_text_that_is_nested_too_deeply_is_no_event() -> None:
    """The parser gives up on it."""
    (command,) = OpenAiRealtime(SERVER).take("[" * 100_000)
    assert isinstance(command, events.Unknown)


_FIELDS = [
    *["audio", "input", "format", "type", "rate", "transcription", "model", "language", "languages", "keywords"],
    *["prompt", "turn_detection", "threshold", "prefix_padding_ms", "silence_duration_ms", "eagerness", "include"],
    *["input_audio_format", "input_audio_transcription", "noise_reduction", "foo"],
]
_VALUES = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        10**400,
        1e308,
        float("inf"),
        float("nan"),
        "",
        "de",
        "pcm16",
        "audio/pcm",
        "\ud800",
        "server_vad",
    ]
)
_SESSIONS = st.recursive(
    _VALUES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=4),
    max_leaves=8,
)
_LEAVES = st.dictionaries(st.sampled_from(_FIELDS), _VALUES | st.lists(_VALUES, max_size=2), max_size=4)
_SHAPED = st.fixed_dictionaries(
    {
        "audio": st.fixed_dictionaries(
            {
                "input": st.fixed_dictionaries(
                    {}, optional={"format": _LEAVES, "transcription": _LEAVES, "turn_detection": _LEAVES}
                )
            }
        )
    }
)


@given(st.lists(_SESSIONS | _LEAVES | _SHAPED, max_size=4), _VALUES)
def test_whatever_a_client_puts_into_its_session_is_answered(sessions: list[Any], event_id: object) -> None:
    """With `session.updated`, or an `error` event that says what is wrong; both are JSON."""
    conversation = Conversation()
    for session in sessions:
        (*_, command) = conversation.send("session.update", session=session, event_id=event_id)
        match command:
            case events.Reject(code, message):
                answers = conversation.tell(events.Warning(code, message))
            case _:
                answers = conversation.tell(events.Configured("auto", (), 500, True), events.SpeechStarted(0))
                answers = answers[:1]
        assert _kinds(answers) in (["session.updated"], ["error"])
