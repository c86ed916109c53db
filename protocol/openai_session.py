"""The session object of OpenAI's Realtime API for transcription: its defaults and updates, as our settings. Pure.

Updates are merged into the earlier ones. Fields that the client never set have this server's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocol.dialect import ServerInfo
from protocol.events import Configure
from protocol.json_values import is_sendable
from protocol.languages import AUTO
from protocol.openai_audio import MIME_TYPES
from protocol.openai_errors import BadParameter
from protocol.openai_form import MAX_PROMPT_CHARACTERS, checked_keywords, checked_language
from protocol.openai_models import implies_no_vad
from protocol.openai_turns import DEFAULT_THRESHOLD, silence_ms, vad_threshold
from protocol.stream_audio import MAX_RATE, MIN_RATE, TELEPHONE_RATE, StreamFormat

DEFAULT_RATE = 24_000
"""Hz; the only one that OpenAI takes for `audio/pcm`."""
DEFAULT_PADDING_MS = 300
_MAX_DEPTH = 8
"""Nesting of an update. The session has 4 levels."""


_Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class _Format(_Part):
    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: Annotated[int, Field(ge=MIN_RATE, le=MAX_RATE)] | None = None
    """Hz; only for `audio/pcm`."""


class _Transcription(_Part):
    model: str | None = None
    language: str | None = None
    languages: tuple[str, ...] | None = None
    keywords: tuple[str, ...] | None = None
    prompt: str | None = None


class _TurnDetection(_Part):
    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    prefix_padding_ms: _Milliseconds | None = None
    silence_duration_ms: _Milliseconds | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None


class _Input(_Part):
    format: _Format | None = None
    transcription: _Transcription | None = None
    turn_detection: _TurnDetection | None = None


class _Audio(_Part):
    input: _Input = _Input()


class _Session(_Part):
    audio: _Audio = _Audio()


class TranscriptionSession:
    """The session of one client. Used by one thread."""

    def __init__(self, server: ServerInfo, model: str = "") -> None:
        """`model`: as the query names it."""
        self._server = server
        self._given: dict[str, Any] = {"audio": {"input": {"transcription": {"model": model or server.backend}}}}
        self._read = _Session.model_validate(self._given)

    def update(self, change: Mapping[str, Any]) -> None:
        """Merge a client's `session` into this one. If it cannot be used, nothing changes.

        Raises:
            BadParameter: a field cannot be used.
        """
        if not is_sendable(change):
            reason = "a number is too large, a text has half of a surrogate pair, or it is nested too deeply"
            raise BadParameter(f"session: {reason}", "session", "invalid_value")
        given = _merged(self._given, change, 0)
        try:
            read = _Session.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(str(part) for part in ("session", *first["loc"]))
            raise BadParameter(f"{path}: {first['msg']}", path, "invalid_value") from error
        self._configure(read)
        self._given, self._read = given, read

    @property
    def format(self) -> StreamFormat:
        """Format of the audio in the client's messages."""
        asked = self._read.audio.input.format or _Format()
        rate = (asked.rate or DEFAULT_RATE) if asked.type == "audio/pcm" else TELEPHONE_RATE
        return StreamFormat(rate, MIME_TYPES[asked.type])

    @property
    def detects_turns(self) -> bool:
        """Whether silence ends an utterance; else the client does."""
        return self._turn_detection is not None

    @property
    def padding_ms(self) -> int:
        """Padding before the first voiced sample in the times of items, in ms."""
        turns = self._turn_detection
        padding = None if turns is None else turns.prefix_padding_ms
        return DEFAULT_PADDING_MS if padding is None else round(padding)

    def configure(self) -> Configure:
        """All settings, as a command."""
        return self._configure(self._read)

    def shown(self, session_id: str) -> dict[str, Any]:
        """The effective session, as it is sent to the client."""
        shown = deepcopy(self._given)
        asked = shown["audio"]["input"]
        mime = (self._read.audio.input.format or _Format()).type
        asked["format"] = {"type": mime} | ({"rate": self.format.sample_rate} if mime == "audio/pcm" else {})
        asked.setdefault("noise_reduction", None)
        asked["turn_detection"] = self._shown_turns(asked.get("turn_detection"))
        identity = {"type": "transcription", "object": "realtime.transcription_session", "id": session_id}
        return {**identity, "include": None, **shown, **identity}

    @property
    def _turn_detection(self) -> _TurnDetection | None:
        return _turns(self._read)

    def _shown_turns(self, given: dict[str, Any] | None) -> dict[str, Any] | None:
        turns = self._turn_detection
        if turns is None or turns.type == "semantic_vad":
            return given
        defaults = {
            "type": "server_vad",
            "threshold": DEFAULT_THRESHOLD,
            "prefix_padding_ms": DEFAULT_PADDING_MS,
            "silence_duration_ms": self._server.silence_ms,
        }
        return defaults | {name: value for name, value in (given or {}).items() if value is not None}

    def _configure(self, session: _Session) -> Configure:
        server, turns = self._server, _turns(session)
        wanted = session.audio.input.transcription or _Transcription()
        several = wanted.languages or ()
        language = wanted.language or (several[0] if len(several) == 1 else "")
        settings = turns.model_dump() if turns is not None else {}
        silence = silence_ms(settings, server)
        threshold = vad_threshold(settings.get("threshold"), server)
        return Configure(
            language=checked_language(language, server) if language else AUTO,
            hotwords=checked_keywords(wanted.keywords or ()),
            silence_ms=server.silence_ms if silence is None else silence,
            endpointing=turns is not None,
            vad_threshold=server.vad_threshold if threshold is None else threshold,
            context=(wanted.prompt or "")[-MAX_PROMPT_CHARACTERS:],
        )


def _turns(session: _Session) -> _TurnDetection | None:
    """Turn detection as the client asked for it, or else as its model implies."""
    asked = session.audio.input
    if "turn_detection" in asked.model_fields_set:
        return asked.turn_detection
    model = asked.transcription.model if asked.transcription is not None else None
    return None if implies_no_vad(model or "") else _TurnDetection()


def _merged(old: Mapping[str, Any], change: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """`old` with the members that `change` names; an object of another `type` replaces the old one."""
    if depth > _MAX_DEPTH:
        raise BadParameter("the session is nested too deeply", "session", "invalid_value")
    merged = dict(old)
    for name, value in change.items():
        before = old.get(name)
        if isinstance(value, Mapping):
            kept = before if isinstance(before, Mapping) and not _differ(before, value) else {}
            merged[name] = _merged(kept, value, depth + 1)
        else:
            merged[name] = value
    return merged


def _differ(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "type" in new and new["type"] != old.get("type", new["type"])
