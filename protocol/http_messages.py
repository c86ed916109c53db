"""Bodies of HTTP answers. Each field is defined in its docstring, from which the docs are generated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from protocol.access_tokens import DEFAULT_SECONDS, MAX_SECONDS, MIN_SECONDS
from protocol.channels import ChannelMode
from protocol.events import WarningCode
from protocol.languages import AUTO
from protocol.native_client_messages import SEPARATED_BY_COMMAS, Hotwords, Language, SilenceMs, Threshold
from protocol.timed_word import TimedWord

RETRY_AFTER_SECONDS = 5
"""`Retry-After` of a refusal: about the time to load an engine, or to transcribe a long file."""


CONNECTION_ID_HEADER = "x-connection-id"
"""Header of answers to handshakes and uploads: the name of the connection in the server's log."""
REQUEST_ID_HEADER = "x-request-id"
"""The same for OpenAI's clients, on OpenAI's paths."""


class WarningItem(BaseModel):
    """Something about the request that the client should know, though it succeeded."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    code: WarningCode
    """Kind of the warning: the same codes as on the WebSocket."""
    message: str
    """A fact about the request, in words."""


class Segment(BaseModel):
    """One utterance of a file."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    start_ms: int
    """First voiced sample, in ms of the file."""
    end_ms: int
    """End of the last voiced sample, in ms of the file."""
    text: str
    """Its words."""
    words: list[TimedWord] | None = None
    """The words with their times; only with `words=true` in the query, where the engine can time them."""
    channel: int | None = None
    """Its channel, from 0; only with `channel_mode=split`, of a file with several."""


class Transcript(BaseModel):
    """Answer of `POST /v1/stt/transcribe`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    text: str
    """All segments' texts, joined by a space, or by nothing in scripts without spaces between words."""
    duration_ms: int
    """Length of the audio in ms."""
    latency_ms: int
    """From the upload's last byte to this answer, in ms."""
    language: str
    """The language recognised (primary subtag); the language asked for where the engine cannot tell."""
    segments: list[Segment]
    """The utterances, in order; those without text are left out."""
    warnings: list[WarningItem] = []
    """Facts about the request that the client should know."""


class SegmentEvent(Segment):
    """A server-sent event of `stream=true`: the next segment that has text."""

    type: Literal["segment"] = "segment"
    """`segment`."""


class ProgressEvent(BaseModel):
    """A server-sent event of `stream=true`: after every 10 s of audio."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    type: Literal["progress"] = "progress"
    """`progress`."""
    position_ms: int
    """The file was decoded up to here, in ms; it is cut into segments and recognised a little later."""


class TranscriptEvent(Transcript):
    """The last server-sent event of `stream=true`: the whole answer."""

    type: Literal["transcript"] = "transcript"
    """`transcript`."""


class ErrorEvent(BaseModel):
    """The last server-sent event of `stream=true` where the transcription failed after its first event."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    type: Literal["error"] = "error"
    """`error`."""
    code: int
    """The HTTP status that the answer would have had."""
    message: str
    """A fact about the request, in words."""


class TranscribeParams(BaseModel):
    """Options of `POST /v1/stt/transcribe`, as query parameters and as form fields alike."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

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
    """`true`: segments have `words`, where the engine can time them."""
    channel_mode: ChannelMode = ChannelMode.MIX
    """`mix`: all channels as one; `split`: each for itself; `left`, `right`: only that one."""
    stream: bool = False
    """`true`: the answer is server-sent events, which come while the file is decoded."""


class TokenRequest(BaseModel):
    """Body of `POST /v1/stt/token`, which may be empty."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    seconds: Annotated[int, Field(ge=MIN_SECONDS, le=MAX_SECONDS)] = DEFAULT_SECONDS
    """How long the token shall be valid, 10 to 7200."""


class Token(BaseModel):
    """Answer of `POST /v1/stt/token`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    token: str
    """Use it wherever a key may stand, except to get another token."""
    expires_at: int
    """When it expires, in Unix seconds. Connections that are open then go on."""


class Health(BaseModel):
    """Answer of `GET /health`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    status: Literal["ok", "loading", "draining", "dead"]
    """`ok` with status 200; anything else with 503."""
    backend: str
    """Name of the engine."""
    sessions: int
    """Open WebSocket sessions; one of two channels counts as two."""
    max_sessions: int
    """STT_MAX_SESSIONS."""


class Readiness(BaseModel):
    """Answer of `GET /health/ready`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    status: Literal["ready", "loading", "dead", "draining", "full", "saturated"]
    """`ready` with status 200; anything else with 503: a new session would be refused now. `saturated`: the engine is
    at least 5 s behind live audio."""
    sessions: int
    """Open WebSocket sessions; one of two channels counts as two."""
    max_sessions: int
    """STT_MAX_SESSIONS."""
    seconds_behind: float
    """Seconds that the engine is behind live audio: the 90th percentile of live sessions."""


class HttpError(BaseModel):
    """Body of an HTTP answer that is not a success."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    code: int
    """The HTTP status."""
    message: str
    """A fact about the request, in words."""
