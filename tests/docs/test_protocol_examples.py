"""The examples of docs/protocol.md are messages of this server."""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from protocol import http_messages
from protocol import native_client_messages as client
from protocol import native_server_messages as server
from tests.audio import reference, silence
from tests.client import Client, conversation
from tests.server import ROOT, Server

PAGE = (ROOT / "docs" / "protocol.md").read_text()
CLIENT_MODELS: tuple[type[BaseModel], ...] = (
    client.Commit, client.Clear, client.Configure, client.KeepAlive, client.Finish,
)  # fmt: skip
SERVER_MODELS: tuple[type[BaseModel], ...] = (
    server.Ready, server.SpeechStarted, server.SpeechStopped, server.Level, server.Partial, server.Final,
    server.Cleared, server.Configured, server.Finished, server.Warning, server.ErrorMessage,
)  # fmt: skip
BY_TYPE: dict[str, type[BaseModel]] = {
    model.model_json_schema()["properties"]["type"]["const"]: model for model in (*CLIENT_MODELS, *SERVER_MODELS)
}
Message = dict[str, Any]


def _example(heading: str) -> str:
    found = re.search(rf"^#### `{heading}`\n.*?```json\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no example of {heading}"
    return found[1]


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


def _without_repeats(messages: list[Message]) -> list[Message]:
    """One partial in place of several in a row."""
    runs = groupby(messages, key=lambda message: message["type"])
    return [message for kind, run in runs for message in (list(run)[-1:] if kind == "partial" else run)]


@pytest.mark.parametrize("kind", sorted(BY_TYPE))
def test_every_message_has_a_valid_example(kind: str) -> None:
    """The example under a message's heading is a message of that type, with no field that its model lacks."""
    model, text = BY_TYPE[kind], _example(kind)
    message = json.loads(text)
    model.model_validate_json(text)

    assert message["type"] == kind
    assert set(message) <= set(model.model_fields)


@pytest.mark.parametrize("model", [http_messages.Transcript, http_messages.HttpError, http_messages.Health])
def test_every_http_body_has_a_valid_example(model: type[BaseModel]) -> None:
    """One JSON example of the page's HTTP half is this body, with no field that its model lacks."""
    examples = re.findall(r"```json\n(.*?)```", PAGE[PAGE.index("## HTTP `POST") :], re.DOTALL)
    fitting = [text for text in examples if set(json.loads(text)) <= set(model.model_fields)]

    assert fitting
    for text in fitting:
        TypeAdapter(model).validate_json(text)


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
