"""The examples of docs/protocol.md are messages of this server."""

from __future__ import annotations

import json
import re
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from protocol import native_client_messages as from_client
from protocol import native_server_messages as from_server
from tests.audio import REFERENCES, interleaved, reference, silence
from tests.client import Client, connect, conversation
from tests.http_client import HTTP
from tests.server import ROOT, Server

PAGE = (ROOT / "docs" / "protocol.md").read_text()
CLIENT_MODELS: tuple[type[BaseModel], ...] = (
    from_client.Commit, from_client.Clear, from_client.Configure, from_client.KeepAlive, from_client.Finish,
)  # fmt: skip
SERVER_MODELS: tuple[type[BaseModel], ...] = (
    from_server.Ready, from_server.SpeechStarted, from_server.SpeechStopped, from_server.Level, from_server.Partial,
    from_server.Final, from_server.Cleared, from_server.Configured, from_server.Finished, from_server.Warning,
    from_server.ErrorMessage,
)  # fmt: skip
Message = dict[str, Any]


def _type_of(model: type[BaseModel]) -> str:
    """The `type` of its messages."""
    kind: str = model.model_json_schema()["properties"]["type"]["const"]
    return kind


def _texts(heading: str) -> list[str]:
    """The JSON examples between this heading and the next."""
    section = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None, f"no section {heading}"
    return re.findall(r"```json\n(.*?)```", section[1], re.DOTALL)


def _example(kind: str) -> str:
    """The one example of a message."""
    (text,) = _texts(f"`{kind}`")
    return text


def _conversation() -> list[tuple[str, Message]]:
    """Direction (`>` or `<`) and message; audio is the empty message."""
    found = re.search(r"```conversation\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    steps = (line.split(" ", 1) for line in found[1].splitlines())
    return [(direction, {} if text == "audio" else json.loads(text)) for direction, text in steps]


def _shape(message: Message) -> Message:
    """The types of all fields; the value of those that name a kind of message."""
    kinds = ("type", "code", "reason")
    return {name: value if name in kinds else type(value).__name__ for name, value in message.items()}


def _types(value: object) -> object:
    """The types of all fields, also of those within; of a list of objects those of its first."""
    if isinstance(value, dict):
        return {name: _types(field) for name, field in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_types(value[0])]
    return type(value).__name__


def _examples(heading: str) -> list[Message]:
    return [json.loads(text) for text in _texts(heading)]


def _without_repeats(messages: list[Message]) -> list[Message]:
    """One partial in place of several in a row."""
    runs = groupby(messages, key=lambda message: message["type"])
    return [message for kind, run in runs for message in (list(run)[-1:] if kind == "partial" else run)]


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Message]]:
    """What a server whose engine times words answers to the page's examples of a client's messages, by type."""
    received: list[Message] = []
    with Server.with_fault(tmp_path_factory.mktemp("examples"), "timed") as server:
        with conversation(server.ws(call_id="demo", events="speech,level", words="true")) as peer:
            peer.command("configure", endpointing=False)  # else a busy machine's pauses might end the utterance
            peer.send(reference("hello"), 3200)
            received += peer.until("partial")
            peer.socket.send(_example("keepalive"))
            peer.socket.send(_example("commit"))
            received += peer.until("final")
            peer.socket.send(_example("configure"))
            peer.command("configure", vad_silence_ms=5)
            received += peer.until("warning")
            peer.socket.send(_example("clear"))
            received += peer.until("cleared")
            peer.socket.send(_example("finish"))
            rest, code = peer.rest()
            assert (received + rest)[-1]["type"] == "finished"
            assert code == 1000
        with conversation(server.ws(call_id="demo", sample_rate=4000)) as peer:
            error, _ = peer.rest()
    found: dict[str, list[Message]] = {}
    for message in received + rest + error:
        found.setdefault(message["type"], []).append(message)
    return found


def test_every_type_of_message_is_sent(messages: dict[str, list[Message]]) -> None:
    """So each has a real message to compare its example with."""
    assert set(messages) == {_type_of(model) for model in SERVER_MODELS}


@pytest.mark.parametrize("model", SERVER_MODELS)
def test_the_example_of_a_servers_message_has_its_fields(
    messages: dict[str, list[Message]], model: type[BaseModel]
) -> None:
    """Exactly those, with values of the same types, of each message that the server sent."""
    kind = _type_of(model)
    example = json.loads(_example(kind))
    model.model_validate(example)

    for message in messages[kind]:
        assert _types(message) == _types(example)


@pytest.mark.parametrize("model", CLIENT_MODELS)
def test_the_example_of_a_clients_message_is_understood(
    messages: dict[str, list[Message]], model: type[BaseModel]
) -> None:
    """The server takes every value of it: it has sent no other warning than about what is wrong on purpose."""
    kind = _type_of(model)
    text = _example(kind)
    model.model_validate_json(text)

    assert set(json.loads(text)) <= set(model.model_fields)
    assert [warning["code"] for warning in messages["warning"]] == ["configure_refused"]
    if kind == "configure":
        asked = {name: value for name, value in json.loads(text).items() if name != "type"}
        assert messages["configured"][-1].items() >= asked.items()
    if kind == "commit":
        assert messages["final"][0]["id"] == json.loads(text)["id"]


def test_messages_about_a_channel_name_it(mock_server: Server) -> None:
    """With two channels they have the fields of their examples and `channel`; others do not have it."""
    with conversation(mock_server.ws(call_id="demo", channels=2, events="speech,level")) as peer:
        peer.command("configure", endpointing=False)  # as above
        peer.send(interleaved(reference("hello"), reference("train")), 6400)
        received = peer.until("partial")
        while {each["channel"] for each in received if each["type"] == "partial"} != {0, 1}:
            received += peer.until("partial")
        peer.command("finish")
        received += peer.rest()[0]
    (of_one_channel,) = _examples("Two channels")

    for message in received:
        example = json.loads(_example(message["type"]))
        absent = {"words", "id"} if message["type"] == "final" else set()
        channel = set() if message["type"] in ("ready", "configured", "finished") else {"channel"}
        assert set(message) == set(example) - absent | channel
    kinds = {(each["type"], each["channel"]) for each in received if "channel" in each}
    names = ("speech_started", "speech_stopped", "level", "partial", "final")
    assert kinds == {(name, channel) for name in names for channel in (0, 1)}
    assert _types(of_one_channel) in [_types(each) for each in received if each["type"] == "partial"]


HTTP_ANSWER = "HTTP `POST /v1/stt/transcribe`"
HTTP_STATE = "HTTP `GET /health`, `GET /health/ready`, `GET /health/live`, `GET /metrics`"


def test_the_example_of_a_transcript_is_what_a_server_says(mock_server: Server) -> None:
    """All its values but the time that it took."""
    (example,) = _examples(HTTP_ANSWER)
    with (REFERENCES / "hello.wav").open("rb") as file:
        answer = HTTP.post(f"{mock_server.http}/v1/stt/transcribe?language=en", files={"file": file}).json()

    assert _types(answer) == _types(example)
    assert answer | {"latency_ms": 0} == example | {"latency_ms": 0}


def test_the_example_of_an_http_error_is_what_a_server_says(mock_server: Server) -> None:
    """Word for word, and the code is the status."""
    (example,) = _examples("Errors")
    answer = HTTP.post(f"{mock_server.http}/v1/stt/transcribe", files={"file": b"no audio"})

    assert answer.json() == example
    assert answer.status_code == example["code"]


def test_the_examples_of_a_servers_state_are_what_it_says(folder: Path) -> None:
    """Of a server that has just started, word for word."""
    health, ready = _examples(HTTP_STATE)
    with Server(folder, {"STT_BACKEND": "mock"}) as server:
        assert HTTP.get(f"{server.http}/health").json() == health
        assert HTTP.get(f"{server.http}/health/ready").json() == ready


def test_the_example_of_a_token_is_what_a_server_says(folder: Path) -> None:
    """A server with keys gives one, for the seconds that the page's request asks for, and takes it as a key."""
    (example,) = _examples("Keys")
    body = re.search(r"/v1/stt/token -d '(.*)'", PAGE)
    assert body is not None
    with Server(folder, {"STT_BACKEND": "mock", "STT_API_KEYS": "web=a-key-0123456789"}) as server:
        before = int(time.time())
        asked = {"Authorization": "Bearer a-key-0123456789"}
        answer = HTTP.post(f"{server.http}/v1/stt/token", headers=asked, content=body[1]).json()
        after = time.time()
        with connect(server.ws(), additional_headers={"Authorization": f"Bearer {answer['token']}"}) as socket:
            assert "ready" in str(socket.recv())

    assert _types(answer) == _types(example)
    assert before <= answer["expires_at"] - json.loads(body[1])["seconds"] <= after


def test_the_example_conversation_is_what_a_server_says(mock_server: Server) -> None:
    """What a client sends in the page's conversation gets answers of the shape that the page shows, in that order."""
    steps = _conversation()
    answers = [message for direction, message in steps if direction == "<"]
    with conversation(mock_server.ws(call_id="demo", events="speech")) as peer:
        received = _replay(peer, steps)
        tail, code = peer.rest()

    assert [_shape(each) for each in _without_repeats(received)] == [_shape(each) for each in answers]
    assert (tail, code) == ([], 1000)
    assert [each["text"] for each in received if each["type"] == "final"] == [
        each["text"] for each in answers if each["type"] == "final"
    ]


def _replay(peer: Client, steps: list[tuple[str, Message]]) -> list[Message]:
    """Send what the client sends, each when what the page shows before it has come."""
    received: list[Message] = []
    expected: list[str] = []
    for direction, message in [*steps, (">", {"type": "end"})]:
        if direction == "<":
            expected.append(message["type"])
            continue
        if expected:
            received += peer.until(expected[-1])
            expected.clear()
        if not message:
            peer.speak(reference("hello") + silence(800), 3200)
        elif message["type"] != "end":
            peer.socket.send(json.dumps(message))
    return received


def test_the_example_of_an_error_is_what_a_server_says(mock_server: Server) -> None:
    """A wrong sample rate is answered by the page's error."""
    with conversation(mock_server.ws(call_id="demo", sample_rate=4000)) as peer:
        (error,), code = peer.rest()
    example = json.loads(_example("error"))

    varying = {"created_at": 0, "connection_id": ""}
    assert error | varying == example | varying
    assert code == example["code"]
