"""OpenAI's dialect for files, `POST /v1/audio/transcriptions` and `POST /v1/audio/translations`."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from typing import Any

from protocol.dialect import HttpRefusal, ServerInfo
from protocol.errors import ServiceError
from protocol.file_dialect import FileOptions, FileProgress, FileSegment, FileTranscript, HttpAnswer
from protocol.language_names import language_name
from protocol.languages import AUTO
from protocol.openai_errors import error_body, openai_error, openai_refusal
from protocol.openai_form import TranscriptionForm, read_form
from protocol.subtitles import Cue, TimedText, TimedWord, cues, to_srt, to_vtt
from protocol.unspaced_scripts import join_texts

_TEXT = "text/plain; charset=utf-8"


class OpenAiFiles:
    """Satisfies `protocol.file_dialect.FileDialect`."""

    translates = False

    def __init__(self, server: ServerInfo) -> None:
        self._server = server
        self._form: TranscriptionForm | None = None
        self._text = ""
        """Concatenation of the deltas so far."""

    def open(self, query: str, fields: Sequence[tuple[str, str]]) -> FileOptions:  # noqa: ARG002 - all is in the form
        """Read the form.

        Raises:
            BadRequest: a field cannot be used.
        """
        self._form = read_form(fields, self._server, translate=self.translates)
        return self._form.options

    def refusal(self, error: ServiceError) -> HttpRefusal:
        """The object `error`; a bad request has status 400."""
        return openai_refusal(error)

    def answer(self, transcript: FileTranscript) -> HttpAnswer:
        """The transcript in the format that was asked for."""
        form = self._read()
        match form.response_format:
            case "text":
                return HttpAnswer(f"{transcript.text}\n", _TEXT)
            case "srt":
                return HttpAnswer(to_srt(_cues(transcript)), _TEXT)
            case "vtt":
                return HttpAnswer(to_vtt(_cues(transcript)), _TEXT)
            case "verbose_json":
                return HttpAnswer(_json(_verbose(transcript, form, self._task)))
            case "json":
                return HttpAnswer(_json({"text": transcript.text, **_metadata(transcript)}))

    def report(self, event: FileSegment | FileProgress) -> Sequence[str]:
        """`transcript.text.delta` for each segment."""
        if isinstance(event, FileProgress):
            return ()
        before, self._text = self._text, join_texts((self._text, event.text))
        return (_json({"type": "transcript.text.delta", "delta": self._text[len(before) :]}),)

    def finish(self, transcript: FileTranscript) -> Sequence[str]:
        """`transcript.text.done`."""
        return (_json({"type": "transcript.text.done", "text": transcript.text, **_metadata(transcript)}),)

    def failure(self, error: ServiceError) -> Sequence[str]:
        """An object `error`, which clients raise."""
        return (error_body(openai_error(error)),)

    @property
    def _task(self) -> str:
        return "translate" if self.translates else "transcribe"

    def _read(self) -> TranscriptionForm:
        if self._form is None:
            raise AssertionError("the form was not read")
        return self._form


class OpenAiTranslations(OpenAiFiles):
    """Translations into English."""

    translates = True


def usage(duration_ms: int) -> dict[str, Any]:
    """OpenAI's `usage`, in whole seconds."""
    return {"type": "duration", "seconds": math.ceil(duration_ms / 1000)}


def _metadata(transcript: FileTranscript) -> dict[str, Any]:
    known = transcript.language != AUTO
    return {
        "usage": usage(transcript.duration_ms),
        **({"languages": [{"code": transcript.language}]} if known and transcript.text else {}),
    }


def _verbose(transcript: FileTranscript, form: TranscriptionForm, task: str) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "task": task,
        "language": language_name("en" if task == "translate" else transcript.language),
        "duration": transcript.duration_ms / 1000,
        "text": transcript.text,
    }
    if "segment" in form.granularities:
        answer["segments"] = [
            _segment(number, segment, form.temperature) for number, segment in enumerate(transcript.segments)
        ]
    if "word" in form.granularities:
        answer["words"] = [
            {"word": word.word, "start": word.start_ms / 1000, "end": word.end_ms / 1000}
            for segment in transcript.segments
            for word in segment.words or []
        ]
    return {**answer, "usage": usage(transcript.duration_ms)}


def _segment(number: int, segment: FileSegment, temperature: float) -> dict[str, Any]:
    encoded = segment.text.encode()
    return {
        "id": number,
        # Not every engine has Whisper's windows and tokens: these fields are 0 and empty.
        "seek": 0,
        "start": segment.start_ms / 1000,
        "end": segment.end_ms / 1000,
        "text": segment.text,
        "tokens": [],
        "temperature": temperature,
        "avg_logprob": 0.0,
        "compression_ratio": round(len(encoded) / len(zlib.compress(encoded)), 3),
        "no_speech_prob": 0.0,
    }


def _cues(transcript: FileTranscript) -> list[Cue]:
    return cues(
        TimedText(
            segment.text,
            segment.start_ms,
            segment.end_ms,
            [TimedWord(word.word, word.start_ms, word.end_ms) for word in segment.words or []],
        )
        for segment in transcript.segments
    )


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False)
