"""The form of `POST /v1/audio/transcriptions` and `/translations`, read as OpenAI's clients write it. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from protocol.dialect import ServerInfo
from protocol.errors import BadRequest
from protocol.file_dialect import FileOptions
from protocol.language_names import language_tag
from protocol.languages import AUTO, check_language, require_supported
from protocol.native_client_messages import MAX_HOTWORD_CHARACTERS, MAX_HOTWORDS
from protocol.openai_errors import BadParameter
from protocol.openai_turns import silence_ms, vad_threshold

ResponseFormat = Literal["json", "text", "srt", "vtt", "verbose_json"]
Granularity = Literal["word", "segment"]
_SUBTITLES = ("srt", "vtt")
MAX_PROMPT_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class TranscriptionForm:
    """The fields of the form."""

    options: FileOptions
    response_format: ResponseFormat
    granularities: frozenset[Granularity]
    temperature: float
    """Returned in `verbose_json`, and not used otherwise."""


def read_form(fields: Sequence[tuple[str, str]], server: ServerInfo, *, translate: bool) -> TranscriptionForm:
    """Check all fields except the file. Unknown ones are ignored.

    Raises:
        BadParameter: one cannot be used.
    """
    form = _Form(fields)
    if translate and not server.translates:
        raise BadRequest(f"the engine {server.backend} does not translate")
    response_format = _response_format(form.text("response_format") or "json")
    granularities = _granularities(form)
    words = "word" in granularities and response_format == "verbose_json"
    if words and not server.has_words:
        raise BadParameter(f"the engine {server.backend} cannot time words", "timestamp_granularities")
    turns = form.chunking()
    options = FileOptions(
        language=AUTO if translate else _language(form, server),
        hotwords=_keywords(form),
        context=form.text("prompt")[-MAX_PROMPT_CHARACTERS:],
        words=words or (response_format in _SUBTITLES and server.has_words),
        translate=translate,
        silence_ms=silence_ms(turns, server),
        vad_threshold=vad_threshold(turns.get("threshold"), server),
        stream=form.flag("stream") and not translate,
    )
    return TranscriptionForm(options, response_format, granularities, form.number("temperature") or 0.0)


class _Form:
    """Fields by name: `a[]` and `a` are one, and `a[b]` is the member `b` of `a`."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self._fields: dict[str, list[str]] = {}
        for name, value in fields:
            self._fields.setdefault(name.removesuffix("[]"), []).append(value)

    def all(self, name: str) -> list[str]:
        return self._fields.get(name, [])

    def text(self, name: str) -> str:
        return next(iter(self.all(name)), "").strip()

    def flag(self, name: str) -> bool:
        value = self.text(name).lower()
        if value not in ("", "true", "false", "1", "0"):
            raise BadParameter(f"{name} must be true or false", name)
        return value in ("true", "1")

    def number(self, name: str) -> float | None:
        value = self.text(name)
        return _number(value, name) if value else None

    def chunking(self) -> Mapping[str, Any]:
        """The fields of `chunking_strategy`; empty: the server's own settings."""
        given = self.text("chunking_strategy")
        turns: dict[str, Any] = {}
        if given not in ("", "auto", "server_vad"):
            turns = _json_object(given, "chunking_strategy")
        for name in ("threshold", "silence_duration_ms"):
            value = self.text(f"chunking_strategy[{name}]") or turns.get(name)
            if value is not None:
                turns[name] = _number(value, f"chunking_strategy[{name}]")
        return turns


def _number(value: object, name: str) -> float:
    try:
        number = float(str(value))
    except ValueError as error:
        raise BadParameter(f"{name} must be a number", name) from error
    if not math.isfinite(number) or number < 0:
        raise BadParameter(f"{name} must be a number from 0 on", name)
    return number


def _json_object(text: str, name: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise BadParameter(f'{name} must be auto, or an object of the type "server_vad"', name)
    return read


def _response_format(value: str) -> ResponseFormat:
    known: tuple[ResponseFormat, ...] = get_args(ResponseFormat)
    for each in known:
        if value == each:
            return each
    if value == "diarized_json":
        raise BadParameter(
            "this server does not tell speakers apart: diarized_json is not supported", "response_format"
        )
    raise BadParameter(f"response_format must be one of {', '.join(known)}", "response_format")


def _granularities(form: _Form) -> frozenset[Granularity]:
    given = form.all("timestamp_granularities") or ["segment"]
    known: tuple[Granularity, ...] = get_args(Granularity)
    if not set(given) <= set(known):
        raise BadParameter(f"timestamp_granularities must be of {', '.join(known)}", "timestamp_granularities")
    return frozenset(each for each in known if each in given)


def _language(form: _Form, server: ServerInfo) -> str:
    """The language asked for; `auto` if several are given."""
    several = [each for each in form.all("languages") if each.strip()]
    given = form.text("language") or (several[0] if len(several) == 1 else "")
    return checked_language(given, server)


def checked_language(given: str, server: ServerInfo) -> str:
    """Check a language given by its tag or English name; `auto` for an empty text.

    Raises:
        BadParameter: it is unknown, or the engine does not know it.
    """
    try:
        tag = check_language(language_tag(given)) if given.strip() else AUTO
        require_supported(tag, server.languages)
    except ValueError as error:
        raise BadParameter("language must be an ISO 639-1 code such as en", "language") from error
    except BadRequest as error:
        raise BadParameter(str(error), "language", "unsupported_language") from error
    return tag


def _keywords(form: _Form) -> tuple[str, ...]:
    return checked_keywords(form.all("keywords"))


def checked_keywords(given: Sequence[str]) -> tuple[str, ...]:
    """Check words to expect.

    Raises:
        BadParameter: there are too many, or one is too long.
    """
    words = tuple(word for each in given if (word := each.strip()))
    if len(words) > MAX_HOTWORDS or any(len(word) > MAX_HOTWORD_CHARACTERS for word in words):
        raise BadParameter(
            f"keywords: at most {MAX_HOTWORDS} of at most {MAX_HOTWORD_CHARACTERS} characters are allowed", "keywords"
        )
    return words
