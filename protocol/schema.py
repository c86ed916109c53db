"""Every message and parameter on the wire, typed; one definition for each field, in its docstring."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from protocol.errors import BadRequest
from protocol.pcm import SAMPLE_RATE

MAX_MESSAGE_BYTES = 256 * 1024
"""Longest message a client may send, in bytes: 8 s of audio."""

MAX_HOTWORDS = 100
MAX_HOTWORD_CHARACTERS = 64
AUTO = "auto"
"""The language tag that leaves the choice to the engine."""

_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
"""Shape of a BCP-47 tag (RFC 5646, section 2.1), without its registry."""


def primary_subtag(tag: str) -> str | None:
    """Primary subtag of a checked tag in lower case (`en-US` -> `en`); None for `auto`."""
    primary = tag.split("-", 1)[0].lower()
    return None if primary == AUTO else primary


def check_language(tag: str) -> str:
    """Return `tag` if it is `auto` or has the shape of a BCP-47 tag.

    Raises:
        ValueError: it has not.
    """
    if not _LANGUAGE_TAG.fullmatch(tag):
        raise ValueError("must be auto or a BCP-47 tag such as en or zh-CN")
    return tag


def refuse_unless(supported: frozenset[str] | None, tag: str) -> None:
    """Refuse by name a language tag that is not `auto` and not among the `supported` primary subtags (None: any).

    Raises:
        BadRequest: with the tag and what there is instead.
    """
    primary = primary_subtag(tag)
    if primary is not None and supported is not None and primary not in supported:
        raise BadRequest(f"language {tag} is not supported: use auto or {', '.join(sorted(supported))}")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable characters")
    return text


def _only(wanted: int) -> AfterValidator:
    def check(value: int) -> int:
        if value != wanted:
            raise ValueError(f"must be {wanted}")
        return value

    return AfterValidator(check)


def _split_words(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(word for word in (part.strip() for part in value.split(",")) if word)


class ConnectParams(BaseModel):
    """Query parameters of `/v1/stt/ws`. Unknown ones are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    call_id: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
    """The client's name for this conversation: 1 to 128 printable characters; it comes back in every message."""
    sample_rate: Annotated[int, _only(SAMPLE_RATE)]
    """Sample rate in Hz: 16000."""
    codec: Literal["pcm_s16le"] = "pcm_s16le"
    """Audio format of binary messages: signed 16-bit little-endian PCM."""
    channels: Annotated[int, _only(1)] = 1
    """Channels: 1."""
    frame_ms: Annotated[int, Field(ge=10, le=1000)] = 20
    """Length in ms of the audio the client means to put in each message; a hint, 10 to 1000."""
    partial_ms: Annotated[int, Field(ge=100, le=10_000)] = 500
    """Least time in ms between two partials, 100 to 10000."""
    language: Annotated[str, AfterValidator(check_language)] = AUTO
    """`auto`, or a BCP-47 tag of which the primary subtag counts."""
    hotwords: Annotated[
        tuple[Annotated[str, Field(max_length=MAX_HOTWORD_CHARACTERS)], ...],
        Field(max_length=MAX_HOTWORDS),
        BeforeValidator(_split_words),
    ] = ()
    """Words to expect, separated by commas: at most 100 of at most 64 characters."""
    vad_silence_ms: Annotated[int, Field(ge=100, le=5_000)] | None = None
    """Silence in ms that ends an utterance, 100 to 5000; STT_VAD_SILENCE_MS if it is not given."""
    vad_threshold: Annotated[float, Field(ge=0, le=32768, allow_inf_nan=False)] | None = None
    """RMS, in 16-bit units, below which nothing is voice, 0 to 32768; else STT_VAD_THRESHOLD; not for Silero."""
    events: Annotated[tuple[Literal["speech"], ...], BeforeValidator(_split_words)] = ()
    """Messages to send besides the usual, separated by commas: `speech` asks for `speech_started`."""


def parse_connect(query: dict[str, str]) -> ConnectParams:
    """Check the query of a connection.

    Raises:
        BadRequest: with the first parameter that is wrong, and why.
    """
    try:
        return ConnectParams.model_validate(query)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRequest(f"{first['loc'][0]}: {_reason(first)}") from error


def _reason(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "is required"
    if error["type"] == "too_long":
        return f"at most {error['ctx']['max_length']} are allowed"
    text = error["msg"].removeprefix("Value error, ")
    return f"{text[:1].lower()}{text[1:]}"


class Commit(BaseModel):
    """Client message: end the utterance now; its final comes with reason `commit`, empty if nothing was said."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    type: Literal["commit"]
    """`commit`."""


def parse_client_text(text: str) -> Commit:
    """Check a client's text message.

    Raises:
        BadRequest: it is not a message this server knows.
    """
    try:
        return Commit.model_validate_json(text)
    except ValidationError as error:
        raise BadRequest('text message is not {"type":"commit"}') from error


class Reason(StrEnum):
    """Why an utterance ended."""

    ENDPOINT = "endpoint"
    """The speaker was silent for `vad_silence_ms`."""
    COMMIT = "commit"
    """The client asked."""
    MAX_LENGTH = "max_length"
    """It reached STT_VAD_MAX_SEGMENT_MS and was cut at a quiet point."""
    DRAIN = "drain"
    """The server is restarting."""


class _ServerMessage(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    call_id: str
    """The client's name for this conversation; empty in an error about a missing one."""
    created_at: float
    """When the server made this message, Unix seconds."""

    def to_json(self) -> str:
        """The message as it goes over the wire."""
        return self.model_dump_json(exclude_none=True)


class Ready(_ServerMessage):
    """The connection is accepted and audio may flow."""

    type: Literal["ready"] = "ready"
    """`ready`."""
    sample_rate: int
    """Sample rate in Hz that the server expects."""
    codec: str
    """Audio format that the server expects."""
    channels: int
    """Channels that the server expects."""
    frame_ms: int
    """The client's hint, in ms."""
    partial_ms: int
    """Least time in ms between two partials."""
    language: str
    """The language asked for."""
    backend: str
    """Name of the engine."""
    hotwords_used: bool
    """Whether the engine uses the hotwords given; false if none were."""
    vad_silence_ms: int
    """Silence in ms that ends an utterance."""
    vad_threshold: float
    """RMS, in 16-bit units, below which nothing is voice; Silero does not use it."""
    events: tuple[str, ...]
    """Messages that are sent besides the usual."""


class SpeechStarted(_ServerMessage):
    """Somebody began to speak; sent to clients that asked for it with `events=speech`."""

    type: Literal["speech_started"] = "speech_started"
    """`speech_started`."""
    start_ms: int
    """First voiced sample, in ms of the connection's audio: the same as `start_ms` of the utterance's final."""


class Partial(_ServerMessage):
    """The utterance's text so far; each replaces the one before."""

    type: Literal["partial"] = "partial"
    """`partial`."""
    segment_seq: int
    """Number of the utterance, the same as its final's."""
    text: str
    """All words recognised so far; later ones may change them."""
    final: Literal[False] = False
    """`false`."""


class TimedWord(BaseModel):
    """One word of a final."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    word: str
    """The word as recognised."""
    start_ms: int
    """Where it starts, in ms of the connection's audio."""
    end_ms: int
    """Where it ends, in ms of the connection's audio."""
    confidence: float
    """The engine's confidence, 0 to 1."""


class Final(_ServerMessage):
    """The utterance's text; it will not change."""

    type: Literal["final"] = "final"
    """`final`."""
    segment_seq: int
    """Number of the utterance: from 0, one more for each final."""
    text: str
    """The words; empty after a commit with nothing said."""
    final: Literal[True] = True
    """`true`."""
    first_token_ms: int
    """From the arrival of the first voiced sample to the first text, in ms; 0 if there was no text."""
    latency_ms: int
    """From the arrival of what ended the utterance (the last needed sample, or the commit) to this final, in ms."""
    segment_duration_ms: int
    """`end_ms` minus `start_ms`."""
    start_ms: int
    """First voiced sample, in ms of the connection's audio, dropped audio counted."""
    end_ms: int
    """End of the last voiced sample, in ms of the connection's audio, dropped audio counted."""
    reason: Reason
    """Why the utterance ended."""
    language: str
    """The language heard (primary subtag); the language asked for where the engine cannot tell."""
    words: list[TimedWord] | None = None
    """The words with their times; absent where the engine has none."""


class ErrorMessage(_ServerMessage):
    """Why the server closes the connection; the close frame with the same code follows."""

    type: Literal["error"] = "error"
    """`error`."""
    code: int
    """The close code."""
    message: str
    """A fact about the request, in words."""


ServerMessage = Ready | SpeechStarted | Partial | Final | ErrorMessage


class Segment(BaseModel):
    """One utterance of a file."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    start_ms: int
    """First voiced sample, in ms of the file."""
    end_ms: int
    """End of the last voiced sample, in ms of the file."""
    text: str
    """Its words."""


class Transcript(BaseModel):
    """Answer of `POST /v1/stt/transcribe`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    text: str
    """All segments' texts, joined by a space."""
    duration_ms: int
    """Length of the audio in ms."""
    latency_ms: int
    """From the upload's last byte to this answer, in ms."""
    language: str
    """The language heard (primary subtag); the language asked for where the engine cannot tell."""
    segments: list[Segment]
    """The utterances, in order; those without text are left out."""


class Health(BaseModel):
    """Answer of `GET /health`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    status: Literal["ok", "loading", "draining", "dead"]
    """`ok` with status 200; anything else with 503."""
    backend: str
    """Name of the engine."""
    sessions: int
    """Open WebSocket sessions."""
    max_sessions: int
    """STT_MAX_SESSIONS."""


class HttpError(BaseModel):
    """Body of an HTTP answer that is not a success."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    code: int
    """The HTTP status."""
    message: str
    """A fact about the request, in words."""
