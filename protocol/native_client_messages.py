"""The client's messages on `/v1/stt/ws`. Each field is defined in its docstring, from which the docs are generated.

Compatibility: fields and message types are added, never changed or removed.
"""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.config import JsonDict
from pydantic_core import ErrorDetails

from protocol.errors import BadRequest
from protocol.languages import AUTO, check_language
from protocol.stream_audio import MAX_RATE, MIN_RATE, TELEPHONE_RATE, StreamCodec

MAX_HOTWORDS = 100
MAX_HOTWORD_CHARACTERS = 64
MAX_ID_CHARACTERS = 128
MAX_CHANNELS = 2


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable characters")
    return text


def _split_words(value: object) -> object:
    """Words of a string with commas or of a list, without blanks around them and without empty ones."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        return value
    return tuple(word for word in (part.strip() for part in parts) if word)


def _usable_id(value: object) -> object:
    """Ignore an id of another type, for compatibility, and one that is too long: each commit is answered."""
    if isinstance(value, str):
        return value if len(value) <= MAX_ID_CHARACTERS else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


Language = Annotated[str, AfterValidator(check_language)]
Hotwords = Annotated[
    tuple[Annotated[str, Field(max_length=MAX_HOTWORD_CHARACTERS)], ...],
    Field(max_length=MAX_HOTWORDS),
    BeforeValidator(_split_words),
]


def _by_commas(schema: JsonDict) -> None:
    schema.pop("items", None)
    schema.pop("maxItems", None)
    schema.update(type="string", default="")


def _or_by_commas(schema: JsonDict) -> None:
    schema["anyOf"] = [*cast("list[JsonDict]", schema["anyOf"]), {"type": "string"}]


SEPARATED_BY_COMMAS = Field(json_schema_extra=_by_commas)
"""For a list in a query: one string in the JSON schema, as it is sent."""
SilenceMs = Annotated[int, Field(ge=100, le=5_000)]
Threshold = Annotated[float, Field(ge=0, le=32768, allow_inf_nan=False)]


class ConnectParams(BaseModel):
    """Query parameters of `/v1/stt/ws`. Unknown ones are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    call_id: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
    """The client's name for this conversation: 1 to 128 printable characters; it comes back in every message."""
    sample_rate: Annotated[int, Field(ge=MIN_RATE, le=MAX_RATE)]
    """Sample rate in Hz, 8000 to 48000. 16000 costs least: other rates are resampled. `opus` ignores it."""
    codec: StreamCodec = "pcm_s16le"
    """Audio format of binary messages: `pcm_s16le` (signed 16-bit little-endian), `pcm_f32le` (floats from -1 to 1),
    `mulaw` or `alaw` (G.711, with 8000 Hz), `opus` (one packet a message, or an Ogg or WebM stream). A message may end
    within a sample, an Ogg page or a WebM cluster."""
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 1
    """Channels, 1 or 2. Two are interleaved: a sample of the first, then one of the second. Each has its own
    utterances, and `channel` in every message about them. The connection counts as two sessions."""
    frame_ms: Annotated[int, Field(ge=10, le=1000)] = 20
    """Length in ms of the audio the client means to put in each message; a hint, 10 to 1000."""
    partial_ms: Annotated[int, Field(ge=100, le=10_000)] = 500
    """Shortest time in ms between two partials, 100 to 10000."""
    language: Language = AUTO
    """`auto`, or a BCP-47 tag of which the primary subtag counts."""
    hotwords: Annotated[Hotwords, SEPARATED_BY_COMMAS] = ()
    """Words to expect, separated by commas: at most 100 of at most 64 characters."""
    vad_silence_ms: SilenceMs | None = None
    """Silence in ms that ends an utterance, 100 to 5000; STT_VAD_SILENCE_MS if it is not given."""
    vad_threshold: Threshold | None = None
    """RMS in 16-bit units (0 to 32768) below which no frame is voiced; STT_VAD_THRESHOLD if it is not given. Silero
    ignores it."""
    words: bool = False
    """`true`: finals have `words`, where the engine can time them; it costs some latency."""
    events: Annotated[tuple[Literal["speech", "level"], ...], BeforeValidator(_split_words), SEPARATED_BY_COMMAS] = ()
    """More messages to send, separated by commas: `speech` adds `speech_started` and `speech_stopped`, `level` adds
    `level`."""

    @field_validator("codec")
    @classmethod
    def _telephone_rate(cls, codec: StreamCodec, values: ValidationInfo) -> StreamCodec:
        rate = values.data.get("sample_rate", TELEPHONE_RATE)
        if codec in {"mulaw", "alaw"} and rate != TELEPHONE_RATE:
            raise ValueError(f"{codec} needs a sample_rate of {TELEPHONE_RATE}")
        return codec


class _ClientMessage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Commit(_ClientMessage):
    """End the utterance now. One final with reason `commit` answers it, with an empty text if nothing was said.

    With two channels it ends the utterance of each, and one final for each channel answers it.
    """

    type: Literal["commit"]
    """`commit`."""
    id: Annotated[Annotated[str, Field(max_length=MAX_ID_CHARACTERS)] | int | None, BeforeValidator(_usable_id)] = None
    """A string of at most 128 characters, or an integer: it comes back in the final as `id`."""


class Clear(_ClientMessage):
    """Drop the open utterance. `cleared` answers it; finals being decoded still come; numbers and times go on."""

    type: Literal["clear"]
    """`clear`."""


class Configure(_ClientMessage):
    """Change settings from the next utterance on. `configured` answers it, or a `warning` if a value cannot be used."""

    type: Literal["configure"]
    """`configure`."""
    language: Language | None = None
    """As in the query."""
    hotwords: Annotated[Hotwords | None, Field(json_schema_extra=_or_by_commas)] = None
    """A list of strings, or words separated by commas."""
    vad_silence_ms: SilenceMs | None = None
    """As in the query."""
    endpointing: bool | None = None
    """`false`: silence ends no utterance; `commit`, `finish` and the longest length still do."""


class KeepAlive(_ClientMessage):
    """Restarts the idle timer. The server does not answer it."""

    type: Literal["keepalive"]
    """`keepalive`."""


class Finish(_ClientMessage):
    """The client sends no more. The last finals and `finished` follow, then the server closes with 1000."""

    type: Literal["finish"]
    """`finish`."""


ClientMessage = Annotated[Commit | Clear | Configure | KeepAlive | Finish, Field(discriminator="type")]
_CLIENT_MESSAGE: TypeAdapter[Commit | Clear | Configure | KeepAlive | Finish] = TypeAdapter(ClientMessage)


def parse_connect(query: dict[str, str]) -> ConnectParams:
    """Check the query of a connection.

    Raises:
        BadRequest: with the first parameter that is wrong, and why.
    """
    try:
        return ConnectParams.model_validate(query)
    except ValidationError as error:
        raise BadRequest(explain(error.errors()[0])) from error


def parse_client_message(text: str | bytes) -> Commit | Clear | Configure | KeepAlive | Finish:
    """Check a client's message.

    Raises:
        ValidationError: it is no message of this protocol, or one of its fields is wrong.
    """
    return _CLIENT_MESSAGE.validate_json(text)


def explain(error: ErrorDetails) -> str:
    """Name the wrong field and say why, in words."""
    field = next((str(part) for part in error["loc"] if part not in _MESSAGE_TYPES), "message")
    return f"{field}: {_reason(error)}"


_MESSAGE_TYPES = frozenset({"commit", "clear", "configure", "keepalive", "finish"})


def _reason(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "is required"
    if error["type"] == "too_long":
        return f"at most {error['ctx']['max_length']} are allowed"
    text = error["msg"].removeprefix("Value error, ")
    return f"{text[:1].lower()}{text[1:]}"
