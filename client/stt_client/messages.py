"""The server's messages -> events; the client's messages as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from stt_client import events
from stt_client.errors import SttError


class Finished(BaseModel):
    """Answers `finish`: every final was sent."""


class ErrorMessage(BaseModel):
    """The last message before a close that the server decides."""

    model_config = ConfigDict(frozen=True)

    code: int
    message: str


ServerMessage = (
    events.Ready
    | events.SpeechStarted
    | events.SpeechStopped
    | events.Level
    | events.Partial
    | events.Final
    | events.Cleared
    | events.Configured
    | events.ServerWarning
    | Finished
    | ErrorMessage
)
_MODELS: Mapping[str, type[ServerMessage]] = {
    "ready": events.Ready,
    "speech_started": events.SpeechStarted,
    "speech_stopped": events.SpeechStopped,
    "level": events.Level,
    "partial": events.Partial,
    "final": events.Final,
    "cleared": events.Cleared,
    "configured": events.Configured,
    "warning": events.ServerWarning,
    "finished": Finished,
    "error": ErrorMessage,
}


def parse(text: str | bytes) -> ServerMessage | None:
    """Read a message; None: its type is newer than this library.

    Raises:
        SttError: it is no message of the protocol.
    """
    try:
        message = json.loads(text)
        model = _MODELS.get(message["type"])
        return None if model is None else model.model_validate(message)
    except (ValueError, KeyError, TypeError) as error:
        raise SttError("the server sent a message that is not of this protocol") from error


def to_json(kind: str, **fields: object) -> str:
    """A client's message; fields that are None are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps({"type": kind, **given})


def shifted(message: ServerMessage, base_ms: int) -> ServerMessage:
    """The message with times of the whole stream; `base_ms` is where the connection's audio begins in it."""
    match message:
        case events.SpeechStarted():
            return message.model_copy(update={"start_ms": message.start_ms + base_ms})
        case events.SpeechStopped() | events.Level():
            return message.model_copy(update={"end_ms": message.end_ms + base_ms})
        case events.Final():
            words = message.words and tuple(_shifted_word(word, base_ms) for word in message.words)
            times = {"start_ms": message.start_ms + base_ms, "end_ms": message.end_ms + base_ms}
            return message.model_copy(update={**times, "words": words})
        case _:
            return message


def _shifted_word(word: events.Word, base_ms: int) -> events.Word:
    return word.model_copy(update={"start_ms": word.start_ms + base_ms, "end_ms": word.end_ms + base_ms})
